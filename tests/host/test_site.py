import os
import tomllib
from pathlib import Path

import pytest

from harness.errors import SiteError
from harness.host.site import Site, SiteFile, find_checkpoint
from harness.registry import load_site, site_tables

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder with data beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("weights", "more", "k400/val"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("k400/val.txt", "set_env.sh", "python3", "npu-smi"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def write(folder):
    def write(text, name="site.toml"):
        path = folder / name
        path.write_text(text)
        return path

    return write


WHOLE = """
cache_dir = "cache"
run_root = "out"
lock_dir = "locks"
checkpoints = ["weights", "more"]
[datasets.kinetics400]
list = "k400/val.txt"
root = "k400/val"
[ascend]
set_env = "set_env.sh"
atc_python = "python3"
ais_bench_python = "python3"
npu_smi = "npu-smi"
device_ids = [0, 3]
"""


def test_every_key_is_read_relative_to_the_file(write, folder, monkeypatch):
    path = write(WHOLE)
    monkeypatch.chdir("/")
    site = load_site(path, {})
    assert site.source == path
    assert site.cache_dir == folder / "cache"
    assert site.run_root == folder / "out"
    assert site.lock_dir == folder / "locks"
    assert site.checkpoints == (folder / "weights", folder / "more")
    assert site.datasets["kinetics400"].list == folder / "k400/val.txt"
    assert site.datasets["kinetics400"].root == folder / "k400/val"
    assert site.tables["ascend"].set_env == folder / "set_env.sh"
    assert (
        site.tables["ascend"].atc_python
        == site.tables["ascend"].ais_bench_python
        == folder / "python3"
    )
    assert site.tables["ascend"].npu_smi == folder / "npu-smi"
    assert site.tables["ascend"].device_ids == (0, 3)


def test_defaults_hold_without_a_file(folder):
    site = load_site(None, {"HOME": "/home/somebody"})
    assert site.cache_dir == Path("/home/somebody/.cache/acceptance-suite")
    assert site.run_root == folder / "runs"
    assert site.lock_dir.name == f"acceptance-suite-locks-{os.geteuid()}"
    assert (site.checkpoints, dict(site.datasets), site.source) == ((), {}, None)
    assert site.tables == {}


@pytest.mark.parametrize(
    ("environ", "cache"),
    [
        ({"XDG_CACHE_HOME": "/xdg", "HOME": "/h"}, "/xdg/acceptance-suite"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/acceptance-suite"),
        ({"ACCEPTANCE_CACHE_DIR": "/mine"}, "/mine"),
        ({"ACCEPTANCE_CACHE_DIR": "", "HOME": "/h"}, "/h/.cache/acceptance-suite"),
    ],
)
def test_cache_folder(folder, environ, cache):
    assert load_site(None, environ).cache_dir == Path(cache)


def test_no_home_says_what_to_set(folder):
    with pytest.raises(SiteError, match="ACCEPTANCE_CACHE_DIR"):
        load_site(None, {})


def test_file_is_the_asked_then_the_named_then_the_one_here(write):
    asked, named = write("run_root = 'a'", "a.toml"), write("run_root = 'b'", "b.toml")
    write("run_root = 'c'")
    environ = {"HOME": "/h", "ACCEPTANCE_SITE": str(named)}
    assert load_site(asked, environ).run_root.name == "a"
    assert load_site(None, environ).run_root.name == "b"
    assert load_site(None, {"HOME": "/h", "ACCEPTANCE_SITE": ""}).run_root.name == "c"


def test_environment_wins_over_the_file(write, folder):
    environ = {
        "ACCEPTANCE_CACHE_DIR": "elsewhere",
        "ACCEPTANCE_CHECKPOINTS": os.pathsep.join(["more", str(folder / "weights"), ""]),
    }
    site = load_site(write(WHOLE), environ)
    assert site.cache_dir == folder / "elsewhere"
    assert site.checkpoints == (folder / "more", folder / "weights")


def test_home_is_expanded(write, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert load_site(write("cache_dir = '~/c'"), {}).cache_dir == folder / "c"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "chekpoints = []",
            "chekpoints: unknown key; known are ascend, baseline, cache_dir, checkpoints",
        ),
        ("source = 'x'", "source: unknown key"),
        ("[ascend]\nset_evn = ''", "ascend.set_evn: unknown key; known are .*set_env"),
        (
            "[datasets.k]\nlist = 'k400/val.txt'\nroot = 'k400'\nfps = 3",
            "datasets.k.fps: unknown key; known are label_map, list, manifest, root",
        ),
        ("[datasets.k]\nlist = 'k400/val.txt'", "datasets.k: should name the root"),
        ("datasets = 3", "datasets: should be a table"),
        ("datasets = { k = 3 }", "datasets.k: should be a table"),
        ("ascend = 3", "ascend: should be a table"),
        ("cache_dir = 3", "cache_dir: should be a path, as text"),
        ("cache_dir = ''", "cache_dir: should be a path, as text"),
        ("cache_dir = 'python3'", "cache_dir: .*python3 is not a folder"),
        ("cache_dir = '~nobody-of-that-name/c'", "cache_dir: ~nobody-of-that-name/c: "),
        (
            'cache_dir = "a\\u0000"',
            r"cache_dir: '.*a\\x00' has a NUL, which the name of a file cannot",
        ),
        (f"cache_dir = '{300 * 'a'}'", "cache_dir: .*aaa: File name too long"),
        (f"baseline = '{300 * 'a'}'", "baseline: .*aaa: File name too long"),
        ("checkpoints = 'weights'", "checkpoints: should be a list"),
        ("checkpoints = ['weights', 'gone']", "checkpoints.1: there is no folder .*gone"),
        ("[datasets.k]\nlist = 'x'\nroot = 'k400'", "datasets.k.list: there is no file .*x"),
        ("[ascend]\nset_env = 'none.sh'", r"ascend.set_env: there is no file .*none\.sh"),
        ("[ascend]\ndevice_ids = ['0']", "ascend.device_ids.0: should be a valid integer"),
        ("[ascend]\ndevice_ids = [-1]", "ascend.device_ids.0: .* greater than or equal to 0"),
        (
            "[ascend.models.x-ascend310p-bs1]\nom = 'none.om'\nsha256 = 'ab'",
            "ascend.models.x-ascend310p-bs1.sha256: ",
        ),
        (
            "[ascend.models.x-ascend310p]\nom = 'none.om'\nsha256 = 'ab'",
            r"ascend.models.x-ascend310p.\[key\]: .*should be the id of a cell, such as",
        ),
        ("[ascend]\ndevice_ids = [true]", "ascend.device_ids.0: should be a valid integer"),
        ("a = 1\na = 2", "is not TOML: Cannot overwrite a value"),
        ("a = ", "is not TOML"),
    ],
)
def test_bad_file_names_the_key_and_the_file(write, text, words):
    path = write(text)
    with pytest.raises(SiteError, match=words) as caught:
        load_site(path, {"HOME": "/h"})
    assert str(path) in str(caught.value)


def test_every_error_of_a_file_is_told(write):
    with pytest.raises(SiteError) as caught:
        load_site(write("a = 1\nb = 2"), {"HOME": "/h"})
    assert len(str(caught.value).splitlines()) == 2


def test_file_that_is_not_text_is_told(write, folder):
    (folder / "site.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SiteError, match="is not TOML"):
        load_site(None, {"HOME": "/h"})


def test_file_that_is_not_there_is_told(folder):
    with pytest.raises(SiteError, match=r"cannot read the site file none\.toml.*example"):
        load_site(None, {"ACCEPTANCE_SITE": "none.toml"})


@pytest.mark.parametrize(
    "environ",
    [
        {"ACCEPTANCE_CHECKPOINTS": "gone", "HOME": "/h"},
        {"ACCEPTANCE_CACHE_DIR": "python3"},
    ],
)
def test_bad_variable_is_named(folder, environ):
    with pytest.raises(SiteError, match=f"^{next(iter(environ))}: "):
        load_site(None, environ)


def test_bad_default_is_told(folder):
    (folder / "runs").touch()
    with pytest.raises(SiteError, match=r"^the default site: run_root: .*runs is not a folder"):
        load_site(None, {"HOME": "/h"})


def test_checkpoint_is_searched_in_order_then_in_the_fixtures(write, folder):
    site = load_site(write("checkpoints = ['weights', 'more']"), {"HOME": "/h"})
    fixtures = folder / "k400"
    for place in ("k400", "more", "weights"):
        (folder / place / "w.pth").touch()
        assert find_checkpoint(site, "w.pth", fixtures) == folder / place / "w.pth"
    assert find_checkpoint(site, "val", fixtures) is None
    assert find_checkpoint(site, "none.pth") is None


def test_site_cannot_be_changed(folder):
    site = load_site(None, {"HOME": "/h"})
    with pytest.raises(ValueError, match="frozen"):
        site.run_root = Path()
    assert isinstance(site, Site)


def test_example_changes_nothing_and_explains_every_key(folder):
    text = (ROOT / "site.example.toml").read_text()
    assert tomllib.loads(text) == {}
    # What is commented out is TOML too, and of keys that exist.
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    keys = [line for line in lines if line.startswith("[") or " = " in line]
    example = tomllib.loads("\n".join(keys))
    tables = site_tables()
    assert example.keys() == SiteFile.model_fields.keys() | tables.keys()
    assert all(example[name].keys() == tables[name].model_fields.keys() for name in tables)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ("", "either a manifest or a list"),
        ("manifest = 'k400/val.txt'\nlist = 'k400/val.txt'", "either a manifest or a list"),
        ("manifest = 'k400/val.txt'\nlabel_map = 'k400/val.txt'", "names a label_map"),
    ],
)
def test_a_data_set_is_a_manifest_or_a_list(folder, keys, complaint):
    (folder / "site.toml").write_text(f"[datasets.k]\n{keys}\n")
    with pytest.raises(SiteError, match=f"datasets.k: .*{complaint}"):
        load_site(folder / "site.toml", {"HOME": "/h"})


