"""Standard output, flushed line by line, as the tools write it."""

import sys


def say(text, end="\n"):
    sys.stdout.write(text + end)
    sys.stdout.flush()
