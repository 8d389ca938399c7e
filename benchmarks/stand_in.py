"""A farm on one machine whose chips are stand-ins: a batch takes a fixed time, and next to no processor time.

Everything but the host's own work is real: Ray's nodes, the driver's suite, the shards, the journals on
the hosts, the merge and the driver's second look at it. The functions below replace a host's work;
a chip's answer follows from the clip alone, so that any two runs can be compared.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import os
import resource
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np

from harness.clips import Clip, ClipSet, Predictions, Sample
from harness.contract.thresholds import thresholds_from_file
from harness.data.sent import SentCrops
from harness.device import DeviceState, Presence
from harness.errors import RunError
from harness.farm import host, reader
from harness.farm.calls import PYTORCH, resource_of
from harness.farm.cluster import Cluster
from harness.farm.hosts import Hosts
from harness.farm.orders import Delivery, HostFacts, Listing, Part, Survey
from harness.farm.suite import FarmSuite
from harness.farm.workplace import host_name, progress_to
from harness.host.progress import Progress
from harness.host.suite_code import suite_digest
from harness.judge.verdict import Verdict
from harness.predict.journal import Work, journal_at, predict_resumed
from harness.predict.run import scored_batches, stream_from_runner
from harness.record.facts import RunFacts, new_nonce
from harness.record.npz import npz_from_labels, npz_from_predictions, predictions_from_npz
from harness.record.record import Record, RunDirectory, new_run_directory
from harness.registry import model_spec
from harness.spec import Cell, Status

DEVICE = "ascend310p"
CELL = Cell("nonlocal_tiny", DEVICE, 8)
# Clips of one pixel: what is measured is not the copying of tensors; as many scores as Kinetics has classes.
SPEC = model_spec(CELL.model)
TENSOR = dataclasses.replace(SPEC.inputs[0], shape=(1, 1, 3, 1, 1))
CLASSES = 400
SCORES = dataclasses.replace(SPEC.output, shape=(1, CLASSES))
SPEC = dataclasses.replace(SPEC, input=TENSOR, output=SCORES, class_count=CLASSES)
CHIPS, CACHE = "STAND_IN_CHIPS", "ACCEPTANCE_CACHE_DIR"
MEMORY = 10**8


@dataclasses.dataclass(frozen=True)
class Scene:
    """What the hosts are to do, and where it goes wrong.

    Attributes:
        clips: how many there are.
        clip_s: seconds that a chip takes for each.
        faults: by host, what happens to it once, halfway through a shard.
        marks: a folder that all hosts see, in which they note what they did.
        readers: the hosts that can read the clips; None: all can.
        awaited: a mark, such as "batch host2": until that host has left it, the others wait in their work.
    """

    clips: int
    clip_s: float
    faults: dict[str, str] = dataclasses.field(default_factory=dict)
    marks: Path | None = None
    readers: tuple[str, ...] | None = None
    awaited: str = ""


@contextlib.contextmanager
def nodes(chips: Sequence[int], folder: Path) -> Iterator[tuple[object, list[object]]]:
    """Start a Ray cluster of hosts with these numbers of chips; the first host leads."""
    from ray.cluster_utils import Cluster as LocalNodes

    # Ray reports no usage from here.
    with mock.patch.dict(os.environ, {"RAY_USAGE_STATS_ENABLED": "0"}):
        leads = {"include_dashboard": False, "ray_client_server_port": free_port()}
        head = {**node_arguments("host0", chips[0], folder), **leads}
        made = LocalNodes(initialize_head=True, head_node_args=head)
        try:
            others = [
                made.add_node(**node_arguments(f"host{number}", count, folder))
                for number, count in enumerate(chips[1:], start=1)
            ]
            yield made, [made.head_node, *others]
        finally:
            import ray

            ray.shutdown()
            made.shutdown()


def client_address(node) -> str:
    """Return what ``--farm`` takes for the host that leads."""
    return f"ray://{node.node_ip_address}:{node._ray_params.ray_client_server_port}"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def node_arguments(name: str, chips: int, folder: Path) -> dict[str, object]:
    """Return the arguments that start a Ray node for a host."""
    here = {"ACCEPTANCE_HOST": name, "PYTHONPATH": str(Path(__file__).parents[1])}
    return {
        # Ray keeps so many processes: one for each chip, one for PyTorch.
        "num_cpus": chips + 1,
        "object_store_memory": MEMORY,
        "resources": {resource_of(DEVICE): chips, PYTORCH: 1},
        "env_vars": {**here, CHIPS: str(chips), CACHE: str(folder / name)},
    }


@contextlib.contextmanager
def stand_ins(scene: Scene) -> Iterator[None]:
    """Have hosts call the functions below in place of their own."""
    does = {
        host: ("describe", "export", "build", "survey_accuracy", "refer", "predict", "conclude"),
        reader: ("list_clips", "decode"),
    }
    with contextlib.ExitStack() as stack:
        for module, names in does.items():
            for name in names:
                function = functools.partial(globals()[name], scene)
                functools.update_wrapper(function, globals()[name])
                stack.enter_context(mock.patch.object(module, name, function))
        yield


def farm_suite(address: str, folder: Path, say=print) -> FarmSuite:
    """Return a run on the farm, in a new folder; within ``stand_ins``."""
    thresholds = thresholds_from_file(Path(__file__).parents[1] / "thresholds.toml")
    made = new_run(folder, thresholds.digest)
    hosts = Hosts(Cluster(address, say), say)
    contract = thresholds.path.read_bytes()
    progress = Progress(io.StringIO())
    return FarmSuite(thresholds, contract, "emulated", made, hosts, progress, folder / "driver")


def new_run(folder: Path, contract: str) -> RunDirectory:
    made = new_run_directory(Path(tempfile.mkdtemp(dir=folder)) / "run")
    facts = RunFacts(
        run_id=made.id,
        tier="emulated",
        started="2026-01-01T00:00:00+00:00",
        command=("stand_in",),
        thresholds_digest=contract,
        environment={},
        nonce=new_nonce(),
    )
    made.write_facts(facts)
    return made


def predictions_of(suite: FarmSuite, record: Record) -> str:
    """Return the digest of the predictions of a record."""
    if "predictions" not in record.raw:
        raise RunError(record.verdict.reason)
    return digest(predictions_from_npz(io.BytesIO(suite.run.read(record, "predictions"))))


def digest(preds: Predictions) -> str:
    names = "\n".join(preds.clip_ids).encode()
    return hashlib.sha256(names + preds.scores.tobytes()).hexdigest()


@functools.lru_cache(maxsize=4)
def clip_set_of(count: int) -> ClipSet:
    clips = tuple(Clip(f"{number:06d}", Path("clip"), number % 8) for number in range(count))
    names = tuple(f"class{number}" for number in range(SPEC.class_count))
    return ClipSet("stand_in", clips, names, "d" * 64)


# What hosts do.


def describe(scene, say) -> HostFacts:
    units = tuple(f"npu{number}" for number in range(int(os.environ[CHIPS])))
    state = DeviceState(Presence.PRESENT, "stand-ins", {"cann": "8.0"}, units)
    can_read = scene.readers is None or host_name() in scene.readers
    reads = (model_spec(CELL.model).dataset,) if can_read else ()
    suite = {"suite.commit": "this", "suite.files": suite_digest()}
    return HostFacts(host_name(), suite, {}, {}, {DEVICE: state}, {CELL.model: "w"}, reads, (), 1.0)


def export(scene, say, order) -> tuple[()]:
    return ()


def build(scene, say, order, parcels) -> tuple[()]:
    return ()


def survey_accuracy(scene, say, order, parcels, listing) -> Survey:
    # Crops of this size come in shards of orders.SHARD_CLIPS.
    labels, sent_bytes = npz_from_labels(clip_set_of(scene.clips)), 1 if listing else 0
    return Survey(scene.clips, {}, labels, -np.inf, sent_bytes)


def list_clips(scene, say, order) -> Listing:
    return Listing(clip_set_of(scene.clips), {}, "")


def decode(scene, say, order, shard) -> SentCrops:
    """Stand in for decoding on another host: a clip's one pixel says its number."""
    mark(scene, f"decode {host_name()} {shard.index} {os.getpid()}")
    wanted = clips_of(scene, order, shard)
    wait_for_other(scene)
    fail(scene)
    time.sleep(scene.clip_s * len(wanted.clips))
    names = tuple(clip.id for clip in wanted.clips)
    numbers = np.array([int(name) for name in names], "<u4")
    crops = numbers.view(np.uint8).reshape(-1, 4)[:, :3]
    return SentCrops(host_name(), wanted, {}, names, crops, {}).sealed()


