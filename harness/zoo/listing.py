"""Every configuration of mmaction2's recognizers, and whether this suite supports it."""

import dataclasses
from collections.abc import Iterator

from harness.errors import InputError
from harness.spec import InputProtocol, ModelSpec
from harness.zoo.config import mmaction2_folder
from harness.zoo.metafile import zoo_entries
from harness.zoo.model import model_spec_from_config

FOLDERS = ("recognition", "recognition_audio")


@dataclasses.dataclass(frozen=True)
class Listed:
    """A configuration: its model, or why this suite does not support it."""

    config: str
    spec: ModelSpec | None = None
    reason: str = ""

    @property
    def family(self) -> str:
        """The folder of the configuration."""
        return self.config.split("/")[1]


def zoo_list(is_nested: bool = True) -> Iterator[Listed]:
    """Yield the configurations by path; unless ``is_nested``, those directly in a family's folder."""
    root = mmaction2_folder() / "configs"
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*/**/*.py" if is_nested else "*/*.py")):
            config = path.relative_to(root).as_posix()
            try:
                yield Listed(config, model_spec_from_config(config, "none"))
            except InputError as error:
                yield Listed(config, reason=str(error).removeprefix(f"{path} "))


def listed_line(one: Listed) -> str:
    """Return a configuration as a line: name, protocol, published accuracy, or the reason."""
    name = f"{one.family:<12}{one.config.split('/', 2)[2]:<70}"
    if one.spec is None:
        return f"{name} not supported: {one.reason}"
    shares = [entry.top1 for entry in zoo_entries(one.config) if entry.top1 is not None]
    accuracy = ", ".join(f"{share:.2%}" for share in shares) or "-"
    return f"{name} {protocol_words(one.spec.protocol):<34} {accuracy}"


def protocol_words(protocol: InputProtocol) -> str:
    """Return the views of a protocol, as ``8 frames, 2 x 3 views of 256, twice``."""
    views = f"{protocol.clips_per_crop} x {protocol.crop_count} views of {protocol.crop_size}"
    return f"{protocol.frame_count} frames, {views}, {protocol.placement}"
