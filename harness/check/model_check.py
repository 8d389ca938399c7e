"""A quick look at a model, new or not: its protocol, its export and its parity, without a device."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from harness.build.build import WeightsFile, Workshop, onnx_from_source, simplified_from_onnx
from harness.check.mmaction2_pipeline import protocol_problems
from harness.errors import HarnessError
from harness.host.digests import digest_from_json, plain_fields
from harness.judge.limits import ParityLimits
from harness.judge.parity import judge_parity
from harness.measure.parity import (
    ChainScores,
    InputCounts,
    ParityMeasurement,
    parity_measurement,
)
from harness.predict.host_scores import onnx_scores
from harness.predict.parity_inputs import ParityInputs
from harness.predict.reference import reference_scores
from harness.spec import ONNX_FILE, ModelSpec, Status
from harness.zoo.config import config_from_file, config_path
from harness.zoo.model import with_protocol
from harness.zoo.protocol import protocol_from_config

INPUT_COUNT = 2
ONE_VIEW = {"crop_count": 1, "clip_count": 1, "placement": "segments"}
# How clips are decoded depends on the data set, not on the model.
DECODING = ("source", "rawframe_short_side")


@dataclasses.dataclass(frozen=True)
class Looked:
    """What was looked at, whether it is as it should be, and what was seen."""

    what: str
    is_good: bool
    seen: str

    def __str__(self) -> str:
        """Return it as a line for a person."""
        return f"{self.what:<11}{'ok' if self.is_good else 'NOT OK':<8}{self.seen}"


def look_at_model(
    spec: ModelSpec, weights: WeightsFile, limits: ParityLimits, workshop: Workshop
) -> Iterator[Looked]:
    """Look at a model with one view of a sample, since more views only repeat its graph.

    ``limits`` are those in float32.
    """
    yield look_at_protocol(spec)
    small = with_protocol(spec, **ONE_VIEW)
    try:
        exported = onnx_from_source(small, spec.frozen_batch or 1, weights, workshop)
        yield Looked("export", True, f"opset {spec.opset}, {_count(exported.artifact.provenance)}")
        simplified = simplified_from_onnx(exported, workshop)
        yield Looked("simplify", True, _count(simplified.artifact.provenance))
        inputs = noise_inputs(small)
        torch = reference_scores(small, weights, inputs, workshop)
        onnx, simple = (onnx_scores(one, inputs, workshop) for one in (exported, simplified))
    except HarnessError as error:
        yield Looked(getattr(error, "stage", "reference"), False, str(error))
        return
    chain = ChainScores(
        exact=torch.fp64, torch=torch.fp32, onnx=onnx, simplified=simple, device=simple
    )
    measured = parity_measurement(chain, inputs.ids, inputs.counts, reference=spec.reference)
    verdict = judge_parity(measured, limits, INPUT_COUNT, reference=spec.reference)
    is_good = verdict.status is Status.PASS
    yield Looked("parity", is_good, _agreement(measured, limits) if is_good else verdict.reason)


def look_at_protocol(spec: ModelSpec) -> Looked:
    """Compare the protocol with mmaction2's own pipeline, pixel by pixel, unless it is declared to differ."""
    if not spec.config:
        return Looked("protocol", True, "as declared; no mmaction2 configuration to compare with")
    config = config_from_file(config_path(spec.config))
    declared, derived = (plain_fields(one) for one in (spec.protocol, protocol_from_config(config)))
    names = sorted({*declared, *derived} - {*DECODING})
    differing = [name for name in names if declared.get(name) != derived.get(name)]
    if differing:
        told = f"declared to differ from the configuration in {', '.join(differing)}"
        return Looked("protocol", True, told)
    problems = protocol_problems(config, spec.protocol)
    seen = "; ".join(problems) or "bit for bit as mmaction2's test pipeline"
    return Looked("protocol", not problems, seen)


def noise_inputs(spec: ModelSpec) -> ParityInputs:
    """Return seeded noise as inputs of a model."""
    rng = np.random.default_rng(0)
    shape = spec.protocol.sample_shape
    tensors = tuple(rng.standard_normal(shape, np.float32) for _ in range(INPUT_COUNT))
    ids = tuple(f"noise{number}" for number in range(INPUT_COUNT))
    digest = digest_from_json({"noise": ids, "shape": shape})
    return ParityInputs(ids, InputCounts(noise=INPUT_COUNT), tensors, digest)


def _agreement(measured: ParityMeasurement, limits: ParityLimits) -> str:
    error = max(edge.relative_l2 or 0.0 for edge in measured.edges)
    is_file = measured.reference == ONNX_FILE
    origin = f"{ONNX_FILE} in {measured.anchor}" if is_file else measured.reference
    return (
        f"{origin}, the exported and the simplified file agree on {INPUT_COUNT} inputs of noise: "
        f"relative L2 error {error:.2g}, limit {limits.relative_l2:g}"
    )


def _count(provenance: Any) -> str:
    return f"{sum(provenance['facts']['ops'].values())} nodes"
