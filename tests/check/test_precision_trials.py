import types

import numpy as np
import pytest

from harness.check import precision_trials
from harness.check.context import Context
from harness.check.precision_trials import Trials
from harness.contract.thresholds import thresholds_from_file
from harness.errors import BuildError, RunError
from harness.host.site import FIXTURES
from harness.inside import Operator
from harness.measure.parity import ChainScores, InputCounts
from harness.precision import Precision
from harness.predict.parity_inputs import ParityInputs
from harness.spec import Cell

CELL = Cell("nonlocal_tiny", "ascend310p", 1)
RIGHT = np.random.default_rng(1).normal(size=(64, 8))


def operator(name, dtype="float16", nodes=("n",)):
    return Operator(name, "Relu", nodes, (), (), dtype=dtype)


OPERATORS = (operator("/a"), operator("/b", "float32"), operator("cast", nodes=()), operator("/c"))


@pytest.fixture
def trials(monkeypatch):
    """A model that is right once /c is kept; nothing is built or run."""
    precisions, said = {}, []

    def device(name):
        return types.SimpleNamespace(operators=lambda model: OPERATORS)

    bench = types.SimpleNamespace(
        device=device,
        device_model=lambda cell: "model",
        progress=types.SimpleNamespace(say=said.append),
        model=lambda name: types.SimpleNamespace(clips_per_crop=1),
    )
    contract = thresholds_from_file(FIXTURES.parent / "thresholds.toml")
    context = Context(CELL, bench, contract.tier("emulated"), contract.limits(CELL))

    def chain_scores(of):
        keep = precisions[of.cell.precision].keep if of.cell.precision else ()
        if "/fused" in keep:
            raise BuildError("/fused was fused")
        device = RIGHT if "/c" in keep else np.full_like(RIGHT, np.nan)
        inputs = ParityInputs(
            tuple(map(str, range(64))), InputCounts(clip=64), (RIGHT[:1],) * 64, ""
        )
        return inputs, ChainScores(*[RIGHT] * 4, device)

    monkeypatch.setattr(precision_trials, "chain_scores", chain_scores)
    monkeypatch.setattr(precision_trials, "_query_ms", lambda context, inputs: 7.5)
    return types.SimpleNamespace(run=Trials(context, precisions), precisions=precisions, said=said)


def no_dumps(context, tensor):
    raise RunError("the run wrote no dump of any operator")


def test_a_trial_is_a_precision_of_its_own_and_says_what_could_be_kept(trials, monkeypatch):
    found = types.SimpleNamespace(suspect="/c")
    monkeypatch.setattr(precision_trials, "divergent_operator", lambda *_: found)
    first = trials.run(())
    assert (first.is_met, first.suspect, first.operators) == (False, "/c", ("/a", "/c"))
    assert "non-finite output" in first.text
    second = trials.run(("/c",))
    assert (second.is_met, second.query_ms) == (True, 7.5)
    assert trials.precisions == {"search0": Precision(keep=("/c",))}


def test_without_dumps_there_is_no_suspect_and_the_reason_is_said(trials, monkeypatch):
    monkeypatch.setattr(precision_trials, "divergent_operator", no_dumps)
    assert trials.run(()).suspect is None
    assert trials.said[-1] == "nonlocal_tiny-ascend310p-bs1: the run wrote no dump of any operator"


def test_a_build_that_is_refused_does_not_meet_the_limits(trials):
    refused = trials.run(("/fused",))
    assert (refused.is_met, refused.text) == (False, "/fused was fused")
