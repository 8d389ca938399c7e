import dataclasses
import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys

import pytest

from harness.data.datasets import class_names, clip_set_from_site, motion8, require_classes
from harness.data.labels import kinetics400_names
from harness.data.manifest import write_manifest
from harness.data.scan import Source, scan
from harness.errors import ClipError, MissingInput
from harness.host.site import FIXTURES, load_site
from harness.registry import model_spec


@pytest.fixture
def environ(tmp_path):
    return {"ACCEPTANCE_CACHE_DIR": str(tmp_path / "cache")}


@pytest.fixture
def kinetics_site(tmp_path, environ):
    """A site that names a list of two clips of Kinetics."""

    def site(lines="a/one.mp4 0\nb/two.mp4 399\n"):
        (tmp_path / "val.txt").write_text(lines, encoding="utf-8")
        for name in ("a/one.mp4", "b/two.mp4"):
            (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "videos" / name).write_bytes(name.encode())
        path = tmp_path / "site.toml"
        path.write_text(
            '[datasets.kinetics400]\nlist = "val.txt"\nroot = "videos"\n', encoding="utf-8"
        )
        return load_site(path, environ)

    return site


def test_motion8_is_always_there(environ):
    clip_set = clip_set_from_site("motion8", load_site(None, environ))
    assert clip_set is motion8()
    assert len(clip_set.clips) == 480
    assert len(clip_set.class_names) == 8
    assert {clip.label for clip in clip_set.clips} == set(range(8))
    assert clip_set.is_whole


def test_motion8_may_be_another_copy(tmp_path, environ):
    folder = motion8().clips[0].path.parent
    listing = tmp_path / "list"
    listing.write_text("".join(f"{clip.path.name} {clip.label}\n" for clip in motion8().clips[:9]))
    source = Source(folder, motion8().class_names, "motion8", listing=listing, is_content=True)
    manifest = scan(source)
    write_manifest(manifest, tmp_path / "m")
    (tmp_path / "site.toml").write_text('[datasets.motion8]\nmanifest = "m"\n')
    clip_set = clip_set_from_site("motion8", load_site(tmp_path / "site.toml", environ))
    assert clip_set.digest == manifest.digest
    assert [clip.path for clip in clip_set.clips] == [clip.path for clip in motion8().clips[:9]]


@pytest.mark.parametrize("kind", ["list", "manifest"])
def test_the_shipped_list_is_motion8_wherever_it_is_named(tmp_path, environ, kind):
    folder = FIXTURES / "motion8"
    if kind == "list":
        place = f'list = "{folder / "labels.txt"}"\nroot = "{folder}"\n'
    else:
        source = Source(folder, class_names("motion8"), "motion8", listing=folder / "labels.txt")
        write_manifest(scan(source), tmp_path / "m")
        place = 'manifest = "m"\n'
    (tmp_path / "site.toml").write_text(f"[datasets.motion8]\n{place}")
    found = clip_set_from_site("motion8", load_site(tmp_path / "site.toml", environ))
    assert found == motion8()


def test_a_changed_clip_of_motion8_is_another_set(tmp_path, environ):
    shutil.copytree(FIXTURES / "motion8", tmp_path / "motion8")
    clip = tmp_path / "motion8/clips/0003.mp4"
    data = bytearray(clip.read_bytes())
    data[-1] ^= 1
    clip.write_bytes(data)
    (tmp_path / "site.toml").write_text(
        '[datasets.motion8]\nlist = "motion8/labels.txt"\nroot = "motion8"\n'
    )
    found = clip_set_from_site("motion8", load_site(tmp_path / "site.toml", environ))
    assert found.digest != motion8().digest


def test_clips_of_other_classes_than_the_model_s_are_refused():
    require_classes(motion8(), model_spec("nonlocal_tiny"))
    fewer = dataclasses.replace(motion8(), class_names=("left", "right"))
    with pytest.raises(ClipError, match=r"motion8 has 2 class names .* tells 8 classes apart"):
        require_classes(fewer, model_spec("timesformer_tiny"))


def test_a_data_set_that_is_not_here_says_where_to_name_it(environ):
    with pytest.raises(MissingInput, match=r"\[datasets.kinetics400\] in site.toml"):
        clip_set_from_site("kinetics400", load_site(None, environ))


def test_a_list_of_kinetics_gets_the_names_of_its_classes(kinetics_site):
    clip_set = clip_set_from_site("kinetics400", kinetics_site())
    assert clip_set.name == "kinetics400"
    assert [(clip.id, clip.label) for clip in clip_set.clips] == [("a/one", 0), ("b/two", 399)]
    assert len(clip_set.class_names) == len(set(clip_set.class_names)) == 400
    assert (clip_set.class_names[0], clip_set.class_names[399]) == ("abseiling", "zumba")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a/one.mp4 400\n", "label 400 is out of range; there are 400 classes"),
        ("a/one.mp4 1\na/one.mp4 1\n", "a/one is listed twice"),
        ("\n", "lists no clips"),
    ],
)
def test_a_list_that_cannot_be_used(kinetics_site, lines, said):
    with pytest.raises(ClipError, match=said):
        clip_set_from_site("kinetics400", kinetics_site(lines))


@pytest.mark.parametrize("what", ["not installed", "another version"])
def test_without_the_names_of_its_classes(kinetics_site, monkeypatch, tmp_path, what):
    site = kinetics_site()
    found = None
    if what == "another version":
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "_meta.py").write_text("_OTHER = [1]\n", encoding="utf-8")
        found = importlib.machinery.ModuleSpec("torchvision", None, is_package=True)
        found.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    kinetics400_names.cache_clear()
    with pytest.raises(ClipError, match=r"Kinetics-400 class names .* is not installed or is"):
        clip_set_from_site("kinetics400", site)
    kinetics400_names.cache_clear()


def test_reading_the_names_imports_nothing_heavy():
    code = (
        "import sys; from harness.data.labels import kinetics400_names; kinetics400_names();"
        "sys.exit(bool({'torch', 'torchvision'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_list_may_have_names_of_its_own(tmp_path, kinetics_site, environ):
    kinetics_site()
    (tmp_path / "map.txt").write_text("abseiling\nzumba\n")
    (tmp_path / "val.txt").write_text("a/one.mp4 1\n")
    with (tmp_path / "site.toml").open("a") as file:
        file.write('label_map = "map.txt"\n')
    found = clip_set_from_site("kinetics400", load_site(tmp_path / "site.toml", environ))
    assert found.class_names == ("abseiling", "zumba")


def test_a_manifest_is_taken_with_its_digest(tmp_path, kinetics_site, environ):
    listed = clip_set_from_site("kinetics400", kinetics_site("a/one.mp4 0\n"))
    names = kinetics400_names()
    source = Source(tmp_path / "videos", names, listing=tmp_path / "val.txt")
    manifest = scan(source)
    write_manifest(manifest, tmp_path / "val.manifest")
    (tmp_path / "site.toml").write_text("[datasets.kinetics400]\nmanifest = 'val.manifest'\n")
    found = clip_set_from_site("kinetics400", load_site(tmp_path / "site.toml", environ))
    assert found.digest == manifest.digest == listed.digest
