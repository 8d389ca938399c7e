import collections
import hashlib
import io
import os
import pickle
import re
import warnings
import zipfile

import pytest

from harness.build.torch_model import (
    check_checkpoint_digest,
    state_dict_from_checkpoint,
    torch_model_from_spec,
)
from harness.errors import CheckpointError


def saved(content, **options):
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.fixture
def checkpoint(tmp_path):
    """Write bytes under a name that ends in their digest."""

    def write(content):
        path = tmp_path / f"model-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        path.write_bytes(content)
        return path

    return write


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        state_dict_from_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_gives_its_weights(checkpoint, narrow_timesformer, timesformer_model, torch):
    state = {k: v + 1 for k, v in timesformer_model.recognizer.state_dict().items()}
    path = checkpoint(saved({"meta": {"epoch": 15}, "state_dict": collections.OrderedDict(state)}))
    model = torch_model_from_spec(narrow_timesformer, path)
    assert not any(module.training for module in model.modules())
    for name, tensor in model.recognizer.state_dict().items():
        torch.testing.assert_close(tensor, state[name])


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_bare_state_dict_in_either_format_is_read(checkpoint, torch, options):
    weights = state_dict_from_checkpoint(checkpoint(saved({"w": torch.ones(2)}, **options)))
    assert list(weights) == ["w"]


def test_a_missing_checkpoint(tmp_path):
    assert "cannot be read: No such file or directory" in refusal(tmp_path / "m-12345678.pth")


@pytest.mark.parametrize("name", ["m-12345678.pth", "m-1.pth", "m-.pth", "weights.pth"])
def test_a_digest_that_does_not_fit_the_name(tmp_path, torch, name):
    path = tmp_path / name
    path.write_bytes(saved({"w": torch.ones(2)}))
    message = refusal(path)
    assert "damaged or renamed" in message
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] in message


def test_a_short_suffix_is_no_promise(tmp_path, torch):
    content = saved({"w": torch.ones(2)})
    path = tmp_path / f"m-{hashlib.sha256(content).hexdigest()[:7]}.pth"
    path.write_bytes(content)
    assert "damaged or renamed" in refusal(path)


def test_the_whole_digest_is_returned(checkpoint):
    path = checkpoint(b"anything")
    assert check_checkpoint_digest(path) == hashlib.sha256(b"anything").hexdigest()


def test_a_truncated_download_is_told_by_its_digest(checkpoint, torch):
    path = checkpoint(saved({"w": torch.ones(999)}))
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged or renamed" in refusal(path)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kept", [0, 10, 100, 2000, -30])
def test_a_truncated_file_under_its_own_digest(checkpoint, torch, old, kept):
    content = saved({"w": torch.ones(999)}, _use_new_zipfile_serialization=not old)
    assert "fetch it again" in refusal(checkpoint(content[:kept]))


@pytest.mark.parametrize("content", [b"<html>404</html>" * 9, b"\x80\x02.", b"\x80\x04\x95." * 9])
def test_a_file_that_is_no_checkpoint(checkpoint, content):
    assert "fetch it again" in refusal(checkpoint(content))


def test_a_pickle_that_is_damaged_inside_its_archive(checkpoint, torch):
    source, target = io.BytesIO(saved({"w": torch.ones(9)})), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"\x80\x02." if name.endswith("data.pkl") else old.read(name))
    assert "cannot be read" in refusal(checkpoint(target.getvalue()))


class RunsCode:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def legacy(content):
    return saved(content, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [saved, legacy, pickle.dumps])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(checkpoint, tmp_path, write):
    trace = tmp_path / "it ran"
    path = checkpoint(write({"state_dict": {"w": RunsCode(str(trace))}}))
    assert "was refused" in refusal(path)
    assert not trace.exists()


@pytest.mark.parametrize("write", [saved, legacy])
def test_why_a_pickle_is_refused(checkpoint, tmp_path, write):
    message = refusal(checkpoint(write({"w": RunsCode(str(tmp_path / "it ran"))})))
    assert "could run code (Trying to load unsupported GLOBAL posix.mkdir" in message


