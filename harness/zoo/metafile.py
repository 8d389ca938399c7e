"""What mmaction2's model zoo says about its checkpoints: files and accuracies, by configuration."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.zoo.config import mmaction2_folder

TOP1, TOP5 = "Top 1 Accuracy", "Top 5 Accuracy"


@dataclasses.dataclass(frozen=True)
class ZooEntry:
    """A published checkpoint and its accuracies as shares; None where the zoo gives none."""

    checkpoint: str
    top1: float | None
    top5: float | None

    def __str__(self) -> str:
        """Return the entry as a line for a person."""
        shares = " / ".join("-" if one is None else f"{one:.2%}" for one in (self.top1, self.top5))
        return f"{self.checkpoint} (top-1 / top-5: {shares})"


@functools.cache
def zoo_entries(config: str) -> tuple[ZooEntry, ...]:
    """Return the checkpoints of a configuration below ``mmaction/.mim/configs``."""
    folder = mmaction2_folder() / "configs"
    metafile = (folder / config).parent / "metafile.yml"
    if not (folder / config).is_relative_to(folder) or not metafile.is_file():
        return ()
    return tuple(
        _entry(model)
        for model in _models(metafile)
        if model.get("Config") == f"configs/{config}" and model.get("Weights")
    )


def entry_of_checkpoint(config: str, checkpoint: str | None) -> ZooEntry:
    """Return the zoo's entry of a checkpoint; if none is named, the configuration's only entry.

    Raises:
        InputError: the zoo has none, or several.
    """
    entries = zoo_entries(config)
    if not entries:
        raise InputError(
            f"mmaction2's model zoo has no checkpoint of {config}; give one of your own, with --top1 "
            "and --source"
        )
    found = [one for one in entries if checkpoint in (None, one.checkpoint)]
    if len(found) == 1:
        return found[0]
    asked = f"lists {len(found)} checkpoints" if checkpoint is None else f"lacks {checkpoint}"
    listed = "".join(f"\n  {entry}" for entry in entries)
    raise InputError(
        f"mmaction2's model zoo {asked} for {config}; name a checkpoint that it has, or give --top1 "
        f"and --source with one of your own. It has:{listed}"
    )


@functools.cache
def _models(metafile: Path) -> tuple[Mapping[str, Any], ...]:
    import yaml

    return tuple(yaml.safe_load(metafile.read_text(encoding="utf-8"))["Models"])


def _entry(model: Mapping[str, Any]) -> ZooEntry:
    results = [one["Metrics"] for one in model.get("Results", []) if one.get("Metrics")]
    metrics: Mapping[str, object] = results[0] if results else {}
    name = Path(model["Weights"]).name
    return ZooEntry(name, _share(metrics.get(TOP1)), _share(metrics.get(TOP5)))


def _share(percent: object) -> float | None:
    try:
        return round(float(str(percent)) / 100.0, 6)
    except ValueError:
        return None
