"""Every reader of files from outside, with a file that it takes.

A reader gives a value or raises an error of the suite, whatever is in the file.
"""

import dataclasses
import datetime
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from benchmarks.simulated import SimulatedNight, simulated_run
from harness.build.onnx_file import proto_from_file
from harness.build.torch_model import state_dict_from_checkpoint
from harness.clips import Clip, ClipSet
from harness.contract.thresholds import migrated_toml, thresholds_from_file
from harness.data.clip_files import frame_count
from harness.data.kinetics import clip_set_from_list
from harness.data.labels import names_from_map
from harness.data.loading import crops_from_clip
from harness.data.manifest import clip_set_from_manifest, read_manifest, write_manifest
from harness.data.scan import Source, scan
from harness.data.store import CropStore
from harness.data.store_list import kept_stores
from harness.data.transforms import jpeg_from_frame
from harness.errors import HarnessError
from harness.host.lock_notes import read_owner, write_note
from harness.host.provenance import read_entry, request_from_inputs, write_provenance
from harness.host.reading import array_from_npy, arrays_from_npz
from harness.host.site import FIXTURES, load_site
from harness.measure.soak import soak_measurement
from harness.measure.soak_lines import SoakPlan, SoakSample, Stretch, soak_lines
from harness.measure.startup import StartTiming
from harness.nightly.baseline import freeze, read_baseline, write_baseline
from harness.nightly.history import History
from harness.predict.journal import Journal
from harness.record.recompute import session_timings, start_timings
from harness.record.record import RunDirectory
from harness.registry import model_spec
from harness.runtimes.ascend.ais_bench_result import arrays_from_summary, summary_from_file
from harness.runtimes.ascend.dump_file import dump_from_file
from harness.runtimes.ascend.npu_smi_table import (
    TableError,
    logic_ids_from_text,
    properties_from_text,
    report_from_text,
)
from harness.runtimes.ascend.om_graph import operators_from_json
from harness.sign.bundle import Bundle
from harness.sign.keys import read_public_key, signer_from_file, write_key_pair
from harness.sign.sign import sign
from harness.sign.verify import verify
from harness.spec import Cell, InputProtocol, TensorSpec
from tests.bare_onnx import slow_fast_proto
from tests.made import ROOT
from tests.signed_run import NOW, write_run

