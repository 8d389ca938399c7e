"""The frames that a model saw of clips on which a device and PyTorch disagree, for the report.

The accuracy check takes them, on the machine that has the clips; the report is made anywhere.
"""

import base64

import numpy as np
import numpy.typing as npt

from harness.clips import Clip, ClipSet, Predictions
from harness.data.loading import crops_from_clip
from harness.data.transforms import Crops
from harness.errors import ClipError
from harness.measure.accuracy import ClassFlip, PairedComparison
from harness.measure.scores import crop_mean
from harness.measure.strips import Strip, Strips
from harness.spec import InputProtocol

STRIPS_MAX = 24
FRAMES_MAX = 16
FRAME_HEIGHT = 72
_QUALITY = 60


def raw_strips(
    paired: PairedComparison | None,
    clip_set: ClipSet,
    protocol: InputProtocol,
    both: tuple[Predictions, Predictions],
) -> dict[str, tuple[bytes, str]]:
    """Return the raw file ``strips`` of an accuracy check; empty if no clip flipped.

    ``paired`` compares both predictions, the device's and PyTorch's.
    """
    if paired is None or not paired.flips:
        return {}
    strips = with_frames(strips_from_flips(paired.flips, clip_set, both), clip_set, protocol)
    return {"strips": (strips.model_dump_json().encode(), ".json")}


def strips_from_flips(
    flips: tuple[ClassFlip, ...], clip_set: ClipSet, both: tuple[Predictions, Predictions]
) -> Strips:
    """Return what is known of at most ``STRIPS_MAX`` flipped clips without their frames."""
    shown = flips[:STRIPS_MAX]
    names = dict(enumerate(clip_set.class_names))
    ids = {one for flip in shown for one in (flip.label, flip.reference_class, flip.device_class)}
    return Strips(
        flip_count=len(flips),
        class_names={str(one): names[one] for one in sorted(ids & names.keys())},
        strips=tuple(_strip(flip, both) for flip in shown),
    )


def _strip(flip: ClassFlip, both: tuple[Predictions, Predictions]) -> Strip:
    ours, theirs = (_margin(preds, flip.clip_id) for preds in both)
    return Strip(**flip.model_dump(), reference_margin=theirs, device_margin=ours)


def with_frames(strips: Strips, clip_set: ClipSet, protocol: InputProtocol) -> Strips:
    """Return strips with the frames of those clips that can be read here."""
    clips = {clip.id: clip for clip in clip_set.clips}
    found = (_with_frames(one, clips[one.clip_id], protocol) for one in strips.strips)
    return strips.model_copy(update={"strips": tuple(found)})


def _with_frames(strip: Strip, clip: Clip, protocol: InputProtocol) -> Strip:
    try:
        crops = crops_from_clip(clip, protocol)
    except ClipError as error:
        return strip.model_copy(update={"missing": str(error)})
    jpeg = base64.b64encode(_jpeg(_middle_clip(crops, protocol))).decode()
    return strip.model_copy(update={"jpeg": jpeg, "missing": ""})


def _middle_clip(crops: Crops, protocol: InputProtocol) -> Crops:
    """Return at most ``FRAMES_MAX`` frames of the middle clip of the middle crop."""
    middle = crops[len(crops) // 2].reshape(-1, protocol.frame_count, *crops.shape[2:])
    clip: Crops = middle[len(middle) // 2]
    return clip[:: -(-len(clip) // FRAMES_MAX)]


def _margin(preds: Predictions, clip_id: str) -> float | None:
    if clip_id not in preds.clip_ids or preds.scores.shape[2] < 2:
        return None
    row = preds.clip_ids.index(clip_id)
    second, best = np.sort(crop_mean(preds.scores[row : row + 1], preds.averaging)[0])[-2:]
    margin = float(best - second)
    return margin if np.isfinite(margin) else None


def _jpeg(frames: npt.NDArray[np.uint8]) -> bytes:
    """Return the frames [frame, height, width, RGB] side by side as a JPEG file."""
    import cv2

    row = cv2.cvtColor(np.concatenate(list(frames), axis=1), cv2.COLOR_RGB2BGR)
    width = round(row.shape[1] * FRAME_HEIGHT / row.shape[0])
    small = cv2.resize(row, (width, FRAME_HEIGHT), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
