"""One start on a chip: InferSession loads a model and runs it once; without it, ais_bench itself."""

import contextlib
import resource
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.runtimes.ascend.ais_bench import OmOnChip, first_command, summary_of_run
from harness.runtimes.ascend.ais_bench_files import bench_run
from harness.runtimes.ascend.ais_bench_result import check_times
from harness.runtimes.ascend.infer_stream import InferStream, StreamUnavailableError
from harness.runtimes.ascend.probe import Unit, is_quiet
from harness.timings import Start, gained_mb

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = Sequence[npt.NDArray[Any]]


def started(model: OmOnChip, arrays: "Arrays", look: Callable[[], Unit]) -> Start:
    """Start once; the times are InferSession's own, taken in the process that loads the model.

    Through ais_bench itself there is the time of the first inference, and nothing else.

    Raises:
        RunError: the model cannot be loaded, or the device failed.
        DeviceError: the chip cannot be looked at.
    """
    before = look()
    problems = () if is_quiet(before) else (f"{before.id} was in use: {before.text}",)
    try:
        stream = InferStream(model, "start")
    except StreamUnavailableError as error:
        first_ms = _first_ms(model)
        notes = (f"through ais_bench, because InferSession cannot be imported: {error}",)
        return Start(None, first_ms, _peak_mb(), problems=problems, notes=notes)
    with contextlib.closing(stream):
        stream.run(arrays)
        after = look()
    return Start(
        stream.load_ms,
        stream.infer_ms,
        _peak_mb(),
        gained_mb(before.chip.memory_used_mb, after.chip.memory_used_mb),
        problems,
        (f"before: {before.text}", f"loaded: {after.text}"),
    )


def _first_ms(model: OmOnChip) -> float:
    with bench_run(model, "start") as run:
        summary, _ = summary_of_run(run, first_command(run))
    check_times(summary.times_ms, 1)
    return summary.times_ms[0] + summary.h2d_ms + summary.d2h_ms


def _peak_mb() -> float | None:
    """Return the largest resident memory of any process that this one has waited for.

    A process of its own makes one start, so that is the one with the model. It begins as a copy of
    this one, which is smaller.
    """
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024.0 or None
