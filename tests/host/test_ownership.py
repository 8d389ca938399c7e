import os

import pytest

from harness.errors import ArtifactError
from harness.host.artifacts import ArtifactStore
from harness.host.ownership import make_private
from harness.host.provenance import request_from_inputs, write_provenance

INPUTS = {"weights": "a"}


def build(path):
    path.write_text("built here")
    return {}


@pytest.fixture
def planted(tmp_path):
    """A cache with a model and a digest that another user has put there."""
    root = tmp_path / "cache"
    store = ArtifactStore(root)
    request = request_from_inputs("onnx", "m.onnx", INPUTS)
    folder = store._folder(request)
    folder.mkdir(parents=True)
    (folder / "m.onnx").write_text("planted")
    write_provenance(folder, request, {}, 1.0)
    root.chmod(0o755)
    return store, folder


@pytest.mark.parametrize("above", range(3))
def test_a_planted_model_is_not_taken(planted, above):
    store, folder = planted
    place = [folder, *folder.parents][above]
    place.chmod(0o777)
    with pytest.raises(
        ArtifactError, match=f"other users may write to {place}, and so choose what"
    ):
        store.get_or_build("onnx", "m.onnx", INPUTS, build)


@pytest.mark.parametrize("name", ["m.onnx", "provenance.json"])
def test_a_file_that_others_can_write_is_not_taken(planted, name):
    store, folder = planted
    (folder / name).chmod(0o666)
    with pytest.raises(ArtifactError, match=f"other users may write to {folder / name}"):
        store.get_or_build("onnx", "m.onnx", INPUTS, build)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_entry_of_another_user_is_not_taken(planted):
    store, folder = planted
    os.chown(folder, 4711, -1)
    with pytest.raises(ArtifactError, match=f"{folder} belongs to user 4711"):
        store.get_or_build("onnx", "m.onnx", INPUTS, build)


def test_it_is_taken_where_the_cache_is_trusted_or_closed(planted):
    store, folder = planted
    folder.chmod(0o777)
    trusting = ArtifactStore(store.root, is_trusted=True)
    assert trusting.get_or_build("onnx", "m.onnx", INPUTS, build).path.read_text() == "planted"
    store.root.chmod(0o700)
    assert store.get_or_build("onnx", "m.onnx", INPUTS, build).path.read_text() == "planted"


def test_a_new_cache_is_for_its_user_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        ArtifactStore(tmp_path / "a" / "cache").get_or_build("onnx", "m.onnx", INPUTS, build)
        make_private(tmp_path / "a" / "cache")
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o700
