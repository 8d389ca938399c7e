import dataclasses
from pathlib import Path

import numpy as np
import pytest

from harness.clips import Clip, Sample
from harness.data.bins import write_bins
from harness.data.loading import Unreadable
from harness.errors import ClipError
from harness.registry import model_spec
from harness.spec import TensorSpec
from tests.bare_onnx import slow_fast_spec

CLIPS = tuple(Clip(f"clip {number}", Path("x"), 10 + number) for number in range(5))


@pytest.fixture(params=["nonlocal_r50", "timesformer"])
def spec(request):
    """A guide's model, its pictures smaller."""
    full = model_spec(request.param)
    shape = (*full.input.shape[:-2], 4, 4)
    return dataclasses.replace(full, input=TensorSpec(full.input.name, shape))


def items(spec, skip=None):
    for number, clip in enumerate(CLIPS):
        if number == skip:
            yield Unreadable(clip.id, "broken")
        else:
            yield Sample(clip.id, np.full(spec.input.shape[1:], number + 1, np.float32))


@pytest.mark.parametrize(
    ("batch", "files", "padding"), [(1, 5, 0), (2, 3, 1), (5, 1, 0), (8, 1, 3)]
)
def test_a_file_is_a_batch_and_the_last_is_filled_up(tmp_path, spec, batch, files, padding):
    out = tmp_path / "out_bin"
    written = write_bins(out, spec, batch, CLIPS, items(spec))
    assert (written.files, written.clips, written.padding) == (files, 5, padding)
    names = sorted(path.name for path in out.glob("*.bin"))
    assert names == [f"{number}.bin" for number in range(files)]
    batches = [np.fromfile(out / name, np.float32) for name in names]
    shape = (batch, *spec.input.shape[1:])
    values = np.concatenate([data.reshape(shape) for data in batches])
    firsts = values.reshape(len(values), -1)
    assert firsts[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, *[0.0] * padding]
    assert (firsts == firsts[:, :1]).all()
    assert (out / "k400.info").read_text() == "0 10\n1 11\n2 12\n3 13\n4 14\n"
    assert (out / "k400.clips").read_text().splitlines()[4] == "4 clip 4"


def test_an_unreadable_clip_has_no_number(tmp_path, spec):
    written = write_bins(tmp_path / "o", spec, 2, CLIPS, items(spec, skip=1))
    assert (written.files, written.clips, written.unreadable) == (2, 4, ("clip 1: broken",))
    assert (tmp_path / "o/k400.info").read_text() == "0 10\n1 12\n2 13\n3 14\n"


def test_old_files_are_not_mixed_with_new_ones(tmp_path, spec):
    (tmp_path / "7.bin").touch()
    with pytest.raises(ClipError, match="is not empty"):
        write_bins(tmp_path, spec, 1, CLIPS, items(spec))


def test_a_folder_that_cannot_be_written_is_said(tmp_path, spec):
    (tmp_path / "file").touch()
    with pytest.raises(ClipError, match="cannot write the guides' files"):
        write_bins(tmp_path / "file", spec, 1, CLIPS, items(spec))


def test_each_of_several_inputs_has_a_folder(tmp_path):
    spec = slow_fast_spec()
    frames = np.arange(8, dtype=np.float32)[:, None, None]
    clip = np.broadcast_to(frames, spec.protocol.sample_shape)
    written = write_bins(tmp_path / "o", spec, 2, CLIPS, (Sample(c.id, clip) for c in CLIPS))
    assert (written.files, written.padding) == (3, 1)
    for one, taken in zip(spec.inputs, spec.frames, strict=True):
        names = sorted(path.name for path in (tmp_path / "o" / one.name).iterdir())
        assert names == ["0.bin", "1.bin", "2.bin"]
        whole = np.fromfile(tmp_path / "o" / one.name / "0.bin", np.float32)
        assert whole.reshape(one.batched(2).shape)[1, 0, :, 0, 0].tolist() == list(taken)
