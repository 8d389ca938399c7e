"""Results of a benchmark that can run in parts: a file with a line of JSON for each."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def kept_results(path: Path | None) -> list[dict[str, Any]]:
    """Read the results of earlier parts, oldest first; before the first part there are none."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def keep_result(result: Mapping[str, Any], path: Path | None) -> None:
    """Add a result to the file, if the results are to be kept."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
