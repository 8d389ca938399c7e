"""A locale that cannot show what a command says."""

import os
import subprocess
import sys

import pytest

LOCALES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


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
