"""The checks of a cell: measure, judge, and name what the verdict rests on."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Generator, Sequence

import numpy as np

from harness.build.onnx_check import measure_export
from harness.check.context import Context
from harness.check.divergence import divergence
from harness.check.repeats import device_scores
from harness.check.second_reading import second_reading
from harness.check.sessions import Found, decided, held_device
from harness.check.soak import check_soak
from harness.check.startup import check_startup
from harness.check.timed_session import TimedClips, expected_answers, time_session
from harness.clips import ClipSet
from harness.data.store import CropStore
from harness.data.streaming import stored_samples
from harness.data.strips import raw_strips
from harness.errors import ExportError, HarnessError, InvalidMeasurement, MissingInput, RunError
from harness.host.child_process import run_in_child
from harness.host.patience import HANG_S
from harness.judge.subjects import chip_problem
from harness.judge.verdict import Verdict
from harness.measure.accuracy import AccuracyMeasurement, accuracy_measurement
from harness.measure.measurement import json_lines
from harness.measure.parity import ChainScores, parity_measurement
from harness.measure.repeats import repeats_from_arrays
from harness.measure.scores import lowest_score
from harness.measure.throughput import SessionTiming, throughput_measurement
from harness.predict.chips import chip_predictions
from harness.predict.device_predictions import open_session
from harness.predict.host_scores import onnx_scores
from harness.predict.parity_inputs import ParityInputs, parity_inputs
from harness.predict.reference import reference_predictions, reference_scores
from harness.predict.run import run_tensors
from harness.record.npz import accuracy_files, npz_from_arrays
from harness.spec import Status
from harness.timings import LoopSettings

TIMED_CLIPS = 16


def check_export(context: Context) -> Found:
    """Check the exported and the simplified file: valid, as declared, allowed operators only."""
    cell, bench = context.cell, context.bench
    bench.present_device(cell.device)
    exported, simplified = bench.exported(cell), bench.simplified(cell)
    measurement, _ = run_in_child(
        measure_export,
        *(exported.artifact, simplified.artifact, exported.spec, cell.batch),
        bench.device(cell.device),
        timeout_s=HANG_S,
        failure=ExportError,
    )
    # Where nothing is asked of the device model, a build that breaks is for the checks that run it to say.
    ignored = () if context.limits.device_model else (HarnessError,)
    with contextlib.suppress(*ignored):
        measurement = measurement.model_copy(update={"passport": bench.passport(cell)})
    return Found(measurement, context.judge(measurement))


def chain_scores(context: Context) -> tuple[ParityInputs, ChainScores]:
    """Run every stage of the chain on the same inputs."""
    inputs, host = _host_scores(context)
    cell, tensors = context.cell, inputs.tensors
    progress = context.bench.progress.counter(f"{cell.id} parity", len(tensors))
    with open_session(cell, context.bench) as session:
        batches = session.run_many, context.spec, cell.batch
        return inputs, host(device=run_tensors(*batches, tensors, context.smallest, progress))


def check_parity(context: Context) -> Found:
    """Compare every stage of the chain with the one before it, on the same inputs."""
    inputs, host = _host_scores(context)
    device, again = device_scores(context, inputs)
    spec, scores = context.spec, host(device=device)
    clips = spec.clips_per_crop
    measurement = parity_measurement(
        scores, inputs.ids, inputs.counts, clip_count=clips, reference=spec.reference
    )
    measurement = measurement.model_copy(update={"repeats": repeats_from_arrays(again)})
    verdict = context.judge(measurement)
    if verdict.status is Status.FAIL:
        node = divergence(context, scores, inputs)
        measurement = measurement.model_copy(update={"first_divergent_node": node})
        verdict = context.judge(measurement)
    raw = {
        "scores": (npz_from_arrays(**dataclasses.asdict(scores)), ".npz"),
        "repeats": (npz_from_arrays(**again), ".npz"),
    }
    return Found(measurement, verdict, raw)


def check_accuracy(context: Context) -> Found:
    """Count the right answers, and compare them with PyTorch's clip by clip."""
    cell, bench = context.cell, context.bench
    clip_set = accuracy_clips(context)
    inputs = inputs_read_again(context, clip_set)
    reference = reference_predictions(
        *(context.spec, bench.weights(cell.model), clip_set, bench.workshop),
        bench.clip_set(cell.model),
    )
    preds, notes = chip_predictions(cell, bench, clip_set)
    measurement = accuracy_measurement(preds, clip_set, reference, floor_of_scores(context))
    found = accuracy_found(context, measurement, notes, inputs)
    both = preds, reference
    raw = accuracy_files(*both, clip_set)
    raw |= raw_strips(measurement.paired, clip_set, context.spec.protocol, both)
    return dataclasses.replace(found, raw={**raw, **found.raw})


