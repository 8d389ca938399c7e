import pytest

from harness.data.manifest import write_manifest
from harness.data.scan import Source, scan
from harness.datasets import clip_set_from_site, motion8
from harness.errors import MissingInput
from harness.site import load_site


@pytest.fixture
def site(tmp_path):
    (tmp_path / "val/zumba").mkdir(parents=True)
    (tmp_path / "val/zumba/a.mp4").write_bytes(motion8().clips[0].path.read_bytes())
    (tmp_path / "val.txt").write_text("zumba/a.mp4 1\n")
    (tmp_path / "map.txt").write_text("abseiling\nzumba\n")

    def write(*keys):
        lines = "\n".join(keys)
        (tmp_path / "site.toml").write_text(f"[datasets.kinetics400]\n{lines}\n")
        return load_site(tmp_path / "site.toml", {"HOME": str(tmp_path)})

    return write


def test_a_list_has_the_names_of_kinetics_or_its_own(site):
    found = clip_set_from_site("kinetics400", site("list = 'val.txt'", "root = 'val'"))
    assert (len(found.class_names), found.clips[0].label) == (400, 1)
    keys = ("list = 'val.txt'", "root = 'val'", "label_map = 'map.txt'")
    found = clip_set_from_site("kinetics400", site(*keys))
    assert found.class_names == ("abseiling", "zumba")


def test_a_manifest_is_taken_with_its_digest(tmp_path, site):
    manifest = scan(Source(tmp_path / "val", ("abseiling", "zumba")))
    write_manifest(manifest, tmp_path / "val.manifest")
    found = clip_set_from_site("kinetics400", site("manifest = 'val.manifest'"))
    assert found.digest == manifest.digest
    listed = clip_set_from_site("kinetics400", site("list = 'val.txt'", "root = 'val'"))
    assert listed.digest == manifest.digest


def test_motion8_ships_and_the_rest_must_be_named(tmp_path):
    site = load_site(None, {"HOME": str(tmp_path)})
    assert len(clip_set_from_site("motion8", site).clips) >= 400
    with pytest.raises(MissingInput, match=r"datasets\.kinetics400"):
        clip_set_from_site("kinetics400", site)
