"""Values as TOML text: numbers, strings, lists and tables."""

import datetime
import json
from collections.abc import Mapping


def literal(value: object) -> str:
    """Return a value of the contract as TOML has it, on one line."""
    if isinstance(value, Mapping):
        return inline_table(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, datetime.date):
        return value.isoformat()
    # JSON escapes what TOML does, and one character fewer.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def inline_table(values: Mapping[str, object]) -> str:
    """Return a table on one line; its keys are plain words."""
    return f"{{ {', '.join(f'{key} = {literal(value)}' for key, value in values.items())} }}"
