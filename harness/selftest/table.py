"""Every fault, the smoke selection, and the lines of what came of them."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from harness.errors import StageError
from harness.selftest.contract_faults import contract_faults
from harness.selftest.device_faults import device_faults
from harness.selftest.faults import MODEL, Caught, Fault, try_fault
from harness.selftest.graph_faults import graph_faults
from harness.selftest.list_faults import list_faults, other_list
from harness.selftest.option_faults import option_faults
from harness.selftest.setting import Answer, Bench
from harness.selftest.soak_faults import soak_faults
from harness.selftest.stored_faults import stored_faults
from harness.selftest.time_faults import time_faults
from harness.selftest.weight_faults import weight_faults

# Quick ones, which need neither a signed run nor a quiet host.
SMOKE = frozenset(
    {
        "device: two rows of a batch swapped",
        "device: one batch swapped late, once",
        "device: NaN in the last batch",
        "device: the answer of the batch before",
        "device input: frames reversed",
        "export: an activation dropped",
        "simplify: opset 12 in the header",
        "build: a convolution's weights 1 % larger",
        "checkpoint: one channel 1.1 times as large",
        "exported weights: running mean of a BatchNorm",
        "list: a clip twice",
        "pytest: a plugin that reports every test as passed",
        "pytest: a plugin that runs no test",
        "contract: a waiver of what passes",
        "contract: a source removed",
    }
)


def all_faults() -> tuple[Fault, ...]:
    """Return every fault, the families that cost least first."""
    families = (
        *(option_faults(), contract_faults(), stored_faults(), list_faults(), weight_faults()),
        *(graph_faults(), device_faults(), time_faults(), soak_faults()),
    )
    return tuple(fault for family in families for fault in family)


def chosen_faults(families: Sequence[str] = (), *, is_smoke: bool = False) -> tuple[Fault, ...]:
    """Return the faults of some families, or of all; with ``is_smoke``, only the quick ones."""
    return tuple(
        fault
        for fault in all_faults()
        if (not families or fault.family in families) and (not is_smoke or fault.id in SMOKE)
    )


def family_names(*, is_smoke: bool = False) -> tuple[str, ...]:
    """Return the names of the families; with ``is_smoke``, of those that have quick faults."""
    return tuple(dict.fromkeys(fault.family for fault in chosen_faults(is_smoke=is_smoke)))


def without_fault(bench: Bench, models: Iterable[str]) -> None:
    """Run the checks without a fault, so that everything they need is built.

    Raises:
        StageError: a check is not green, so planting faults would show nothing.
    """
    setting = bench.setting("without")
    setting.cache = bench.cache
    for model in dict.fromkeys(models):
        for check in ("export", "parity", "accuracy"):
            answer = setting.run(check, model)
            if answer.status:
                raise StageError(f"{model} is not green without a fault: {answer.said}")


def green_again(bench: Bench, seed: int) -> list[tuple[str, Answer]]:
    """Run without a fault on clips in another order, and so in other batches; return each answer."""
    setting = bench.setting(f"order-{seed}")
    with other_list(lambda lines: random.Random(seed).sample(lines, len(lines)))(setting):
        return [
            (f"{MODEL} {check}, order {seed}", setting.run(check, MODEL))
            for check in ("parity", "accuracy")
        ]


def plant_all(
    bench: Bench, faults: Iterable[Fault], say: Callable[[str], None] = lambda line: None
) -> list[Caught]:
    """Plant one fault after another, and say a line about each."""
    found = []
    for number, fault in enumerate(faults):
        start_s = time.monotonic()
        found.append(try_fault(fault, bench.setting(f"fault-{number}")))
        say(f"{found[-1].outcome:<15}{time.monotonic() - start_s:6.1f} s  {line_of(found[-1])}")
    return found


def line_of(caught: Caught) -> str:
    """Return a fault, what must catch it, and what was said."""
    return f"{caught.fault.id} [{caught.fault.by}] {' '.join(caught.said.split())[:240]}"


def counts_line(found: Sequence[Caught]) -> str:
    """Return how many faults were planted, caught, escaped, and do not apply here."""
    count = Counter(one.outcome for one in found)
    planted = len(found) - count["not applicable"]
    return (
        f"planted {planted}, caught {count['caught']}, escaped {count['escaped']}, not applicable "
        f"here {count['not applicable']}"
    )
