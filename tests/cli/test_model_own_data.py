"""A user's own configuration and data set, laid out as published: from the disk to a verdict."""

import hashlib
import json
import sys

import av
import pytest

from benchmarks.zoo import shrunk
from harness.__main__ import main
from harness.build.workbench import Workbench
from harness.check.suite import Suite
from harness.contract.thresholds import thresholds_from_file
from harness.data.datasets import motion8
from harness.data.manifest import clip_set_from_manifest, read_manifest
from harness.data.rawframes import extract_clip
from harness.data.video import iterate_frames
from harness.host.progress import Progress
from harness.host.site import load_site
from harness.record.record import new_run_directory
from harness.registry import model_spec
from harness.spec import Cell, Status
from harness.zoo.config import config_from_file, config_path
from harness.zoo.model import model_spec_from_config
from tests.conftest import fitted_checkpoint
from tests.made import run_facts

CLIPS = motion8().clips[:16]
NAMES = [name.title().replace("_", "") for name in motion8().class_names]
CONFIG = """
_base_ = "{base}"
model = dict(
    backbone=dict(type="NarrowResNetTSM", base_channels=4, pretrained=None),
    cls_head=dict(num_classes=8, in_channels=128),
)
data = dict(test=dict(ann_file="data/{name}/list.txt", pipeline={pipeline}))
"""


def ucf101(folder):
    """Folders of classes with AVI files, a list of mmaction2 and its label map."""
    lines = []
    for number, clip in enumerate(CLIPS):
        name = f"{NAMES[clip.label]}/v_{NAMES[clip.label]}_g01_c{number:02}.avi"
        write_avi(clip.path, folder / "clips" / name)
        lines.append(f"{name} {clip.label}\n")
    (folder / "labels").write_text("\n".join(NAMES))
    return lines


def sthv2(folder):
    """Raw frames in folders that have a number, and labels in JSON with ids in quotes."""
    ids = {f"Moving [something] {name}": str(label) for label, name in enumerate(NAMES)}
    (folder / "labels").write_text(json.dumps(ids))
    return list(frame_folders(folder / "clips"))


def jester(folder):
    """As sthv2, but frames have a number alone, and a line of the labels is a name."""
    lines = list(frame_folders(folder / "clips"))
    for path in list((folder / "clips").glob("*/*.jpg")):
        path.rename(path.with_name(path.name.removeprefix("img_")))
    (folder / "labels").write_text("\r\n".join(NAMES) + "\r\n")
    return lines


def write_avi(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    frames = list(iterate_frames(source))
    with av.open(str(target), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qscale": "2"})
        stream.height, stream.width = frames[0].shape[:2]
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def frame_folders(folder):
    for number, clip in enumerate(CLIPS, start=74225):
        done = extract_clip(clip, folder / str(number), 0)
        yield f"{number} {done.frames} {clip.label}\n"


BASES = {
    ucf101: "tsm_r50_video_1x1x8_50e_kinetics400_rgb.py",
    sthv2: "tsm_r50_1x1x8_50e_sthv2_rgb.py",
    jester: "tsm_r50_1x1x8_50e_jester_rgb.py",
}


@pytest.fixture(params=BASES, ids=lambda made: made.__name__)
def user(request, torch, tmp_path, monkeypatch):
    """A user's folder: clips and their list, scanned; a configuration; a checkpoint; site.toml."""
    name = request.param.__name__
    if request.param is ucf101:
        pytest.importorskip("decord", reason="without decord AVI files are refused by name")
    lines = request.param(tmp_path)
    (tmp_path / "list.txt").write_text("".join(lines))
    base = config_path(f"recognition/tsm/{BASES[request.param]}")
    pipeline = shrunk(config_from_file(base), 7).part("data", "test", "pipeline")
    config = tmp_path / f"{name}.py"
    config.write_text(CONFIG.format(base=base, name=name, pipeline=pipeline))
    manifest = tmp_path / "manifest"
    words = ["--list", tmp_path / "list.txt", "--label-map", tmp_path / "labels", "--name", name]
    scan = ["dataset", "scan", tmp_path / "clips", *words, "--output", manifest]
    assert main(list(map(str, scan))) == 0
    clips = clip_set_from_manifest(read_manifest(manifest))
    content = fitted_checkpoint(torch, model_spec_from_config(str(config), "none"), clips)
    checkpoint = tmp_path / f"mine-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    checkpoint.write_bytes(content)
    (tmp_path / "site.toml").write_text(
        f'cache_dir = "cache"\nrun_root = "runs"\nlock_dir = "locks"\ncheckpoints = ["."]\n'
        f'[datasets.{name}]\nmanifest = "manifest"\n'
    )
    monkeypatch.setenv("ACCEPTANCE_SITE", str(tmp_path / "site.toml"))
    return name, config, checkpoint


@pytest.mark.usefixtures("in_process")
def test_a_users_configuration_and_data_set_get_a_verdict(
    user, contract, tmp_path, monkeypatch, capsys
):
    name, config, checkpoint = user
    words = ["--name", f"my_{name}", "--top1", "0.9", "--source", "our training"]
    monkeypatch.chdir(tmp_path)
    added = ["model", "add", config.name, checkpoint.name, *words, "--thresholds", str(contract)]
    assert main(added) == 0
    assert (model_spec(f"my_{name}").config, model_spec(f"my_{name}").dataset) == (
        str(config),
        name,
    )
    assert main(["run", f"my_{name}"]) == 0
    printed = capsys.readouterr().out
    thresholds = thresholds_from_file(contract)
    run = new_run_directory(tmp_path / "runs")
    run.write_facts(run_facts(run, thresholds))
    bench = Workbench(
        load_site(tmp_path / "site.toml", {}), tmp_path / "logs", Progress(sys.stderr)
    )
    record = Suite(thresholds, "nightly", bench, run).check(
        Cell(f"my_{name}", "cpu", 1), "accuracy"
    )
    assert record.verdict.status is Status.PASS, record.verdict.reason
    right = record.measurement.top1
    assert (right.n, right.k >= 15) == (16, True)
    assert f"my_{name}-cpu-bs1: {right.k} of 16 clips right (top-1)" in printed
