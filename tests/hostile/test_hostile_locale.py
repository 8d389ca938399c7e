"""A locale that cannot show what a command says."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from harness.__main__ import main
from harness.host.site import FIXTURES
from harness.record.record import RunDirectory
from harness.spec import Status
from tests.made import FOREIGN, ROOT

LOCALES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


@pytest.fixture
def in_ascii(tmp_path):
    """Return what runs a command in a locale of ASCII, with a site of the test's own."""
    environ = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environ |= LOCALES["ascii"] | {"ACCEPTANCE_SITE": str(tmp_path / "site.toml")}

    def run(*words, cache="cache", site=""):
        lines = (f'cache_dir = "{cache}"', f'run_root = "{tmp_path}/runs"', site)
        (tmp_path / "site.toml").write_text("\n".join(lines), "utf-8")
        command = [sys.executable, "-m", *map(str, words)]
        return subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )

    return run


def test_a_run_in_a_locale_without_utf_8_is_whole(in_ascii, tmp_path):
    folder = tmp_path / "跑" / "run"
    only = ("--model", "nonlocal_tiny", "--batch-size", "1", "-m", "cpu and export")
    options = ("-q", "-p", "no:cacheprovider", "--run-dir", folder, *only)
    done = in_ascii("pytest", *options, "acceptance/")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = RunDirectory(folder).records()
    assert (record.id, record.verdict.status) == ("nonlocal_tiny-cpu-bs1:export", Status.PASS)


def test_files_that_the_locale_cannot_name_are_refused_by_name(in_ascii, tmp_path):
    said = r"'.*\\u4e2d.*' has characters that this locale \(ascii\) lacks .* set LC_ALL=C.UTF-8"
    refused = in_ascii("pytest", "--run-dir", tmp_path / "跑", "acceptance/")
    assert re.search(r"\\udce8.*: the name of a run must be UTF-8", refused.stderr)
    refused = in_ascii("harness", "doctor", cache="中")
    assert refused.returncode != 0
    assert re.search(rf"cache_dir: {said}", refused.stdout + refused.stderr)
    (tmp_path / "clips" / "中").mkdir(parents=True)
    (tmp_path / "names").write_text("中", "utf-8")
    shutil.copy(FIXTURES / "motion8" / "clips" / "0000.mp4", tmp_path / "clips" / "中")
    manifest = ("--label-map", tmp_path / "names", "--output", tmp_path / "manifest")
    assert main(["dataset", "scan", *map(str, (tmp_path / "clips", *manifest))]) == 0
    site = '[datasets.motion8]\nmanifest = "manifest"'
    refused = in_ascii("harness", "preprocess", "nonlocal_tiny", tmp_path / "out", site=site)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False), refused.stderr
    assert re.search(f"kinetics400: {said}", refused.stderr)


@pytest.mark.parametrize("environ", LOCALES.values(), ids=LOCALES)
def test_what_a_locale_lacks_is_escaped_and_the_page_is_whole(make_run, tmp_path, environ):
    root, out = make_run(tmp_path / "Prüfung 中" / "run").root, tmp_path / "判定"
    command = ["report", str(root), "--output", str(out), "--language", "zh"]
    done = subprocess.run(
        [sys.executable, "-m", "harness", *command, "--thresholds", str(root / "thresholds.toml")],
        env={**os.environ, **environ},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert r"\u53ef\u4ee5\u53d1\u5e03" in done.stdout.decode("latin-1")
    assert "可以发布" in (out / "signoff.html").read_text("utf-8")