def clips_of(scene, order, shard) -> ClipSet:
    return reader.clips_of_shard(clip_set_of(scene.clips), shard, order.cell.batch)


def samples_sent(sent, clips):
    """Yield as samples what was decoded elsewhere, and nothing that is known here."""
    pixels = {
        name: pixel.astype(int) for name, pixel in zip(sent.clip_ids, sent.crops, strict=True)
    }
    for clip in clips:
        number = float(pixels[clip.id] @ (1, 1 << 8, 1 << 16))
        yield Sample(clip.id, np.full(TENSOR.shape[1:], number, np.float32))


def predict(scene, say, order, parcels, shard, *sent) -> Part:
    """Run one shard on a stand-in, with the journal and the batches of a real one."""
    source = functools.partial(samples_sent, *sent) if sent else samples
    wanted, folder = clips_of(scene, order, shard), Path(os.environ[CACHE], "partial")
    mark(scene, f"start {host_name()} {shard.index} {os.getpid()}")

    def answer(feed):
        (values,) = feed.values()
        wait_for_other(scene)
        time.sleep(scene.clip_s * len(values))
        mark(scene, f"batch {host_name()} {shard.index} {os.getpid()}")
        fail(scene)
        return {SPEC.output.name: scores_of(values)}

    with journal_at(folder, {"cell": order.cell.id}, SPEC, wanted.clips) as journal:
        done = Work(wanted.clips, source, journal)
        stream = stream_from_runner(answer)
        counter = progress_to(say).counter(str(shard), len(wanted.clips))
        preds = predict_resumed(stream, SPEC, order.cell.batch, done, counter)
    return part_of(preds, sent)


