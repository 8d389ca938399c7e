import dataclasses

import numpy as np
import pytest

from harness.errors import ClipError
from harness.predict.parity_inputs import parity_inputs


@pytest.mark.parametrize(
    ("count", "clips", "noise", "constant"),
    [(3, 1, 1, 1), (4, 2, 1, 1), (8, 6, 1, 1), (16, 14, 1, 1)],
)
def test_clips_come_first_then_noise_then_constants(
    narrow_spec, clip_set, count, clips, noise, constant
):
    inputs = parity_inputs(narrow_spec, clip_set, count)
    assert len(inputs.tensors) == len(inputs.ids) == count == inputs.counts.total
    found = (inputs.counts.clip, inputs.counts.noise, inputs.counts.constant)
    assert found == (clips, noise, constant)
    assert inputs.ids[:clips] == tuple(clip.id for clip in clip_set.clips[:clips])
    assert inputs.ids[clips:] == ("noise0", "constant+0")
    assert {tensor.shape for tensor in inputs.tensors} == {inputs.tensors[0].shape}
    assert {tensor.dtype for tensor in inputs.tensors} == {np.dtype(np.float32)}
    assert inputs.tensors[0].size == np.prod(narrow_spec.input.shape)


def test_sixty_four_inputs_have_every_constant(narrow_spec, clip_set):
    more = tuple(
        dataclasses.replace(clip_set.clips[number % 16], id=f"clip{number}") for number in range(60)
    )
    inputs = parity_inputs(narrow_spec, dataclasses.replace(clip_set, clips=more), 64)
    assert (inputs.counts.clip, inputs.counts.noise, inputs.counts.constant) == (56, 4, 4)
    assert inputs.ids[-4:] == ("constant+0", "constant+1", "constant-1", "constant+2.5")


def test_the_same_inputs_have_the_same_digest(narrow_spec, clip_set):
    first, again = (parity_inputs(narrow_spec, clip_set, 4) for _ in range(2))
    others = dataclasses.replace(clip_set, clips=clip_set.clips[2:])
    assert first.digest == again.digest != parity_inputs(narrow_spec, others, 4).digest


def test_an_unreadable_clip_is_named(narrow_spec, clip_set, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    clips = (clip_set.clips[0], dataclasses.replace(clip_set.clips[1], path=broken))
    with pytest.raises(ClipError, match=rf"parity needs clip {clips[1].id}: .*broken\.mp4"):
        parity_inputs(narrow_spec, dataclasses.replace(clip_set, clips=clips), 4)


def test_too_few_clips_are_no_parity(narrow_spec, clip_set):
    with pytest.raises(ClipError, match="needs 19 inputs, but clip set motion8 has only 16"):
        parity_inputs(narrow_spec, clip_set, 19)
