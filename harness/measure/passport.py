"""What a built device model says of itself."""

from harness.language import _
from harness.measure.measurement import Measurement


class Passport(Measurement):
    """The passport of a device model; None for what its tools do not tell.

    Attributes:
        soc_version: the chip that it was built for.
        command: the command line that built it.
        framework: of the file that it was made from.
        compiler: version of the compiler itself.
        memory_bytes: of the device that it computes in; ``weight_bytes`` come on top.
        stream_count: queues of the device that it uses.
        ai_cpu_operators: that fell off the cores and run on the device's slow processors.
        is_foreign: whether somebody else built it, and site.toml pins its digest.
    """

    soc_version: str
    command: str
    framework: str | None = None
    compiler: str | None = None
    memory_bytes: int | None = None
    weight_bytes: int | None = None
    stream_count: int | None = None
    ai_cpu_operators: tuple[str, ...] | None = None
    is_foreign: bool = False

    @property
    def loaded_mb(self) -> float | None:
        """Memory in MB that it takes once it is loaded."""
        if self.memory_bytes is None or self.weight_bytes is None:
            return None
        return (self.memory_bytes + self.weight_bytes) / 1e6

    @property
    def lines(self) -> dict[str, str]:
        """What it says, for a person, by name, in the language that is spoken."""
        cpu = self.ai_cpu_operators
        values = {
            _("chip"): self.soc_version,
            _("command"): self.command,
            _("framework"): self.framework,
            _("compiler"): self.compiler,
            _("memory"): _megabytes(self.memory_bytes),
            _("weights"): _megabytes(self.weight_bytes),
            _("streams"): self.stream_count,
            _("AI-CPU operators"): None if cpu is None else ", ".join(cpu) or _("none"),
            _("built"): _("elsewhere, by the digest in site.toml") if self.is_foreign else None,
        }
        return {name: str(value) for name, value in values.items() if value is not None}


def _megabytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:.1f} MB"