def refer(scene, say, order, shard, *sent) -> Part:
    """Answer for PyTorch, at once."""
    return part_of(expected(clips_of(scene, order, shard)), sent)


def part_of(preds: Predictions, sent: Sequence[SentCrops]) -> Part:
    decoder = sent[0].host if sent else ""
    return Part(host_name(), npz_from_predictions(preds), (), {}, decoder)


def expected(clip_set: ClipSet) -> Predictions:
    """Return what any chip says of these clips."""
    stream = stream_from_runner(lambda feed: {SPEC.output.name: scores_of(*feed.values())})
    given = samples(clip_set.clips)
    names, scores = zip(*scored_batches(stream, SPEC, CELL.batch, given), strict=True)
    ids = tuple(itertools.chain(*names))
    return Predictions(ids, np.concatenate(scores), {}, SPEC.protocol.averaging)


def conclude(scene, say, order, parcels, measured, *given) -> Delivery:
    record = Record(
        run_id="there",
        tier=order.tier,
        **dataclasses.asdict(order.cell),
        check=order.check,
        verdict=Verdict(status=Status.FAIL, reason="a host's word"),
        measurement=measured,
        weights="checkpoint",
        host_facts={"host": host_name()},
        is_device_present=True,
        started="2026-01-01T00:00:00+00:00",
        seconds=0.0,
    )
    return Delivery(host_name(), record.model_dump_json().encode(), {})


def samples(clips):
    """Stand in for decoding: a clip's tensor says its number."""
    for clip in clips:
        yield Sample(clip.id, np.full(TENSOR.shape[1:], float(clip.id), np.float32))


def scores_of(values):
    """Return scores that follow from the clip and from nothing else."""
    numbers = values.reshape(len(values), -1)[:, :1]
    return np.cos(numbers * np.arange(1, SPEC.class_count + 1)).astype(np.float32)


def mark(scene, line: str) -> None:
    if scene.marks is not None:
        with (scene.marks / "log").open("a") as file:
            file.write(line + "\n")


def wait_for_other(scene) -> None:
    """Wait for the host that is to fail: one that starts late would find nothing left to do."""
    if scene.awaited and host_name() not in scene.awaited:
        end_s = time.monotonic() + 60.0
        while scene.awaited not in marks_of(scene) and time.monotonic() < end_s:
            time.sleep(0.02)


def marks_of(scene) -> str:
    log = scene.marks / "log"
    return log.read_text() if log.exists() else ""


def is_due(scene, fault: str) -> bool:
    """Whether a fault may happen now: a chip fails after its first shard, so that there is something to keep."""
    return fault != "chip" or marks_of(scene).count(f"start {host_name()}") > 1


def fail(scene) -> None:
    """Trigger the fault of this host, once."""
    fault = scene.faults.get(host_name())
    if fault is None or scene.marks is None or not is_due(scene, fault):
        return
    try:
        (scene.marks / f"{host_name()}-{fault}").touch(exist_ok=False)
    except FileExistsError:
        return
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "slow":
        time.sleep(60.0)
    if fault == "frozen":
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault == "chip":
        raise RunError("the chip npu0 answers with error 507011")
    if fault == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