def test_a_manifest_is_enough(folder):
    (folder / "site.toml").write_text("[datasets.k]\nmanifest = 'k400/val.txt'\n")
    site = load_site(folder / "site.toml", {"HOME": "/h"})
    assert site.datasets["k"].manifest == folder / "k400/val.txt"


def test_root_shares_a_lock_folder_only_if_the_site_says_so(folder, monkeypatch):
    (folder / "shared").mkdir()
    (folder / "shared").chmod(0o1777)
    path = folder / "mine.toml"
    path.write_text('cache_dir = "cache"\nlock_dir = "shared"\n')
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SiteError, match=r"mine\.toml: lock_dir: .*share_locks_as_root = true"):
        load_site(path, {})
    path.write_text(path.read_text() + "share_locks_as_root = true\n")
    assert load_site(path, {}).lock_dir == folder / "shared"
    path.write_text('cache_dir = "cache"\nlock_dir = "shared"\n')
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert load_site(path, {}).lock_dir == folder / "shared"


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_cache_that_others_can_write_to_is_refused_unless_the_site_trusts_them(folder, mode):
    (folder / "cache").mkdir()
    (folder / "cache").chmod(mode)
    path = folder / "mine.toml"
    path.write_text('cache_dir = "cache"\n')
    with pytest.raises(
        SiteError, match=r"mine\.toml: cache_dir: other users may write.*chmod -R go-w"
    ):
        load_site(path, {})
    path.write_text('cache_dir = "cache"\ntrust_cache = true\n')
    assert load_site(path, {}).cache_dir == folder / "cache"
    (folder / "cache").chmod(0o755)
    path.write_text('cache_dir = "cache"\n')
    assert load_site(path, {}).cache_dir == folder / "cache"


def test_a_cache_of_another_user_is_refused(folder, monkeypatch):
    (folder / "cache").mkdir()
    os.chown(folder / "cache", 4712, -1)
    (folder / "mine.toml").write_text('cache_dir = "cache"\n')
    with pytest.raises(SiteError, match="belongs to user 4712"):
        load_site(folder / "mine.toml", {})
