"""The guides' files, for people with scripts of their own: ``<n>.bin`` a batch and ``k400.info``.

Each file is float32 in the layout of the model's input, one whole batch; the files of several inputs
are in a folder for each, by its name. ``k400.info`` has one line
``number label`` for each clip, in the order of the files, as the guides' postprocessing reads them.
A last batch that is not full is padded with zeros, as ``tsm_k400_preprocess.py`` does, and the
result says so; ``k400.clips`` beside it names the clip behind each number.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from harness.clips import Clip, Sample
from harness.data.inputs import inputs_from_tensor
from harness.data.loading import Unreadable
from harness.errors import ClipError
from harness.spec import Feed, ModelSpec

INFO = "k400.info"
CLIPS = "k400.clips"


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written: files, clips, padding samples in the last file, and unreadable clips."""

    files: int
    clips: int
    padding: int
    unreadable: tuple[str, ...]


def write_bins(
    out: Path,
    spec: ModelSpec,
    batch: int,
    clips: Sequence[Clip],
    items: Iterable[Sample | Unreadable],
) -> Written:
    """Write the samples of a clip set, ``batch`` to a file; ``clips`` have their labels.

    ais_bench reads the ``.bin`` files of a folder and ignores the two lists.

    Raises:
        ClipError: the folder holds files, which would be inferred too, or cannot be written.
    """
    labels = {clip.id: clip.label for clip in clips}
    waiting: list[Feed] = []
    ids: list[str] = []
    unreadable: list[str] = []
    files = 0
    try:
        _require_empty(out)
        for item in items:
            if isinstance(item, Unreadable):
                unreadable.append(f"{item.clip_id}: {item.reason}")
                continue
            ids.append(item.clip_id)
            waiting.append(inputs_from_tensor(spec, item.tensor))
            if len(waiting) == batch:
                _write_batch(out, files, waiting)
                files += 1
                waiting.clear()
        padding = (batch - len(waiting)) % batch
        if waiting:
            filling = {name: np.zeros_like(part) for name, part in waiting[0].items()}
            _write_batch(out, files, [*waiting, *[filling] * padding])
            files += 1
        _write_lists(out, ids, labels)
    except OSError as error:
        raise ClipError(f"cannot write the guides' files into {out}: {error.strerror}") from error
    return Written(files, len(ids), padding, tuple(unreadable))


def _write_batch(out: Path, number: int, samples: Sequence[Feed]) -> None:
    for name in samples[0]:
        folder = out / name if len(samples[0]) > 1 else out
        folder.mkdir(exist_ok=True)
        np.concatenate([sample[name] for sample in samples]).tofile(folder / f"{number}.bin")


def _require_empty(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ClipError(
            f"{out} is not empty, and every file in it would be inferred; choose a new folder"
        )


def _write_lists(out: Path, ids: Sequence[str], labels: dict[str, int]) -> None:
    numbered = list(enumerate(ids))
    info = "".join(f"{number} {labels[clip_id]}\n" for number, clip_id in numbered)
    (out / INFO).write_text(info, encoding="utf-8")
    names = "".join(f"{number} {clip_id}\n" for number, clip_id in numbered)
    (out / CLIPS).write_text(names, encoding="utf-8", errors="surrogateescape")