def test_without_the_care_it_would_run(checkpoint, tmp_path, torch):
    trace = tmp_path / "it ran"
    torch.load(checkpoint(saved({"w": RunsCode(str(trace))})), weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize(
    "content",
    [[1], 1, {}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": [1]}, {"state_dict": {"w": 1.0}}],
)
def test_what_holds_no_weights_is_refused(checkpoint, content):
    assert "holds no state dict of tensors" in refusal(checkpoint(saved(content)))


def test_a_tensor_alone_is_no_state_dict(checkpoint, torch):
    for content in (torch.ones(2), {"state_dict": torch.ones(2)}):
        assert "holds no state dict of tensors" in refusal(checkpoint(saved(content)))


@pytest.fixture
def misfit(checkpoint, narrow_timesformer, timesformer_model):
    """The message that refuses an edited state dict of the narrow TimeSformer."""

    def message(edit):
        state = dict(timesformer_model.recognizer.state_dict())
        edit(state)
        with pytest.raises(CheckpointError, match="does not fit the model") as caught:
            torch_model_from_spec(narrow_timesformer, checkpoint(saved({"state_dict": state})))
        return str(caught.value)

    return message


def test_missing_keys_are_named(misfit):
    message = misfit(lambda state: state.pop("backbone.time_embed"))
    assert "missing keys: backbone.time_embed (1); is it from another" in message


def test_unexpected_keys_are_named(misfit, torch):
    message = misfit(lambda state: state.update({f"aux.{i}": torch.ones(1) for i in range(7)}))
    assert "unexpected keys: aux.0, aux.1, aux.2, aux.3, aux.4, … (7)" in message


def test_wrong_shapes_are_named(misfit, torch):
    message = misfit(lambda state: state.update({"cls_head.fc_cls.bias": torch.ones(400)}))
    assert "wrong shapes: cls_head.fc_cls.bias (400,) instead of (5,) (1)" in message


def test_all_that_does_not_fit_is_named(misfit):
    def rename(state):
        state["fc.bias"] = state.pop("cls_head.fc_cls.bias")

    message = misfit(rename)
    assert "missing keys: cls_head.fc_cls.bias (1); unexpected keys: fc.bias (1)" in message


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sparse", lambda torch: torch.eye(3).to_sparse()),
        ("quantised", lambda torch: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
        ("complex", lambda torch: torch.ones(3, dtype=torch.complex64) * 1j),
        ("without values", lambda torch: torch.ones(3, device="meta")),
    ],
)
def test_tensors_that_are_not_plain_numbers_are_refused(checkpoint, torch, kind, make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = checkpoint(saved({"fine": torch.ones(2), "odd": make(torch)}))
        message = refusal(path)
    assert f"holds 1 tensors that are not plain numbers, such as odd, which is {kind}" in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(
    checkpoint, narrow_timesformer, timesformer_model, torch, bad
):
    state = dict(timesformer_model.recognizer.state_dict())
    state["cls_head.fc_cls.bias"] = torch.tensor([0.0, bad, 0.0, 0.0, 0.0], dtype=torch.float64)
    with pytest.raises(CheckpointError, match=r"NaN or infinite values in cls_head\.fc_cls\.bias"):
        torch_model_from_spec(narrow_timesformer, checkpoint(saved(state)))


def test_whole_numbers_are_not_weights(misfit, torch):
    message = misfit(lambda state: state.update({"cls_head.fc_cls.bias": torch.ones(5).int()}))
    assert "wrong types: cls_head.fc_cls.bias torch.int32 instead of torch.float32 (1)" in message


def test_a_tensor_that_claims_more_than_the_memory_is_refused_by_its_shape(misfit, torch):
    claim = torch.ones(1).expand(1 << 50)
    message = misfit(lambda state: state.update({"cls_head.fc_cls.bias": claim}))
    assert "wrong shapes: cls_head.fc_cls.bias (1125899906842624,)" in message


def test_an_archive_that_unpacks_to_more_than_it_holds_is_refused(checkpoint, torch):
    source, target = io.BytesIO(saved({"w": torch.zeros(1 << 20)})), io.BytesIO()
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    packed = target.getvalue()
    assert "it unpacks to 419" in refusal(checkpoint(packed))
    # Python does not list an archive of a later version of the format; PyTorch would unpack it.
    later = re.sub(rb"(PK\x01\x02..)..", lambda head: head[1] + b"\xa3\0", packed, flags=re.DOTALL)
    assert "zip file version 16.3; fetch it again" in refusal(checkpoint(later))
