"""What a host of the farm does: it measures with its own site, devices and clips, and judges nothing.

These functions run in processes that Ray starts. A host looks for its ``site.toml`` as every run does, so
``ACCEPTANCE_SITE`` must name it in the shell in which ``ray start`` is typed.
"""

import contextlib
import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from harness import registry
from harness.build.workbench import Workbench
from harness.check.checks import (
    accuracy_clips,
    accuracy_found,
    floor_of_scores,
    inputs_read_again,
)
from harness.check.context import Context
from harness.check.sessions import Found
from harness.check.suite import check_subjects
from harness.clips import ClipSet, Predictions
from harness.data import video
from harness.data.datasets import MOTION8
from harness.data.sent import SentCrops
from harness.data.store import CropStore, record_shape
from harness.errors import CheckpointError
from harness.farm.orders import Delivery, HostFacts, Listing, Order, Part, Shard, Survey
from harness.farm.reader import clips_of_shard
from harness.farm.workplace import (
    Parcels,
    Say,
    chip_session,
    context_of,
    deliver,
    host_name,
    workplace,
)
from harness.host.artifact_errors import free_bytes
from harness.host.digests import digest_from_json
from harness.host.environment import rounding_facts, thread_facts
from harness.host.lock_notes import read_owner
from harness.host.progress import Progress
from harness.host.provenance import package_versions, parcel_from_artifact
from harness.host.suite_code import suite_digest, suite_facts
from harness.measure.accuracy import AccuracyMeasurement
from harness.predict.chips import predict_on
from harness.predict.device_predictions import plan_from_bench
from harness.predict.reference import reference_predictions
from harness.record.npz import npz_from_labels, npz_from_predictions

# Those that compute, beside the ones that decode: hosts with other versions are not alike.
PACKAGES = ("torch", "mmaction2", "mmcv-full", "onnxruntime")


def describe(say: Say) -> HostFacts:
    """Probe every device of this host."""
    site = registry.load_site(None, os.environ)
    bench = Workbench(site, site.cache_dir, Progress())
    locks = sorted(site.lock_dir.glob("*.lock")) if site.lock_dir.is_dir() else []
    owners = [(path.stem, read_owner(path)) for path in locks]
    return HostFacts(
        name=host_name(),
        suite={**suite_facts(), "suite.files": suite_digest()},
        machine={**rounding_facts(), **package_versions(*PACKAGES, *video.decoders())},
        threads=thread_facts(),
        devices={name: bench.state(name) for name in registry.device_specs()},
        weights=dict(_weights(bench)),
        datasets=tuple(sorted({MOTION8, *site.datasets})),
        running=tuple(f"{name}: {owner}" for name, owner in owners if owner is not None),
        free_gb=free_bytes(site.cache_dir) / 1e9,
    )


