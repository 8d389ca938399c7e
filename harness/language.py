"""The language that a person reads: English stands in the code, each other language in one gettext catalogue.

``harness/locale/LANGUAGE.po`` holds the texts of a language that has one plural form, as Chinese does.
Records, names, numbers and digests are never translated.
"""

import ast
import contextlib
import contextvars
import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh")
LOCALE = Path(__file__).parent / "locale"

_spoken = contextvars.ContextVar("_spoken", default=ENGLISH)


def language() -> str:
    """Return the language that is spoken now."""
    return _spoken.get()


@contextlib.contextmanager
def speaking(name: str) -> Iterator[None]:
    """Speak one of ``LANGUAGES`` inside the block."""
    token = _spoken.set(name)
    try:
        yield
    finally:
        _spoken.reset(token)


def _(text: str) -> str:
    """Return a text in the language that is spoken; English where the catalogue lacks it."""
    return catalogue(language()).get(text) or text


def n_(one: str, many: str, count: int) -> str:
    """Return the text that fits a count, with ``{n}`` still in it."""
    return catalogue(language()).get(one) or (one if count == 1 else many)


def later(text: str) -> str:
    """Mark a text that is looked up where it is said."""
    return text


def later_n(one: str, many: str) -> tuple[str, str]:
    """Mark both forms of a text with a count, which are looked up where they are said."""
    return one, many


def padded(text: str, width: int) -> str:
    """Fill a text with spaces to a width in columns of a terminal, where a Chinese character takes two."""
    return text + " " * (width - columns(text))


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return len(text) + sum(unicodedata.east_asian_width(one) in "WF" for one in text)


@functools.cache
def catalogue(name: str, context: str = "") -> Mapping[str, str]:
    """Return the texts of a language and context by the English ones; of English there are none."""
    if name == ENGLISH:
        return {}
    entries = map(_entry, (LOCALE / f"{name}.po").read_text("utf-8").split("\n\n"))
    found = (one for one in entries if one.get("msgctxt", "") == context)
    return {one["msgid"]: one["msgstr"] for one in found if one.get("msgid")}


def _entry(text: str) -> dict[str, str]:
    """Return the strings of an entry by their keyword; ``msgstr[0]`` is its only form."""
    found: dict[str, str] = {}
    keyword = ""
    for line in text.splitlines():
        match = re.match(r'(?:(msg\w+)(?:\[0\])? )?(".*")$', line)
        if match is not None:
            keyword = match[1] or keyword
            found[keyword] = found.get(keyword, "") + ast.literal_eval(match[2])
    return found
