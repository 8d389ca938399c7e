"""Values as TOML text."""

import datetime
import itertools
import json
import re
from collections.abc import Iterator, Mapping

WIDTH = 120


def literal(value: object) -> str:
    """Return a value as TOML has it, on one line."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(str(key))} = {literal(inner)}" for key, inner in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, datetime.date):
        return value.isoformat()
    # JSON escapes what TOML does, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else literal(name)


def table_lines(tables: Mapping[str, object], path: str = "") -> Iterator[str]:
    """Yield the lines of a table and of the tables in it, in their order.

    They are written on one line each, up to the first that does not fit; it and those after it get
    headers.
    """
    inner = ((key, value) for key, value in tables.items() if isinstance(value, Mapping))
    inline = dict(itertools.takewhile(lambda pair: _fits(*pair), inner))
    plain = {key: value for key, value in tables.items() if not isinstance(value, Mapping)}
    own = plain | inline
    if own and path:
        yield f"\n[{path}]"
    yield from (f"{_key(key)} = {literal(value)}" for key, value in own.items())
    for key, value in tables.items():
        if key not in own and isinstance(value, Mapping):
            yield from table_lines(value, f"{path}.{_key(key)}" if path else _key(key))


def _fits(key: str, table: Mapping[str, object]) -> bool:
    is_flat = not any(isinstance(value, Mapping) for value in table.values())
    return is_flat and len(f"{key} = {literal(table)}") <= WIDTH
