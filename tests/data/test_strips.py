import base64
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from harness.clips import Predictions
from harness.data.datasets import motion8
from harness.data.strips import FRAME_HEIGHT, STRIPS_MAX, raw_strips
from harness.measure.accuracy import accuracy_measurement
from harness.measure.strips import Strips
from harness.registry import model_spec

PROTOCOL = model_spec("nonlocal_tiny").protocol


@pytest.fixture(scope="module")
def clips():
    whole = motion8()
    return dataclasses.replace(whole, clips=whole.clips[:30], is_whole=False)


def predictions(clips, best):
    scores = np.zeros((len(clips.clips), 1, 8), dtype=np.float32)
    for row, place in enumerate(best):
        scores[row, 0, place] = 2.0
        scores[row, 0, (place + 1) % 8] = 0.5
    return Predictions(tuple(clip.id for clip in clips.clips), scores)


def strips_of(clips, flipped):
    labels = [clip.label for clip in clips.clips]
    ours = [(label + 1) % 8 if row < flipped else label for row, label in enumerate(labels)]
    both = predictions(clips, ours), predictions(clips, labels)
    measured = accuracy_measurement(both[0], clips, both[1])
    return raw_strips(measured.paired, clips, PROTOCOL, both)


def test_flipped_clips_keep_the_frames_that_the_model_saw(clips):
    import cv2

    content, suffix = strips_of(clips, 2)["strips"]
    strips = Strips.from_json(content)
    assert (suffix, strips.flip_count, len(strips.strips)) == (".json", 2, 2)
    first = strips.strips[0]
    assert (first.reference_margin, first.device_margin) == (1.5, 1.5)
    assert strips.class_names[str(first.label)] == clips.class_names[first.label]
    data = np.frombuffer(base64.b64decode(first.jpeg), dtype=np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert picture.shape == (FRAME_HEIGHT, PROTOCOL.frame_count * FRAME_HEIGHT, 3)


def test_no_flip_leaves_no_file(clips):
    assert strips_of(clips, 0) == {}
    assert raw_strips(None, clips, PROTOCOL, (None, None)) == {}


def test_at_most_so_many_are_kept(clips):
    strips = Strips.from_json(strips_of(clips, 30)["strips"][0])
    assert (strips.flip_count, len(strips.strips)) == (30, STRIPS_MAX)


def test_a_clip_that_is_not_at_hand_is_told(clips):
    gone = [dataclasses.replace(clip, path=Path("/absent.mp4")) for clip in clips.clips]
    strips = Strips.from_json(
        strips_of(dataclasses.replace(clips, clips=tuple(gone)), 1)["strips"][0]
    )
    assert strips.strips[0].jpeg == ""
    assert "absent.mp4" in strips.strips[0].missing


def test_an_answer_that_is_missing_has_no_margin(clips):
    labels = [clip.label for clip in clips.clips]
    none = Predictions((), np.zeros((0, 1, 8), dtype=np.float32), {})
    both = none, predictions(clips, labels)
    measured = accuracy_measurement(none, clips, both[1])
    strips = Strips.from_json(raw_strips(measured.paired, clips, PROTOCOL, both)["strips"][0])
    assert strips.strips[0].device_class == -1
    assert strips.strips[0].device_margin is None
