"""The errors of the suite, all in one tree.

HarnessError
├── InputError               the user's input cannot be used
│   ├── ThresholdsError      thresholds.toml
│   ├── SiteError            site.toml, an option or an environment variable
│   ├── CheckpointError      a checkpoint is missing, damaged, foreign or does not match its model
│   ├── ClipError            a clip or a clip list cannot be used
│   ├── RecordError          a stored run cannot be read
│   ├── KeyFileError         a key cannot be used: damaged, foreign, expired, or open to others
│   ├── SignatureError       a signature cannot be verified
│   ├── HistoryError         the history cannot be read, or refuses a run
│   └── BaselineError        a baseline cannot be made, read or used
├── MissingInput             this machine lacks weights or data: *not run*, never a pass
├── DeviceError              a device cannot be used
│   ├── DeviceAbsent         it is absent: *not run*
│   └── DeviceBroken         it is present but does not work: *error*
├── ArtifactError            the artifact store cannot be read or written
├── InvalidMeasurement       a measurement was made but does not count: *invalid*
└── StageError               a stage broke; ``stage`` names it: *error*
    ├── ExportError
    ├── SimplifyError
    ├── BuildError
    ├── DecodeError
    └── RunError

Foreign errors are mapped at the edge, with the cause kept. Every message says what was asked, what
happened and what to do.
"""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Control characters but for tab and line end; separators of lines, marks that turn the direction of
# text, and bytes that no encoding writes.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class HarnessError(Exception):
    """Root of every error that the suite raises on purpose."""


class InputError(HarnessError):
    """The user's input cannot be used."""


class ThresholdsError(InputError):
    """``thresholds.toml`` is malformed or inconsistent."""


class SiteError(InputError):
    """``site.toml``, an option or an environment variable cannot be used."""


class CheckpointError(InputError):
    """A checkpoint is damaged, foreign or does not match its model."""


class ClipError(InputError):
    """A clip or a clip list cannot be used."""


class RecordError(InputError):
    """A stored run cannot be read or does not match the request."""


class KeyFileError(InputError):
    """A key cannot be used: it is missing, damaged, foreign, expired, or open to others."""


class SignatureError(InputError):
    """A signed statement is missing, damaged, or has no trusted signer."""


class HistoryError(InputError):
    """The history cannot be read, or refuses a run."""


class BaselineError(InputError):
    """A baseline cannot be made, read or used."""


class MissingInput(HarnessError):
    """This machine lacks weights or data; the check is *not run*."""


class DeviceError(HarnessError):
    """A device cannot be used."""


class DeviceAbsent(DeviceError):
    """The device is not on this machine; its cells are *not run*."""


class DeviceBroken(DeviceError):
    """The device is present but does not work; its cells are *error*."""


class ArtifactError(HarnessError):
    """The artifact store cannot be read or written."""


class InvalidMeasurement(HarnessError):
    """A measurement was made but does not count."""


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
    """The device's compiler rejected the model or wrote nothing usable."""

    stage = "build"


class DecodeError(StageError):
    """A decoder hangs, or its process died."""

    stage = "decode"


class RunError(StageError):
    """The device model could not be opened or run."""

    stage = "run"


def first_line(error: BaseException) -> str:
    """Return the first non-empty line of a foreign error, or else its type."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def is_plain_name(name: str) -> bool:
    """Whether a name has no control character, which could split a list or move a cursor."""
    return not _CONTROL.search(name)


def printable(text: str) -> str:
    """Return foreign text as one line safe for a terminal: control characters are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def printable_lines(text: str) -> str:
    """Return foreign text of several lines, with tabs, as what is safe for a terminal."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def refusal(title: str, problems: list[str], shown: int = 20) -> str:
    """List problems under a title; if there are many, only the first ones."""
    more = len(problems) - shown
    lines = [*problems[:shown], *([f"and {more} more"] if more > 0 else [])]
    return "\n  ".join([f"{title}:", *lines])
