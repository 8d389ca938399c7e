"""What a check finds, the device that a timing holds, and when to stop timing sessions."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from harness.check.context import Context
from harness.contract.tables import TimingPlan
from harness.device import Device
from harness.judge.verdict import Verdict
from harness.record.record import CheckMeasurement
from harness.spec import DeviceModel, Feed, Status, TensorSpec

T = TypeVar("T")

# A device repeats itself up to the rounding of sums in another order.
SAME_OUTPUT_RELATIVE = 1e-3


@dataclasses.dataclass(frozen=True)
class Found:
    """What a check found: the measurement, the verdict on it, and the raw files behind it.

    ``inputs`` says which of its clips mmaction2 read as well.
    """

    measurement: CheckMeasurement
    verdict: Verdict
    raw: Mapping[str, tuple[bytes, str]] = dataclasses.field(default_factory=dict)
    inputs: str = ""


@contextlib.contextmanager
def held_device(context: Context, *, shares_host: bool) -> Iterator[tuple[Device, DeviceModel]]:
    """Hold a chip for this cell alone during the block; yield it with the built model.

    ``shares_host``: if the device is the host, other checks may run beside this one.

    Raises:
        HarnessError: the model cannot be built, or the device cannot be used.
    """
    cell, bench = context.cell, context.bench
    with bench.beside_others():
        model = bench.device_model(cell)
    is_shared = shares_host and context.limits.throughput.is_of_host
    shared = bench.beside_others() if is_shared else contextlib.nullcontext()
    with shared, bench.chip(cell.device, is_alone=not is_shared) as device:
        yield device, model


def made_feed(inputs: Sequence[TensorSpec]) -> Feed:
    """Return a batch of numbers like those of clips; zeros may be faster."""
    random = np.random.default_rng(0)
    return {
        one.name: random.standard_normal(one.shape, np.float32).astype(one.dtype, copy=False)
        for one in inputs
    }


def is_same_output(actual: Feed | None, expected: Feed | None) -> bool | None:
    """Whether two runs of one input computed the same, but for sums in another order; None: not known."""
    if actual is None or expected is None:
        return None
    if actual.keys() != expected.keys():
        return False
    return all(
        actual[name].shape == expected[name].shape
        and np.allclose(actual[name], expected[name], rtol=SAME_OUTPUT_RELATIVE, atol=1e-6)
        for name in expected
    )


def decided(
    sessions: Iterable[T], plan: TimingPlan, look: Callable[[list[T]], Verdict]
) -> tuple[list[T], Verdict]:
    """Take sessions until a look at them decides or the plan ends; return them and the last verdict."""
    taken, start_s = list[T](), time.monotonic()
    for session in sessions:
        taken.append(session)
        verdict = look(taken)
        is_open = verdict.status is Status.INCONCLUSIVE
        if len(taken) >= plan.sessions_min and not is_open:
            break
        if plan.is_spent(len(taken), time.monotonic() - start_s):
            break
    return taken, verdict
