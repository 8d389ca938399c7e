import hashlib
import subprocess
import sys
import tomllib
from collections import Counter

import numpy as np
import pytest

from fixtures.motion8_batches import (
    SYMMETRIES,
    clip_cache,
    decoded_clip,
    symmetric_frames,
    symmetry_labels,
)
from fixtures.motion8_faults import reversed_views
from fixtures.tiny_models import (
    FIXTURES,
    MOTION8,
    checkpoint_path,
    frame_indices,
    held_out_labels,
    predictions,
    sha256_of,
    standard_views,
    trained_model,
)
from harness.data import motion8

MODELS = ("nonlocal_tiny", "timesformer_tiny")
SWAP_FLOOR = 0.90
TOP1_FLOORS = {"nonlocal_tiny": 0.97, "timesformer_tiny": 0.90}


@pytest.fixture(scope="module")
def manifest():
    return tomllib.loads((FIXTURES / "manifest.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def target():
    return [label for _, label in held_out_labels()]


@pytest.fixture(scope="module")
def clips():
    return [decoded_clip(MOTION8 / path) for path, _ in held_out_labels()]


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return request.param, trained_model(request.param)


def test_manifest_names_every_data_file(manifest):
    data = [*FIXTURES.glob("checkpoints/*"), *MOTION8.glob("*.*"), *MOTION8.glob("clips/*")]
    assert sorted(manifest["files"]) == sorted(str(p.relative_to(FIXTURES)) for p in data)


def test_manifest_digests_and_sizes_match(manifest):
    files = {name: (FIXTURES / name).read_bytes() for name in manifest["files"]}
    actual = {name: (len(c), hashlib.sha256(c).hexdigest()) for name, c in files.items()}
    assert actual == {name: (f["bytes"], f["sha256"]) for name, f in manifest["files"].items()}


def test_manifest_gives_a_source_and_a_licence_for_each_file(manifest):
    assert {f["licence"] for f in manifest["files"].values()} == {"Apache-2.0"}
    assert {f["source"] for f in manifest["files"].values()} == set(manifest["sources"])


def test_ships_at_least_400_clips_in_at_most_10_mb():
    paths = list(MOTION8.glob("clips/*.mp4"))
    assert len(paths) >= 400
    assert sum(path.stat().st_size for path in paths) <= 10_000_000


def test_every_class_has_60_clips_and_every_prefix_is_balanced(target):
    assert Counter(target) == dict.fromkeys(range(8), 60)
    assert all(set(target[start : start + 8]) == set(range(8)) for start in range(0, 480, 8))


def test_labels_and_classes_are_the_generators(target):
    seed = motion8.HELD_OUT_SEED
    assert target == [motion8.label_of(seed, index) for index in range(len(target))]
    assert (MOTION8 / "classes.txt").read_text().split() == list(motion8.CLASSES)


def test_clips_are_h264_yuv420p():
    import av

    with av.open(str(MOTION8 / "clips" / "0000.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (112, 72, 36)


def test_rendered_frames_are_the_same_bits_everywhere():
    scenes = [motion8.scene_from_seed(8, index) for index in range(8)]
    frames = np.stack([motion8.frames_from_scene(scene) for scene in scenes])
    assert hashlib.sha256(frames.tobytes()).hexdigest().startswith("e3757871615f78bc")


def test_shipped_clips_show_the_rendered_frames(clips):
    rendered = motion8.frames_from_scene(motion8.scene_from_seed(motion8.HELD_OUT_SEED, 3))
    assert np.abs(rendered.astype(int) - clips[3]).mean() < 4.0


def test_single_frames_have_the_same_law_in_paired_and_other_classes():
    states = {label: [] for label in range(8)}
    for index in range(4000):
        scene = motion8.scene_from_seed(5, index)
        states[scene.label].append(scene.target.states[0])
    stacked = [(np.array(states[label]) - motion8.LOWS) / motion8.SPANS for label in range(8)]
    assert np.abs(np.stack([s.mean(axis=0) for s in stacked]) - 0.5).max() < 0.06
    assert np.abs(np.stack([s.std(axis=0) for s in stacked]) - 12**-0.5).max() < 0.03


def test_generate_writes_a_list_that_mmaction2_reads(tmp_path):
    paths = list(motion8.generate(tmp_path, count=9, seed=4))
    lines = (tmp_path / "labels.txt").read_text().splitlines()
    assert [path.name for path in paths] == [f"{index:04d}.mp4" for index in range(9)]
    assert lines[8] == f"clips/0008.mp4 {motion8.label_of(4, 8)}"


def test_command_line_reports_what_it_wrote(tmp_path, capsys):
    motion8.main(["--out", str(tmp_path), "--count", "2", "--seed", "4"])
    assert capsys.readouterr().out.startswith("2 clips, ")


def test_generator_needs_no_heavy_import():
    code = "import sys, harness.data.motion8; print({'av', 'torch', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_training_on_the_held_out_seed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="held-out"):
        clip_cache(tmp_path, 8, motion8.HELD_OUT_SEED)


@pytest.mark.parametrize("matrix", SYMMETRIES, ids=str)
def test_symmetries_move_pixels_as_they_move_labels(matrix):
    frames = np.zeros((1, 5, 5, 3), np.uint8)
    frames[0, 2, 4] = 255  # to the right of the middle
    moved = np.argwhere(symmetric_frames(frames, matrix)[0, :, :, 0])[0]
    directions = {(2, 0): 0, (2, 4): 1, (0, 2): 2, (4, 2): 3}
    assert directions[tuple(int(v) for v in moved)] == symmetry_labels(matrix)[1]


@pytest.mark.parametrize("name", MODELS)
def test_checkpoint_is_small_and_named_by_its_digest(name):
    path = checkpoint_path(name)
    assert path.stat().st_size <= 4_000_000
    assert path.stem.split("-")[-1] == sha256_of(path)[:8]


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("nonlocal_tiny", [2, 6, 11, 15, 20, 24, 29, 33]),
        ("timesformer_tiny", [2, 6, 10, 14, 18, 22, 26, 30]),
    ],
)
def test_frames_are_those_of_mmaction2(name, indices):
    assert frame_indices(name, motion8.FRAMES) == indices


def test_nonlocal_tiny_has_five_non_local_blocks_and_a_shift_in_each_block():
    net = trained_model("nonlocal_tiny")
    kinds = Counter(type(module).__name__ for module in net.modules())
    assert (kinds["NonLocal3d"], kinds["TemporalShift"], kinds["Bottleneck"]) == (5, 16, 16)


def test_top1_on_the_shipped_clips_clears_the_floor(model, clips, target):
    name, net = model
    preds = predictions(name, net, clips, standard_views)
    assert np.mean(np.equal(preds, target)) >= TOP1_FLOORS[name]


def test_reversed_frames_swap_the_paired_classes(model, clips, target):
    name, net = model
    preds = predictions(name, net, clips, reversed_views)
    assert np.mean(np.equal(preds, np.array(target) ^ 1)) >= SWAP_FLOOR
