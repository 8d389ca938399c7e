"""What a record says in English, in the language that is spoken.

Records are signed as they are, so their sentences stay English, and are translated where they are
shown. Such a sentence is made of clauses: "; " joins them, and brackets, labels and lists hold others.
The catalogue has each clause under the context ``recorded``, with a place for each thing that differs:
``{n}``, one letter, is a number, ``{word}`` has no space in it, and any other may hold more clauses.
What fits no clause, such as a name, a path or what a tool printed, stays as it is.
"""

import dataclasses
import functools
import re
import string
from collections.abc import Callable, Mapping, Sequence

from harness.language import ENGLISH, catalogue, language

RECORDED = "recorded"
# Far beyond what the suite writes; what a tool printed can be of any length.
_LENGTH_MAX = 4000
# So many parts of a list may be one clause that has commas of its own.
_RUN_MAX = 4
_MORE = "{names} and {n} more"
_NUMBER = r"[-+]?(?:\d[\d,.]*(?:e[-+]?\d+)?|nan|inf|undefined)"
_CHINESE, _PLAIN = "[\u4e00-\u9fff]", "[A-Za-z0-9]"
_FULL_WIDTH = "[\u3000-\u303f\uff00-\uffef]"
# Between Chinese characters stands no space, and beside a letter or a digit of another script one.
_SPACES = (
    (re.compile(f"{_CHINESE}\n{_CHINESE}|{_FULL_WIDTH}\n.|.\n{_FULL_WIDTH}"), ""),
    (re.compile(f"{_CHINESE}\n{_PLAIN}|{_PLAIN}\n{_CHINESE}"), " "),
)


@dataclasses.dataclass(frozen=True)
class _Clause:
    """A clause of the catalogue: what it fits, and how it is said."""

    english: re.Pattern[str]
    fixed: tuple[str, ...]
    said: str

    def values(self, text: str) -> dict[str, str] | None:
        """Return what stands in its places in a text; None where it does not fit."""
        found = all(map(text.__contains__, self.fixed)) and self.english.fullmatch(text)
        if not found or (any(map(_is_torn, found.groups())) and not _is_torn(text)):
            return None
        return found.groupdict()


def translated(text: str) -> str:
    """Return a recorded text in the language that is spoken; the same in English."""
    name = language()
    return text if name == ENGLISH or len(text) > _LENGTH_MAX else _text(text, name)


def split_outside_brackets(text: str, mark: str) -> list[str]:
    """Split a text at each mark that is in no bracket; at each one if the brackets do not match."""
    if _is_torn(text):
        return text.split(mark)
    parts: list[str] = []
    for part in text.split(mark):
        if parts and _is_torn(parts[-1]):
            parts[-1] += mark + part
        else:
            parts.append(part)
    return parts


def _is_torn(text: str) -> bool:
    """Whether a text ends or begins inside a bracket."""
    return text.count("(") != text.count(")")


@functools.lru_cache(maxsize=10_000)
def _text(text: str, name: str) -> str:
    """Try the ways in which the suite puts sentences together; keep the spaces around."""
    bare = text.strip()
    if not re.search("[A-Za-z]{2}", bare):
        return text
    found = next((said for way in _WAYS if (said := way(bare, name)) != bare), bare)
    return text.replace(bare, found)


def _whole(text: str, name: str) -> str:
    """Look up a text without places."""
    return catalogue(name, RECORDED).get(text, text)


def _and_more(text: str, name: str) -> str:
    """Translate ``names and 3 more``."""
    found = re.fullmatch(r"(.+) and (\d+) more", text, re.DOTALL)
    if found is None:
        return text
    names, more = found.groups()
    return _filled(catalogue(name, RECORDED)[_MORE], {"names": _text(names, name), "n": more})


def _clause(text: str, name: str) -> str:
    fitting = ((one, one.values(text)) for one in _clauses(name))
    for clause, values in fitting:
        if values is not None:
            return _filled(clause.said, {key: _text(one, name) for key, one in values.items()})
    return text


def _bracketed(text: str, name: str) -> str:
    """Translate ``head (inside)``."""
    found = re.fullmatch(r"(.*?) ?\((.*)\)", text, re.DOTALL)
    if found is None:
        return text
    head, inside = (_text(one, name) for one in found.groups())
    return text if (head, inside) == found.groups() else f"{head}（{inside}）"


def _joined(text: str, name: str, mark: str, by: str) -> str:
    """Translate parts that a mark joins; where none of them is known, the mark stays, too."""
    parts, said = split_outside_brackets(text, mark), list[str]()
    if len(parts) == 1:
        return text
    while parts:
        count, one = _run(parts, mark, name)
        said.append(one)
        parts = parts[count:]
    return text if mark.join(said) == text else by.join(said)


def _run(parts: Sequence[str], mark: str, name: str) -> tuple[int, str]:
    """Return how many of the first parts are one clause, and what they say."""
    for count in range(min(len(parts), _RUN_MAX), 1, -1):
        text = mark.join(parts[:count])
        if (said := _whole(text, name)) != text:
            return count, said
    return 1, _text(parts[0], name)


def _filled(said: str, values: Mapping[str, str]) -> str:
    """Put values into their places, with the spaces that Chinese has."""
    pieces: list[str] = []
    for fixed, place, _spec, _how in string.Formatter().parse(said):
        pieces += [fixed, values[place] if place else ""]
    return functools.reduce(_beside, filter(None, pieces))


def _beside(left: str, right: str) -> str:
    edge = f"{left.rstrip()[-1:]}\n{right.lstrip()[:1]}"
    space = next((space for kind, space in _SPACES if kind.fullmatch(edge)), None)
    return left + right if space is None else left.rstrip() + space + right.lstrip()


_WAYS: tuple[Callable[[str, str], str], ...] = (
    _whole,
    _and_more,
    functools.partial(_joined, mark="; ", by="；"),
    _clause,
    _bracketed,
    functools.partial(_joined, mark=": ", by="："),
    functools.partial(_joined, mark=", ", by="，"),
)


@functools.cache
def _clauses(name: str) -> tuple[_Clause, ...]:
    """Return the clauses; of two that fit, one that begins with its own words, or has more, is meant."""
    found = [_clause_from_entry(*entry) for entry in catalogue(name, RECORDED).items()]
    return tuple(sorted(found, key=lambda one: (not one.fixed[0], -sum(map(len, one.fixed)))))


def _clause_from_entry(english: str, said: str) -> _Clause:
    parts = [(fixed, place) for fixed, place, _spec, _how in string.Formatter().parse(english)]
    pattern = "".join(re.escape(fixed) + (_place(name) if name else "") for fixed, name in parts)
    return _Clause(re.compile(pattern, re.DOTALL), tuple(fixed for fixed, _name in parts), said)


def _place(name: str) -> str:
    kind = _NUMBER if len(name) == 1 else r"\S+" if name.startswith("word") else ".*?"
    return f"(?P<{name}>{kind})"
