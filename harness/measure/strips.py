"""What the page shows of the clips on which a device and PyTorch disagree, as values."""

from collections.abc import Mapping

from harness.measure.accuracy import ClassFlip
from harness.measure.measurement import Measurement


class Strip(ClassFlip):
    """One flipped clip.

    Attributes:
        reference_margin, device_margin: score of the best class less the second's; None without an
            answer.
        jpeg: the frames that the model saw side by side, base64; empty if they cannot be shown.
        missing: why they cannot; empty if they are there.
    """

    reference_margin: float | None
    device_margin: float | None
    jpeg: str = ""
    missing: str = ""


class Strips(Measurement):
    """The first flipped clips of a comparison, and the names of their classes by number."""

    flip_count: int
    class_names: Mapping[str, str]
    strips: tuple[Strip, ...]
