"""The emulator's `python -m ais_bench`."""

import sys
from pathlib import Path

from emulated.arguments import arguments
from emulated.device import import_failures


def main():
    import_failures()
    args = arguments(sys.argv[1:])
    # --help and refused command lines do not load numpy.
    from emulated.flow import run_all

    return run_all(args)


if __name__ == "__main__":
    sys.argv[0] = str(Path(__file__).resolve())
    sys.exit(main())
