"""Clips, samples and predictions."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import ClipError, is_plain_name
from harness.spec import Averaging


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip of a data set: ``id`` is unique, ``path`` a video file or a folder of frames."""

    id: str
    path: Path
    label: int

    def __post_init__(self) -> None:
        _require_plain("clip", [self.id])


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """A list of clips with its class names and the digest of its manifest."""

    name: str
    clips: tuple[Clip, ...]
    class_names: tuple[str, ...]
    digest: str
    is_whole: bool = True

    def __post_init__(self) -> None:
        _require_plain("data set", [self.name])
        _require_plain("class", self.class_names)


@dataclasses.dataclass(frozen=True)
class Row:
    """A place in a batch that is being filled: ``batch[index]``."""

    batch: npt.NDArray[np.float32]
    index: int


@dataclasses.dataclass(frozen=True)
class Sample:
    """One clip as the model's input.

    Attributes:
        clip_id: the clip's id.
        tensor: has the shape of one sample, without the batch dimension.
        row: the tensor's place, if it was written into a batch.
    """

    clip_id: str
    tensor: npt.NDArray[np.float32]
    row: Row | None = None


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A model's scores for each clip.

    Attributes:
        clip_ids: in the order of the rows.
        scores: float32 [clip, view, class]; logits, or log-probabilities if the graph ends in a
            softmax.
        averaging: how the views of a clip become one answer.
        unreadable: the clips that could not be decoded, with reasons.
    """

    clip_ids: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    unreadable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    averaging: Averaging = "prob"


def _require_plain(kind: str, names: Iterable[str]) -> None:
    """Keep names out that would be two lines of a list, or write over another line of a page."""
    for name in names:
        if not is_plain_name(name):
            raise ClipError(f"the {kind} {name!r} has a control character in its name; rename it")
