import dataclasses

import numpy as np

from harness.data.inputs import inputs_from_tensor
from harness.registry import model_spec
from harness.spec import TensorSpec
from tests.bare_onnx import FRAMES, slow_fast_spec


def numbered(shape, frames_at):
    """A tensor whose values are the numbers of their frames."""
    count = shape[frames_at]
    numbers = np.arange(count, dtype=np.float32).reshape(
        [-1 if at == frames_at else 1 for at in range(len(shape))]
    )
    return np.broadcast_to(numbers, shape)


def test_each_of_several_inputs_takes_its_frames():
    spec = slow_fast_spec()
    feed = inputs_from_tensor(spec, numbered(spec.protocol.sample_shape, 2))
    assert [feed[one.name].shape for one in spec.inputs] == [one.shape for one in spec.inputs]
    assert [tuple(feed[one.name][0, 0, :, 0, 0]) for one in spec.inputs] == list(FRAMES)


def test_frames_are_counted_in_each_clip_where_a_layout_joins_them():
    whole = model_spec("nonlocal_tiny")
    protocol = dataclasses.replace(whole.protocol, crop_count=3)
    halves = tuple(TensorSpec(name, (1, 6, 3, 64, 64)) for name in "ab")
    spec = dataclasses.replace(whole, protocol=protocol, input=halves, frames=((0, 7), (2, 3)))
    feed = inputs_from_tensor(spec, numbered(protocol.sample_shape, 0))
    assert feed["a"][0, :, 0, 0, 0].tolist() == [0, 7, 8, 15, 16, 23]
    assert feed["b"][0, :, 0, 0, 0].tolist() == [2, 3, 10, 11, 18, 19]
