import contextlib
import types

import numpy as np
import pytest

from harness.check.context import Context
from harness.check.repeats import device_scores
from harness.contract.thresholds import thresholds_from_file
from harness.device import DeviceSpec
from harness.errors import RunError
from harness.host.progress import Progress
from harness.host.site import FIXTURES
from harness.measure.parity import InputCounts
from harness.measure.repeats import repeats_from_arrays
from harness.models.nonlocal_tiny import SPEC
from harness.predict.parity_inputs import ParityInputs
from harness.spec import Cell
from harness.testing import FakeDevice

DEVICE = DeviceSpec("cpu", "a double", "none", "none", "fp32")
CLASSES = np.random.default_rng(9).normal(scale=20.0, size=(3, 8)).astype(np.float32)


def logits(video):
    means = video.reshape(len(video), -1, 3).mean(axis=1)
    scores = np.exp(means @ CLASSES)
    return scores / scores.sum(axis=1, keepdims=True)


def right(feed):
    return {"class": logits(feed["video"])}


def context_of(chips, batch, single=None):
    """A cell on some chips, each of which is a function of its feed; ``single`` is that of the model for batch 1."""
    devices = {name: FakeDevice(DEVICE, function) for name, function in chips.items()}
    bench = types.SimpleNamespace(
        chips=lambda name: contextlib.nullcontext(devices),
        device=lambda name: next(iter(devices.values())),
        device_model=lambda cell: cell,
        model=lambda name: SPEC,
        spec=lambda cell: SPEC,
        progress=Progress(),
    )
    contract = thresholds_from_file(FIXTURES.parent / "thresholds.toml")
    cell = Cell("nonlocal_tiny", "cpu", batch)
    limits = contract.limits(cell)
    return Context(cell, bench, contract.tier("smoke"), limits, is_single_planned=bool(single))


def repeats(chips, batch, single=None):
    random = np.random.default_rng(3)
    shape = SPEC.input.shape[1:]
    tensors = tuple(random.normal(size=shape).astype(np.float32) for _ in range(6))
    inputs = ParityInputs(tuple("abcdef"), InputCounts(clip=6), tensors, "")
    scores, again = device_scores(context_of(chips, batch, single), inputs)
    assert scores.shape == (6, 8)
    return repeats_from_arrays(again)


@pytest.mark.parametrize(("batch", "row"), [(1, None), (4, 3), (8, 3)])
def test_a_device_that_repeats_itself(batch, row):
    found = repeats({"chip0": right, "chip1": right}, batch)
    assert (found.again, found.chips, found.row) == (0.0, 0.0, row)
    assert found.alone in (None, pytest.approx(0.0, abs=1e-6))
    assert found.chip_count == 2


def test_a_row_that_depends_on_its_place_is_found():
    def third_row_off(feed):
        scores = logits(feed["video"])
        scores[3] *= 1.1
        return {"class": scores}

    found = repeats({"chip0": third_row_off}, 4)
    assert (found.again, found.chips) == (0.0, None)
    assert found.alone == pytest.approx(np.log(1.1), abs=1e-3)


def test_a_model_for_batch_1_that_differs_is_found():
    def off_alone(feed):
        return {"class": logits(feed["video"]) * (1.2 if len(feed["video"]) == 1 else 1.0)}

    found = repeats({"chip0": off_alone}, 4, single=True)
    assert (found.again, found.row, found.is_single) == (0.0, 3, True)
    assert found.alone == pytest.approx(np.log(1.2), abs=1e-3)
    assert not repeats({"chip0": off_alone}, 4).is_single
    assert not repeats({"chip0": off_alone}, 1, single=True).is_single


def test_a_chip_that_differs_is_found():
    def other(feed):
        return {"class": logits(feed["video"])[:, ::-1]}

    found = repeats({"chip0": right, "chip1": right, "chip2": other}, 1)
    assert found.chips > 0.1
    assert (found.again, found.chip_count) == (0.0, 3)


def test_a_chip_that_wavers_is_found():
    # Six inputs, and the first of them again.
    factors = iter([1.0] * 6 + [1.5])

    def wavers(feed):
        return {"class": logits(feed["video"]) * next(factors)}

    assert repeats({"chip0": wavers}, 1).again == pytest.approx(np.log(1.5), abs=1e-3)


def test_a_chip_that_fails_is_an_error():
    def fails(feed):
        raise RunError("the chip is lost")

    with pytest.raises(RunError, match="the chip is lost"):
        repeats({"chip0": right, "chip1": fails}, 4)
