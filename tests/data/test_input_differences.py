"""Explanations of single arrays; whole faults are planted in check/test_suite_inputs.py."""

import dataclasses
import re

import numpy as np
import pytest

from harness.data.input_differences import input_difference
from harness.data.known_inputs import known_clips, known_input_from_steps
from harness.data.loading import steps_from_clip
from harness.registry import model_spec


@pytest.fixture(scope="module")
def steps():
    return steps_from_clip(known_clips()[0], model_spec("timesformer_tiny").protocol)


@pytest.fixture(scope="module")
def known(steps):
    return known_input_from_steps("clips/0011", steps)


def moved(rows, columns):
    return lambda crops: np.roll(crops, (rows, columns), axis=(2, 3))


CHANGES = {
    "a shape": ("frames", lambda frames: frames[:, :-1], r"decode: the shape is \[8, 71, 112, 3\]"),
    "a move down": ("crops", moved(2, 0), r"crop: the picture lies \+0 pixels across and \+2 down"),
    "a move left": ("crops", moved(0, -1), r"crop: the picture lies -1 pixels across and \+0 down"),
    "two crops": (
        "crops",
        lambda crops: crops[[1, 0, 2]],
        r"order: frame 8 at place 0, 9 at place 1",
    ),
    "a repeated frame": (
        "frames",
        lambda frames: frames[[0, 0, 2, 3, 4, 5, 6, 7]],
        r"order: frame 0 at place 1$",
    ),
    "a rounding": ("tensor", lambda tensor: tensor + np.float32(1e-6), r"normalise: \d+ of"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_one_step_is_named(steps, known, name):
    step, change, reason = CHANGES[name]
    seen = dataclasses.replace(steps, **{step: change(getattr(steps, step))})
    difference = input_difference(known, seen, is_exact=True)
    assert difference is not None
    assert re.match(reason, difference), difference
    assert input_difference(known, steps, is_exact=True) is None


def test_decoders_may_round_otherwise_but_not_move_anything(steps, known):
    noise = np.random.default_rng(3).integers(-2, 3, steps.frames.shape)
    near = np.clip(steps.frames + noise + 1, 0, 255).astype(np.uint8)
    seen = dataclasses.replace(steps, frames=near)
    assert input_difference(known, seen, is_exact=False) is None
    assert input_difference(known, seen, is_exact=True) is not None
    far = dataclasses.replace(steps, frames=np.roll(near, 3, axis=2))
    assert input_difference(known, far, is_exact=False) is not None
    bright = dataclasses.replace(steps, tensor=steps.tensor + np.float32(4 / 127.5))
    assert input_difference(known, bright, is_exact=False) is not None
