import hashlib

import numpy as np
import pytest

from harness.data.known_inputs import (
    CLIP_IDS,
    POINTS,
    decoding_environment,
    inner_points,
    known_clips,
    known_inputs,
    points_of_images,
    sketch_from_array,
)
from harness.data.video import decoders
from harness.errors import InvalidMeasurement
from harness.host.environment import rounding_facts


@pytest.mark.parametrize(
    ("array", "points"),
    [
        (np.arange(2 * 3 * 40 * 50 * 3).astype(np.uint8).reshape(2, 3, 40, 50, 3), (6, POINTS, 3)),
        (np.arange(2 * 3 * 40 * 50, dtype=np.float32).reshape(2, 3, 40, 50), (6, POINTS, 1)),
    ],
)
def test_a_sketch_keeps_the_values_at_its_points(array, points):
    sketch = sketch_from_array(array)
    assert sketch.shape == array.shape
    assert sketch.points().shape == points
    np.testing.assert_array_equal(sketch.points(), points_of_images(array))
    assert sketch.sha256 == hashlib.sha256(array.tobytes()).hexdigest()


def test_the_points_lie_all_over_an_image():
    places = np.arange(64 * 64, dtype=np.float32).reshape(1, 64, 64)
    rows, columns = divmod(points_of_images(places).ravel().astype(int), 64)
    assert len(set(zip(rows // 8, columns // 8, strict=True))) == 64
    moved = points_of_images(places, (2, -1)).ravel()
    inner = inner_points(places, 2)
    assert inner.sum() > 200
    np.testing.assert_array_equal(moved[inner], ((rows + 2) * 64 + columns - 1)[inner])


def test_the_known_clips_are_there():
    assert tuple(clip.id for clip in known_clips()) == CLIP_IDS


def test_the_environment_names_the_processor_and_the_builds_of_the_decoders():
    facts = decoding_environment()
    builds = set(decoders())
    assert {"av", "numpy"} < builds
    assert facts.keys() == {"machine", "cpu.model", "cpu.isa", *builds} | rounding_facts().keys()
    assert len({facts[name] for name in builds}) == len(builds)


def test_known_answers_that_are_missing_or_damaged(tmp_path):
    path = tmp_path / "inputs.json"
    with pytest.raises(InvalidMeasurement, match="cannot be read"):
        known_inputs("0" * 64, path)
    path.write_text("{}")
    with pytest.raises(InvalidMeasurement, match="is not the contract's: its sha256 is 44136fa3"):
        known_inputs("0" * 64, path)
    with pytest.raises(InvalidMeasurement, match=r"inputs\.json"):
        known_inputs(hashlib.sha256(b"{}").hexdigest(), path)
