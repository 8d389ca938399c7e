"""A line of ``records.jsonl`` as JSON values, before it is a record."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from harness.errors import RecordError
from harness.host.reading import json_from_text

SCHEMA_VERSION: Literal[1] = 1


def values_from_line(line: bytes, where: str) -> dict[str, Any]:
    """Parse a line; ``where`` names it in errors.

    Raises:
        RecordError: it is damaged, or of another schema.
    """
    try:
        values: dict[str, Any] = json_from_text(line)
        version = values.get("schema_version")
    except (ValueError, AttributeError) as error:
        raise RecordError(
            f"{where} is truncated or damaged: the run was stopped while it wrote, or the file was "
            "edited; remove that line to use the others"
        ) from error
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{where} has schema version {version}, this harness reads {SCHEMA_VERSION}: judge it "
            "with the harness that wrote it"
        )
    return values


def tagged(line: bytes, values: Mapping[str, Any]) -> bytes:
    """Return a line whose measurement has its tag: earlier suites left it to the check."""
    measured = values.get("measurement")
    if not isinstance(measured, dict) or "kind" in measured:
        return line
    tagged = {**values, "measurement": {"kind": values.get("check"), **measured}}
    return json.dumps(tagged).encode()
