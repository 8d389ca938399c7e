"""JSON-like values in one canonical form, and its digest."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def digest_from_json(value: object) -> str:
    """Return the sha256 of a JSON-like value in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def plain_fields(value: Any) -> dict[str, Any]:
    """Return a dataclass as JSON-like values, without later fields at their default and asides."""
    return {
        field.name: _plain_value(getattr(value, field.name))
        for field in dataclasses.fields(value)
        if "aside" not in field.metadata
        and ("later" not in field.metadata or getattr(value, field.name) != field.default)
    }


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain_fields(value)
    return [_plain_value(one) for one in value] if isinstance(value, tuple) else value


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_fields(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no canonical form: {value!r}")
