"""The errors of the suite, all in one tree.

HarnessError
├── InputError               what the user gave cannot be used
│   ├── ThresholdsError      thresholds.toml
│   ├── SiteError            site.toml, an option or an environment variable
│   ├── CheckpointError      a checkpoint is missing, damaged, foreign or does not fit its model
│   ├── ClipError            a clip or a clip list cannot be used
│   ├── RecordError          a stored run cannot be read
│   ├── KeyFileError         a key cannot be used: damaged, foreign, expired, or open to others
│   ├── SignatureError       what is signed cannot be verified
│   ├── HistoryError         the history cannot be read, or does not take a run
│   └── BaselineError        a baseline cannot be made, read or compared with
├── MissingInput             weights or data that this machine does not have: *not run*, never a pass
├── DeviceError              a device cannot be used
│   ├── DeviceAbsent         it is not there: *not run*
│   └── DeviceBroken         it is there and does not work: *error*
├── ArtifactError            the artifact store cannot be read or written
├── InvalidMeasurement       a measurement was made and does not count: *invalid*
└── StageError               a stage broke; ``stage`` names it: *error*
    ├── ExportError
    ├── SimplifyError
    ├── BuildError
    ├── DecodeError
    └── RunError

Foreign errors are mapped at the edge, with the cause kept. Every message says what was asked, what
happened and what to do.
"""


class HarnessError(Exception):
    """Root of every error that the suite raises on purpose."""


class InputError(HarnessError):
    """What the user gave cannot be used."""


class ThresholdsError(InputError):
    """``thresholds.toml`` is malformed or inconsistent."""


class SiteError(InputError):
    """``site.toml``, an option or an environment variable cannot be used."""


class CheckpointError(InputError):
    """A checkpoint is damaged, foreign or does not fit its model."""


class ClipError(InputError):
    """A clip or a clip list cannot be used."""


class RecordError(InputError):
    """A stored run cannot be read or does not fit what was asked."""


class KeyFileError(InputError):
    """A key cannot be used: it is missing, damaged, foreign, expired, or open to others."""


class SignatureError(InputError):
    """A signed statement is missing, damaged, or signed by nobody who is trusted."""


class HistoryError(InputError):
    """The history cannot be read, or does not take a run."""


class BaselineError(InputError):
    """A baseline cannot be made, read or compared with."""


class MissingInput(HarnessError):
    """Weights or data that this machine does not have; the check is *not run*."""


class DeviceError(HarnessError):
    """A device cannot be used."""


class DeviceAbsent(DeviceError):
    """The device is not on this machine; its cells are *not run*."""


class DeviceBroken(DeviceError):
    """The device is there and does not work; its cells are *error*."""


class ArtifactError(HarnessError):
    """The artifact store cannot be read or written."""


class InvalidMeasurement(HarnessError):
    """A measurement was made and does not count."""


class StageError(HarnessError):
    """A stage broke; ``stage`` names it."""

    stage = "stage"


class ExportError(StageError):
    """PyTorch to ONNX failed."""

    stage = "export"


class SimplifyError(StageError):
    """The simplifier failed or changed what the model computes."""

    stage = "simplify"


class BuildError(StageError):
    """The device's compiler refused the model or wrote nothing usable."""

    stage = "build"


class DecodeError(StageError):
    """A process that decodes clips died."""

    stage = "decode"


class RunError(StageError):
    """The device model could not be opened or run."""

    stage = "run"


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error that says something, or else its type."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def printable(text: str) -> str:
    """Return text from outside as one line that moves no cursor: control characters are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def refusal(title: str, problems: list[str], shown: int = 20) -> str:
    """List problems under a title, the first of them if there are many."""
    more = len(problems) - shown
    lines = [*problems[:shown], *([f"and {more} more"] if more > 0 else [])]
    return "\n  ".join([f"{title}:", *lines])