TODAY = NOW.date()
NAMES = tuple(f"class {number}" for number in range(8))


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader: the file that it takes, how it is called, and what it may raise."""

    name: str
    path: Path
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...] = (HarnessError,)

    def outcome(self, content: bytes) -> str:
        """Give the reader a file of this content, and return whether it took or refused it."""
        self.path.write_bytes(content)
        try:
            self.read(self.path)
        except self.errors:
            return "refused"
        return "taken"


def readers(
    root: Path, decode: Callable[[Clip, InputProtocol], object] = crops_from_clip
) -> dict[str, Reader]:
    """Make a valid file for every reader, each in a folder of its own below ``root``.

    ``decode`` may end with BrokenProcessPool where a decoder crashes.
    """
    made = [
        *contracts(root),
        *lists(root),
        *clips(root, decode),
        *runs(root),
        *keys_and_signatures(root),
        *nights(root),
        *kept(root),
        *tools(root),
        *insides(root),
        *arrays(root),
    ]
    return {reader.name: reader for reader in made}


def planted(root: Path, name: str, content: bytes | str) -> Path:
    path = root / name / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def contracts(root):
    text = (ROOT / "thresholds.toml").read_text()
    yield Reader("thresholds", planted(root, "thresholds", text), thresholds_from_file)
    old = (ROOT / "tests/contract/schema_1.toml").read_text()
    yield Reader(
        "thresholds of schema 1", planted(root, "thresholds of schema 1", old), migrated_toml
    )
    site = f"cache_dir = 'c'\n[datasets.m]\nlist = '{FIXTURES}/motion8/labels.txt'\nroot = '/'\n"
    read = lambda path: load_site(path, {"HOME": "/h"})
    yield Reader("site", planted(root, "site", site), read)


def lists(root):
    folder = FIXTURES / "motion8"
    lines = (folder / "labels.txt").read_text().splitlines()[:5]
    names = tuple((folder / "classes.txt").read_text().split())
    listing = planted(root, "clip list", "\n".join(lines) + "\n")
    yield Reader("clip list", listing, lambda path: clip_set_from_list(path, names, folder))
    yield Reader("label map", planted(root, "label map", "\n".join(names)), names_from_map)
    ids = json.dumps({name: number for number, name in enumerate(names)})
    yield Reader("label map in JSON", planted(root, "label map in JSON", ids), names_from_map)
    source = Source(folder, names, "motion8")
    found = scan(dataclasses.replace(source, listing=listing))
    path = root / "manifest" / "manifest"
    write_manifest(found, path)
    yield Reader("manifest", path, lambda path: clip_set_from_manifest(read_manifest(path)))
    read = lambda path: scan(dataclasses.replace(source, listing=path))
    yield Reader("scanned list", planted(root, "scanned list", "\n".join(lines)), read)
    rows = "".join(f"{names[0]},{Path(line.split()[0]).stem},1,11\n" for line in lines)
    table = planted(root, "annotations", f"label,youtube_id,time_start,time_end\n{rows}")
    read = lambda path: scan(dataclasses.replace(source, annotations=path))
    yield Reader("annotations", table, read)


def clips(root, decode):
    protocol = model_spec("nonlocal_tiny").protocol
    content = next((FIXTURES / "motion8" / "clips").rglob("*.mp4")).read_bytes()
    path = planted(root, "clip", content).with_suffix(".mp4")
    path.write_bytes(content)
    read = lambda path: (frame_count(path), decode(Clip("c", path, 0), protocol))
    yield Reader("clip", path, read, (HarnessError, BrokenProcessPool))
    frame = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    raw = dataclasses.replace(protocol, source="rawframes")
    folder = root / "raw frame"
    folder.mkdir()
    for number in range(1, 9):
        (folder / f"img_{number:05}.jpg").write_bytes(jpeg_from_frame(frame, 0))
    read = lambda path: crops_from_clip(Clip("c", path.parent, 0), raw)
    yield Reader("raw frame", folder / "img_00001.jpg", read)


def runs(root):
    run = write_run(root / "run")
    yield Reader("run.json", run.root / "run.json", lambda path: facts_of(path.parent))
    other = shutil.copytree(run.root, root / "records")
    yield Reader(
        "records.jsonl", other / "records.jsonl", lambda path: RunDirectory(path.parent).records()
    )
    (timed,) = (one for one in run.records() if "latencies" in one.raw)
    latencies = planted(root, "latencies", run.read(timed, "latencies"))
    yield Reader("latencies", latencies, lambda path: session_timings(timed, Raw(path)))
    start = StartTiming(cache="cold", load_ms=90.0, first_ms=20.0)
    starts = planted(root, "starts", start.model_dump_json().encode())
    yield Reader("starts", starts, lambda path: start_timings(timed, Raw(path)))
    stretch = Stretch(start_s=0.0, end_s=60.0, queries=600, busy_s=59.0)
    plan, sample = SoakPlan(seconds=60.0, interval_s=1.0), SoakSample(at_s=1.0, power_w=38.5)
    text = "\n".join(line.model_dump_json() for line in (plan, sample, stretch))
    soak = planted(root, "soak", text.encode())
    yield Reader("soak", soak, lambda path: soak_measurement(soak_lines(path.read_bytes()), 1))


@dataclasses.dataclass
class Raw:
    """A run with one raw file, whatever the record says."""

    path: Path

    def read(self, record, what):
        return self.path.read_bytes()


def facts_of(folder):
    facts = RunDirectory(folder).facts()
    return facts.started_on, facts.faults, facts.must_pass, RunDirectory(folder).raw.digest(b"")


def keys_and_signatures(root):
    folder = root / "keys"
    folder.mkdir()
    public = write_key_pair(folder / "key", "R. Eleaser", datetime.date(2027, 1, 1))
    trusted = read_public_key(public)
    run = write_run(root / "signed")
    sign(Bundle(run.root), folder / "key", None, "release", NOW)
    bundle = Bundle(run.root)
    check = lambda path: verify(bundle, [trusted], TODAY)
    yield Reader("test result", bundle.test_result, check)
    other = Bundle(shutil.copytree(run.root, root / "summary"))
    yield Reader("summary", other.summary, lambda path: verify(other, [trusted], TODAY))
    spare = shutil.copytree(folder, root / "spare keys")
    yield Reader("public key", spare / public.name, lambda path: read_public_key(path).key())
    private = spare / "private"
    shutil.copy(folder / "key", private)
    shutil.copy(public, spare / f"private{''.join(public.suffixes)}")
    private.chmod(0o600)
    yield Reader("private key", private, signer_from_file)


def nights(root):
    contract = thresholds_from_file(ROOT / "thresholds.toml")
    cells = (Cell("nonlocal_tiny", "cpu", 1),)
    run = simulated_run(root / "nights", contract, cells, SimulatedNight(0))
    history = History(root / "history.sqlite")
    history.append(run)
    yield Reader("history", history.path, lambda path: (history.series(), history.nights()))
    path = root / "baseline.json"
    write_baseline(freeze([run], "*", "R. Viewer", "release", TODAY), path)
    yield Reader("baseline", path, read_baseline)


def kept(root):
    folder = root / "entry"
    folder.mkdir()
    request = request_from_inputs("onnx", "m.onnx", {"a": 1})
    (folder / "m.onnx").write_bytes(b"model")
    write_provenance(folder, request, {}, 1.0)
    yield Reader("provenance", folder / "provenance.json", lambda path: read_entry(folder, request))
    clip_set = ClipSet("s", tuple(Clip(name, Path(name), 0) for name in "abc"), NAMES, "d" * 64)
    store = CropStore(root / "crops", model_spec("nonlocal_tiny").protocol, clip_set)
    with store.filling():
        for clip in clip_set.clips:
            store.commit(clip, "00c0ffee", "" if clip.id == "a" else "odd")
    journal, about = store.folder / "journal.jsonl", store.folder / "about.json"
    yield Reader("crop journal", journal, lambda path: crops_of(root, clip_set))
    yield Reader("crop store", about, lambda path: list(kept_stores(root / "crops")))
    scores = Journal(root / "scores", model_spec("nonlocal_tiny"), clip_set.clips)
    scores.append(["a", "b"], np.zeros((2, 1, 8), np.float32))
    yield Reader("score journal", scores.path, lambda path: scores.scores())
    write_note(root / "lock")
    yield Reader("lock note", root / "lock.owner", lambda path: read_owner(root / "lock"))


def crops_of(root, clip_set):
    store = CropStore(root / "crops", model_spec("nonlocal_tiny").protocol, clip_set)
    return [(store.entry(clip), store.read(clip)) for clip in clip_set.clips]


def tools(root):
    summary = {
        "filesinfo": {"0": {"infiles": ["in/000000.bin"], "outfiles": ["000000_0.npy"]}},
        "npu_compute_time_list": [1.0, 2.0],
        "H2D_latency": {"mean": 0.1},
        "D2H_latency": {"mean": 0.1},
    }
    path = planted(root, "ais_bench summary", json.dumps(summary))
    (path.parent / "000000_0.npy").write_bytes(npy(np.zeros((1, 8), np.float32)))
    output = TensorSpec("class", (1, 8))
    read = lambda path: arrays_from_summary(summary_from_file(path, path), ["000000"], output)
    yield Reader("ais_bench summary", path, read)
    table = (ROOT / "tests/runtimes/ascend/npu_smi/310P3_24.1.0.1_processes.txt").read_text()
    yield Reader("npu-smi table", planted(root, "npu-smi table", table), npu_smi, (TableError,))


def insides(root):
    """What tells about the inside of an offline model: a dump of an operator, and its graph."""
    tensor = field(1, 1) + field(2, 2) + field(3, field(1, bytes([1, 8]))) + field(6, 32)
    header = field(1, b"2.0") + field(3, tensor) + field(6, b"/c/Conv")
    content = len(header).to_bytes(8, "little") + header + bytes(32)
    yield Reader("operator dump", planted(root, "operator dump", content), dumped)
    desc = {"dtype": "DT_FLOAT16", "shape": {"dim": [2, 16]}, "attr": []}
    names = {"key": "_datadump_original_op_names", "value": {"list": {"s": ["/c/Relu"]}}}
    one = {"name": "r", "type": "Relu", "id": 1, "attr": [names], "input": ["d:0"]}
    graph = json.dumps({"graph": [{"op": [{**one, "output_desc": [desc]}]}]})
    read = lambda path: operators_from_json(path.read_text(errors="replace"))
    yield Reader("graph of an .om", planted(root, "graph of an .om", graph), read)


def field(number, value):
    """Return a field of a protobuf message; numbers and lengths are below 128."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def dumped(path):
    dump = dump_from_file(path)
    return [tensor.array() for tensor in (*dump.inputs, *dump.outputs)]


