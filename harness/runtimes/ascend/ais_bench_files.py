"""Pass samples to ais_bench as files, in bounded chunks, and read the outputs back."""

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import RunError
from harness.runtimes.ascend.ais_bench import BenchRun, OmOnChip, accuracy_command, summary_of_run
from harness.runtimes.ascend.ais_bench_errors import warnings_from_output
from harness.runtimes.ascend.ais_bench_result import arrays_from_summary
from harness.spec import OnnxModel, TensorSpec

# How many files make a batch, and the first dimension of the input.
FILE_COUNT = re.compile(r"filesperbatch:(\d+)")
MODEL_BATCH = re.compile(r"try get model batchsize:(-?\d+)")

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Arrays = Sequence[Array]


@contextlib.contextmanager
def bench_run(model: OmOnChip, label: str) -> Iterator[BenchRun]:
    """Yield one run of ais_bench and delete its folder afterwards; the log stays.

    Raises:
        RunError: the disk is full or the folder cannot be used.
    """
    folder = model.om.parent
    log = model.tools.logs / f"ais_bench-{label}-{folder.name}.log"
    try:
        with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as private:
            yield BenchRun(model, Path(private), log)
    except OSError as error:
        raise RunError(
            f"cannot write below {folder}: {error}; free space there, or set another cache_dir in"
            " site.toml"
        ) from error


def check_batch(array: "Array", tensor: TensorSpec) -> None:
    """Check one batch before it is written: ais_bench checks only the size of the first file.

    Raises:
        RunError: dtype or shape differs from the model's.
    """
    if (str(array.dtype), array.shape) != (tensor.dtype, tensor.shape):
        raise RunError(
            f"the batch is {array.dtype} {array.shape}, but the model's input {tensor.name} is"
            f" {tensor.dtype} {tensor.shape}"
        )


def check_batch_sizes(output: str, onnx: OnnxModel) -> None:
    """Check the batch size that ais_bench assumed: of several it runs the largest by default.

    Raises:
        RunError: it is not the cell's.
    """
    sizes = {int(size) for size in MODEL_BATCH.findall(output)} - {onnx.inputs[0].shape[0]}
    counts = {int(count) for count in FILE_COUNT.findall(output)} - {onnx.batch}
    if sizes or counts:
        raise RunError(
            f"ais_bench ran {onnx.spec.name} in batches of {max(sizes | counts)}, not of {onnx.batch}:"
            " the offline model has another batch size, or other gears"
        )


def chunks_of(batches: "Iterable[Arrays]", limit_bytes: int) -> "Iterator[list[Arrays]]":
    """Group batches into lists of at most ``limit_bytes``, with at least one batch in each."""
    chunk: list[Arrays] = []
    for batch in batches:
        if chunk and sum(map(_nbytes, chunk)) + _nbytes(batch) > limit_bytes:
            yield chunk
            chunk = []
        chunk.append(batch)
    if chunk:
        yield chunk


def _nbytes(arrays: "Arrays") -> int:
    return sum(array.nbytes for array in arrays)


def outputs_through_files(
    model: OmOnChip, batches: "Sequence[Arrays]"
) -> "tuple[list[Array], tuple[str, ...]]":
    """Run full batches through files; return the output of each, and ais_bench's warnings.

    Raises:
        RunError: the run failed, or an output is missing, short or shared.
    """
    import numpy as np

    onnx = model.onnx
    with bench_run(model, "accuracy") as run:
        inputs, stems = write_samples(onnx, batches, run.folder / "in")
        summary, result = summary_of_run(run, accuracy_command(run, inputs))
        check_batch_sizes(result.output, onnx)
        rows = arrays_from_summary(summary, stems, onnx.spec.output)
    starts = range(0, len(rows), onnx.batch)
    outputs = [np.concatenate(rows[start : start + onnx.batch]) for start in starts]
    return outputs, warnings_from_output(result.output)


def write_samples(
    onnx: OnnxModel, batches: "Sequence[Arrays]", folder: Path
) -> tuple[list[Path], list[str]]:
    """Write one file per sample and input, so that ais_bench forms the batches.

    Returns:
        The folders, one for each input of the model, and the stems that the files of each have.
    """
    folder.mkdir(mode=0o750)
    numbers, stems = range(len(onnx.inputs)), list[str]()
    folders = [folder / str(number) for number in numbers] if len(numbers) > 1 else [folder]
    for number, one in enumerate(folders):
        one.mkdir(mode=0o750, exist_ok=True)
        stems = _write_input(onnx, [batch[number] for batch in batches], number, one)
    return folders, stems


def _write_input(
    onnx: OnnxModel, arrays: "Sequence[Array]", number: int, folder: Path
) -> list[str]:
    size = onnx.spec.inputs[number].shape[0]
    samples = (b[start : start + size] for b in arrays for start in range(0, len(b), size))
    stems = []
    for index, sample in enumerate(samples):
        # Zero-padded and without dots: natural order equals lexical order, and names never collide.
        path = folder / f"{index:06d}.bin"
        sample.tofile(path)
        path.chmod(0o640)
        stems.append(path.stem)
    return stems
