"""Read ais_bench's results: first its summary, then the outputs that the summary lists."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import RunError
from harness.host.reading import (
    ARRAY_BYTES,
    array_from_npy,
    bytes_from_file,
    json_from_text,
)
from harness.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class BenchSummary:
    """The summary of one run.

    Attributes:
        outputs: output files of each sample, by the stem of its first input file.
        times_ms: compute time of each execution.
        h2d_ms, d2h_ms: mean time of the copies to and from the device.
    """

    path: Path
    outputs: Mapping[str, tuple[Path, ...]]
    times_ms: tuple[float, ...]
    h2d_ms: float
    d2h_ms: float


def summary_from_file(path: Path, log: Path) -> BenchSummary:
    """Read ``<name>_summary.json``.

    Raises:
        RunError: the file is truncated or not an ais_bench summary.
    """
    try:
        raw = json_from_text(bytes_from_file(path))
        return BenchSummary(
            path,
            _outputs_by_stem(raw["filesinfo"], path),
            tuple(float(time) for time in raw["npu_compute_time_list"]),
            float(raw["H2D_latency"]["mean"]),
            float(raw["D2H_latency"]["mean"]),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise RunError(
            f"ais_bench's summary {path.name} is truncated or not a summary"
            f" ({type(error).__name__}: {error}): check whether the disk is full; log in {log}"
        ) from error


def arrays_from_summary(
    summary: BenchSummary, stems: Sequence[str], output: TensorSpec
) -> "list[npt.NDArray[Any]]":
    """Return the output of each sample, in the order of ``stems``.

    Raises:
        RunError: an output is missing, unexpected, shared by samples or the wrong size.
    """
    _check_mapping(summary, stems)
    return [_array(summary.outputs[stem][0], stem, output) for stem in stems]


def check_times(times_ms: Sequence[float], count: int) -> None:
    """Check that there are ``count`` execution times, all positive and finite.

    Raises:
        RunError: the count is wrong, or a time is unusable.
    """
    if len(times_ms) != count:
        raise RunError(f"ais_bench timed {len(times_ms)} executions, expected {count}")
    if not all(0.0 < time < float("inf") for time in times_ms):
        odd = next(time for time in times_ms if not 0.0 < time < float("inf"))
        raise RunError(f"ais_bench reports an execution time of {odd} ms")


def _outputs_by_stem(filesinfo: Mapping[str, Any], path: Path) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    for entry in filesinfo.values():
        stem = Path(entry["infiles"][0]).stem
        if stem in found:
            raise RunError(f"ais_bench's summary {path} has two entries for the input {stem}")
        found[stem] = tuple(path.parent / file for file in entry["outfiles"])
    return found


def _check_mapping(summary: BenchSummary, stems: Sequence[str]) -> None:
    missing = sorted(set(stems) - summary.outputs.keys())
    surplus = sorted(summary.outputs.keys() - set(stems))
    if missing or surplus:
        raise RunError(
            f"ais_bench's summary {summary.path} lacks the outputs of {missing[:3] or 'none'} and"
            f" has {surplus[:3] or 'none'} that were not requested"
        )
    sole: dict[Path, str] = {}
    for stem in stems:
        if len(summary.outputs[stem]) != 1:
            raise RunError(f"sample {stem} has {len(summary.outputs[stem])} outputs, expected 1")
        path = summary.outputs[stem][0]
        if path in sole:
            raise RunError(
                f"samples {sole[path]} and {stem} share the output {path.name}: one overwrote the"
                " other"
            )
        sole[path] = stem


def _array(path: Path, stem: str, output: TensorSpec) -> "npt.NDArray[Any]":
    try:
        array = array_from_npy(bytes_from_file(path, ARRAY_BYTES))
    except FileNotFoundError as error:
        raise RunError(
            f"ais_bench exited with status 0, but the output of {stem}, {path}, is missing"
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(f"the output of {stem}, {path}, is truncated or damaged: {error}") from error
    check_array(array, output, f"the output of {stem}, {path.name},")
    return array


def check_array(array: "npt.NDArray[np.generic]", output: TensorSpec, what: str) -> None:
    """Check dtype and shape of an output; NaN is for the judge, who then says where it comes from.

    Raises:
        RunError: it differs from what the model declares.
    """
    if (str(array.dtype), array.shape) != (output.dtype, output.shape):
        raise RunError(
            f"{what} is {array.dtype} {array.shape}, expected {output.dtype} {output.shape}"
        )