def doctor(say: Say) -> tuple[int, str]:
    """Run ``harness doctor`` here; return its exit status and what it printed."""
    command = [sys.executable, "-m", "harness", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def export(say: Say, order: Order) -> Parcels:
    """Export and simplify the model of a cell, on a host that need not have its device.

    Raises:
        HarnessError: it cannot be done here.
    """
    with workplace(order, say, ()) as bench:
        exported, simplified = bench.exported(order.cell), bench.simplified(order.cell)
        return parcel_from_artifact(exported.artifact), parcel_from_artifact(simplified.artifact)


def build(say: Say, order: Order, parcels: Parcels) -> Parcels:
    """Build the device model of a cell from its simplified model; return all three.

    Raises:
        HarnessError: it cannot be done here.
    """
    with workplace(order, say, parcels) as bench:
        return (*parcels, parcel_from_artifact(bench.device_model(order.cell).artifact))


def measure(
    say: Say, order: Order, parcels: Parcels, accuracy: Predictions | None = None
) -> Delivery:
    """Run one check here.

    Args:
        say: takes lines about the progress.
        order: what to check.
        parcels: the models that it runs on.
        accuracy: predictions of the accuracy check of this run, which timed answers are compared with.
    """
    with workplace(order, say, parcels) as bench:
        return deliver(order, bench, accuracy)


def survey_accuracy(
    say: Say, order: Order, parcels: Parcels, listing: Listing | None = None
) -> Survey:
    """Look at what an accuracy check would run on here.

    Raises:
        HarnessError: the check cannot run here.
    """
    with workplace(order, say, parcels, listing) as bench:
        context = context_of(order, bench)
        check_subjects(context)
        clip_set = accuracy_clips(context)
        _inputs(context, clip_set, listing)
        count, sent = len(clip_set.clips), math.prod(record_shape(context.spec.protocol))
        clips = {"clips": clip_set.digest} if listing is None else listing.subjects
        model = {"device model": bench.device_model(order.cell).artifact.sha256}
        subjects = {**_subjects(context, clips), **model}
        about = npz_from_labels(clip_set), floor_of_scores(context)
        return Survey(count, subjects, *about, 0 if listing is None else sent)


def predict(
    say: Say, order: Order, parcels: Parcels, shard: Shard, sent: SentCrops | None = None
) -> Part:
    """Run one shard of the clips of a cell on a chip of this host.

    Args:
        say: takes lines about the progress.
        order: what to check.
        parcels: the models that it runs on.
        shard: which clips.
        sent: their crops; None: the clips are decoded here.
    """
    with workplace(order, say, parcels) as bench, bench.beside_others():
        context, cell = context_of(order, bench), order.cell
        with _decoded(context, shard, sent) as (clip_set, whole):
            plan = plan_from_bench(cell, bench, clip_set, whole)
            title = f"{cell.id} accuracy, {shard}"
            counter = bench.progress.counter(title, len(clip_set.clips))
            with chip_session(order, bench) as (device, session):
                preds, notes = predict_on(device, session, plan, (0, 1), counter)
        model = {"device model": context.bench.device_model(cell).artifact.sha256}
        return _part(context, preds, notes, sent, model)


def refer(say: Say, order: Order, shard: Shard, sent: SentCrops | None = None) -> Part:
    """Run PyTorch on one shard of the clips of a cell; see ``predict``."""
    with workplace(order, say) as bench, bench.beside_others():
        context, weights = context_of(order, bench), bench.weights(order.cell.model)
        with _decoded(context, shard, sent) as (clip_set, whole):
            preds = reference_predictions(context.spec, weights, clip_set, bench.workshop, whole)
        return _part(context, preds, (), sent)


def conclude(
    say: Say,
    order: Order,
    parcels: Parcels,
    measured: AccuracyMeasurement,
    notes: Sequence[str],
    listing: Listing | None = None,
) -> Delivery:
    """Make the record of an accuracy check from what the driver measured on the shards, and its notes."""

    def found(context: Context) -> Found:
        inputs = _inputs(context, accuracy_clips(context), listing)
        return accuracy_found(context, measured, notes, inputs)

    with workplace(order, say, parcels, listing) as bench:
        return deliver(order, bench, found=found)


@contextlib.contextmanager
def _decoded(
    context: Context, shard: Shard, sent: SentCrops | None
) -> Iterator[tuple[ClipSet, ClipSet]]:
    """Yield the clips of a shard, and the set under whose name they are decoded here, or lie decoded."""
    if sent is None:
        clips = clips_of_shard(accuracy_clips(context), shard, context.cell.batch)
        yield clips, context.bench.clip_set(context.cell.model)
        return
    sent.refuse_others(context.spec.protocol)
    clips = dataclasses.replace(sent.clip_set, digest=sent.digest)
    # Two cells may run the same crops at once, each with its own copy.
    own = digest_from_json([sent.digest, context.cell.id, shard.what])
    whole = dataclasses.replace(clips, digest=own)
    root = context.bench.site.cache_dir / "crops"
    with sent.unpacked(CropStore(root, context.spec.protocol, whole)):
        yield clips, whole


def _part(
    context: Context,
    preds: Predictions,
    notes: tuple[str, ...],
    sent: SentCrops | None,
    model: Mapping[str, str] = MappingProxyType({}),
) -> Part:
    clips = {"clips": context.clip_set.digest} if sent is None else sent.subjects
    subjects, decoder = {**_subjects(context, clips), **model}, "" if sent is None else sent.host
    return Part(host_name(), npz_from_predictions(preds), notes, subjects, decoder)


def _inputs(context: Context, clip_set: ClipSet, listing: Listing | None) -> str:
    return inputs_read_again(context, clip_set) if listing is None else listing.inputs


def _subjects(context: Context, clips: Mapping[str, str]) -> Mapping[str, str]:
    return {"weights": context.bench.weights(context.cell.model).digest, **clips}


def _weights(bench: Workbench) -> Iterator[tuple[str, str]]:
    for name in registry.model_names():
        with contextlib.suppress(CheckpointError):
            yield name, bench.weights(name).digest