def npu_smi(path):
    text = path.read_text(errors="replace")
    return logic_ids_from_text(text), properties_from_text(text), report_from_text(text)


def arrays(root):
    content = io.BytesIO()
    np.savez_compressed(content, a=np.zeros(9), b=np.array(["x", "yy"]))
    path = planted(root, "npz", content.getvalue())
    yield Reader("npz", path, arrays_from_npz, (ValueError, OSError))
    path = planted(root, "npy", npy(np.zeros((1, 8), np.float32)))
    yield Reader("npy", path, lambda path: array_from_npy(path.read_bytes()), (ValueError,))
    yield Reader("checkpoint", planted(root, "checkpoint", checkpoint()), weights_of)
    proto = slow_fast_proto().SerializeToString()
    yield Reader("onnx_file", planted(root, "onnx_file", proto), proto_from_file)


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def checkpoint():
    import torch

    content = io.BytesIO()
    torch.save({"state_dict": {"w": torch.ones(3)}}, content)
    return content.getvalue()


def weights_of(path):
    is_small = path.is_file() and path.stat().st_size < 1 << 30
    content = path.read_bytes() if is_small else b""
    named = path.with_name(f"m-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    try:
        named.symlink_to(path)
        return state_dict_from_checkpoint(named)
    finally:
        named.unlink(missing_ok=True)