def accuracy_clips(context: Context) -> ClipSet:
    """Return the clips to measure accuracy on.

    Raises:
        MissingInput: the checkpoint or the clips are missing.
        DeviceError: the device is absent or broken.
    """
    context.bench.present_device(context.cell.device)
    if context.bench.weights(context.cell.model).kind == "seeded":
        raise MissingInput(
            f"checkpoint {context.spec.checkpoint} is not on this machine; put it into a folder that "
            "site.toml names in checkpoints: the accuracy of seeded weights says nothing"
        )
    return context.clip_set


def inputs_read_again(context: Context, clip_set: ClipSet) -> str:
    """Have mmaction2 read some of the clips, too, if the contract asks for it; say which.

    Raises:
        InvalidMeasurement: it reads them differently.
    """
    if context.limits.inputs is None:
        return ""
    return second_reading(context.bench, context.cell.model, clip_set.clips, context.seed)


def accuracy_found(
    context: Context, measurement: AccuracyMeasurement, notes: Sequence[str], inputs: str
) -> Found:
    """Judge what an accuracy check measured.

    ``notes`` are about the chips, ``inputs`` is what ``inputs_read_again`` returned.
    """
    raw = {"notes": ("\n".join(notes).encode(), ".txt")} if notes else {}
    return Found(measurement, context.judge(measurement), raw, inputs)


def check_throughput(context: Context) -> Found:
    """Time sessions until their interval decides or the plan ends.

    Raises:
        InvalidMeasurement: the golden is of another chip.
    """
    plan, batch = context.tier.timing_for(context.cell), context.cell.batch
    chip = context.bench.state(context.cell.device).facts.get("chip")
    if problem := chip_problem(context.limits.throughput.chip, chip):
        raise InvalidMeasurement(problem)

    def look(timings: list[SessionTiming]) -> Verdict:
        return context.judge(throughput_measurement(timings, batch))

    with contextlib.closing(timed_sessions(context)) as sessions:
        timings, verdict = decided(sessions, plan, look)
    raw = {"latencies": (json_lines(timings), ".jsonl")}
    return Found(throughput_measurement(timings, batch), verdict, raw)


def timed_sessions(context: Context) -> Generator[SessionTiming, None, None]:
    """Time session after session, each in its own process.

    No other check may use the chip meanwhile. A host is judged by processor time, which other work
    hardly affects, so other checks run beside it.
    """
    cell, bench, limits = context.cell, context.bench, context.limits
    plan = context.tier.timing_for(cell)
    settings = LoopSettings(plan.warmup_queries, plan.min_queries, plan.min_seconds)
    with held_device(context, shares_host=True) as (device, model):
        beside = bench.exported(cell).artifact.path if limits.throughput.is_of_host else None
        preds, timed = context.accuracy_predictions(), _timed_clips(context)
        expected = expected_answers(preds, timed.clips, limits.parity, context.smallest)
        for number in itertools.count(1):
            timing, _ = run_in_child(
                time_session,
                *(device, model, timed, settings, beside, expected),
                heartbeat=bench.progress.heartbeat(f"{cell.id} timed session {number}"),
                timeout_s=2.0 * HANG_S,
                failure=RunError,
            )
            yield timing


CHECK_FUNCTIONS = {
    "export": check_export,
    "parity": check_parity,
    "accuracy": check_accuracy,
    "throughput": check_throughput,
    "startup": check_startup,
    "soak": check_soak,
}


def _host_scores(context: Context) -> tuple[ParityInputs, functools.partial[ChainScores]]:
    """Return the inputs of parity, and the chain, which lacks only the scores of the device."""
    cell, bench, spec = context.cell, context.bench, context.spec
    bench.present_device(cell.device)
    inputs, floor = _parity_inputs(context), floor_of_scores(context)
    torch = reference_scores(spec, bench.weights(cell.model), inputs, bench.workshop)
    # A file that does not run is named before another is made of it.
    stages = {
        "exact": torch.fp64,
        "torch": torch.fp32,
        "onnx": onnx_scores(bench.exported(cell), inputs, bench.workshop),
        "simplified": onnx_scores(bench.simplified(cell), inputs, bench.workshop),
    }
    floored = {name: np.maximum(scores, floor) for name, scores in stages.items()}
    return inputs, functools.partial(ChainScores, **floored)


def _parity_inputs(context: Context) -> ParityInputs:
    clip_set, root = context.bench.clips_at_hand(context.cell.model)
    store = CropStore(root, context.spec.protocol, clip_set)
    source = functools.partial(stored_samples, store, workers=0)
    return parity_inputs(context.spec, clip_set, context.tier.inputs_for(context.cell), source)


def _timed_clips(context: Context) -> TimedClips:
    clip_set, root = context.bench.clips_at_hand(context.cell.model)
    try:
        clips = context.clip_set.clips
    except MissingInput:
        clips = clip_set.clips
    return TimedClips(clips[:TIMED_CLIPS], clip_set, root)


def floor_of_scores(context: Context) -> float:
    """Return the lowest score that every stage can tell from lower ones."""
    return lowest_score(context.spec.softmax_in_graph, context.smallest)
