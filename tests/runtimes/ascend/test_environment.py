import dataclasses
import sys

import pytest

from harness.errors import DeviceBroken
from harness.host.command import CommandResult
from harness.runtimes.ascend.environment import (
    CannTools,
    Versions,
    atc_environment,
    atc_python_problems,
    base_environment,
    cann_environment,
    toolkit_home,
    versions_on_disk,
    visible_devices,
)

PATH = "/usr/bin:/bin"


@pytest.fixture
def tools(tmp_path):
    return CannTools(ascend_root=tmp_path / "Ascend")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_environment_is_small_and_without_our_own_python():
    ours = f"{sys.prefix}/bin"
    env = base_environment({"PATH": f"{ours}:{PATH}", "VSCODE_PID": "1", "ASCEND_X": "2"})
    assert env == {"PATH": PATH, "ASCEND_X": "2"}


def test_our_python_stays_where_it_is_not_a_virtual_environment(monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert base_environment({"PATH": f"{sys.prefix}/bin"})["PATH"] == f"{sys.prefix}/bin"


def test_set_env_is_found_sourced_and_its_chatter_ignored(tools):
    write(
        tools.ascend_root / "ascend-toolkit" / "set_env.sh",
        "echo hello=world; echo warning=1 >&2\nexport ASCEND_TOOLKIT_HOME=/opt/tk\n"
        "export MULTI='a\nb'\nexport PATH=/opt/tk/bin:$PATH\n[ -f /nowhere ] && export X=1\n",
    )
    env = cann_environment(tools, {"PATH": PATH})
    assert env["ASCEND_TOOLKIT_HOME"] == "/opt/tk"
    assert env["PATH"] == f"/opt/tk/bin:{PATH}"
    assert env["MULTI"] == "a\nb"
    assert env["PYTHONUNBUFFERED"] == "1"
    assert "hello" not in env
    assert str(toolkit_home(tools, env)) == "/opt/tk"


def test_a_sourced_environment_is_taken_as_it_is(tools):
    write(tools.ascend_root / "cann" / "set_env.sh", "exit 1")
    env = cann_environment(tools, {"PATH": PATH, "ASCEND_TOOLKIT_HOME": "/opt/other"})
    assert env["ASCEND_TOOLKIT_HOME"] == "/opt/other"


@pytest.mark.parametrize("text", ["exit 3", "echo broken; export OTHER=1", "sleep 60"])
def test_a_set_env_that_does_not_work_is_broken(tools, tmp_path, text):
    script = write(tmp_path / "set_env.sh", text)
    tools = dataclasses.replace(tools, set_env=script, probe_timeout_s=1.0)
    with pytest.raises(
        DeviceBroken, match=r"set none of ASCEND_HOME_PATH.*site.toml at the set_env.sh"
    ):
        cann_environment(tools, {"PATH": PATH})


def test_a_named_set_env_must_exist(tools, tmp_path):
    tools = dataclasses.replace(tools, set_env=tmp_path / "no.sh")
    with pytest.raises(DeviceBroken, match=r"no.sh does not exist.*site.toml"):
        cann_environment(tools, {"PATH": PATH})


def test_versions_come_from_the_info_files(tools):
    root, home = tools.ascend_root, tools.ascend_root / "ascend-toolkit" / "latest"
    assert versions_on_disk(tools, {}) == Versions(None, None, None)
    write(root / "driver" / "version.info", "Version=24.1.rc1\npackage_version=24.1.0\n")
    write(root / "firmware" / "version.info", "Version=7.5.0.1.129\n")
    write(home / "opp" / "version.info", "Version=8.5.0.2.220\n")
    assert versions_on_disk(tools, {}) == Versions("24.1.0", "7.5.0.1.129", "8.5.0.2.220")
    write(home / "version.cfg", "# x\nruntime_installed_version=[1.84.15.1.310:6.0.1]\n")
    assert versions_on_disk(tools, {}).cann == "6.0.1"
    info = home / "x86_64-linux" / "ascend_toolkit_install.info"
    write(info, "package_name=Ascend-cann-toolkit\nversion=8.0.0\ninnerversion=V100\n")
    assert versions_on_disk(tools, {}).cann == "8.0.0"
    write(info, "nothing")
    assert versions_on_disk(tools, {}).cann == "6.0.1"


def test_the_newer_layout_is_found(tools):
    (tools.ascend_root / "cann").mkdir(parents=True)
    assert toolkit_home(tools, {}) == tools.ascend_root / "cann"


@pytest.mark.parametrize(
    ("text", "numbers"), [("0,2", (0, 2)), ("3", (3,)), ("0,1x,2", (0, 1)), ("0, 2", (0,))]
)
def test_visible_devices_stop_at_a_bad_character(text, numbers):
    assert visible_devices({"ASCEND_RT_VISIBLE_DEVICES": text}) == numbers
    assert visible_devices({}) is None


@pytest.mark.parametrize("text", ["", "x", "2,0", "1,1"])
def test_visible_devices_that_leave_none_or_are_unordered_are_broken(text):
    with pytest.raises(DeviceBroken, match="ascending order"):
        visible_devices({"ASCEND_RT_VISIBLE_DEVICES": text})


def test_atc_finds_its_own_python_first(tools):
    assert atc_environment(tools, {"PATH": PATH}) == {"PATH": PATH}
    own = dataclasses.replace(tools, atc_python="/opt/py39/bin/python3")
    assert atc_environment(own, {"PATH": PATH})["PATH"] == f"/opt/py39/bin:{PATH}"


def answers(output, rc=0):
    return lambda command: CommandResult(rc, output, 0.1)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            '{"python": [3, 9, 1], "executable": "/p", "modules": {"numpy": {"version": "1.23.5"}}}',
            [],
        ),
        (
            '{"python": [3, 9, 1], "executable": "/p", "modules": {"numpy": {"version": ""}}}',
            ["has numpy without a version: pip install 'numpy<2' there"],
        ),
        (
            '{"python": [3, 11, 7], "executable": "/p", "modules": {"numpy": {"version": "2.0.1"},'
            + ' "attr": {"error": "ModuleNotFoundError: no"}}}',
            [
                "is 3.11.7; CANN 5 to 8.1 needs 3.7 to 3.10",
                "cannot import attr (ModuleNotFoundError: no): pip install attrs there",
                "'numpy<2'",
            ],
        ),
    ],
)
def test_the_python_of_atc_is_checked(tools, found, words):
    tools = dataclasses.replace(tools, run=answers(f"noise\nIMPORTS {found}\n"))
    problems = atc_python_problems(tools, {"PATH": PATH})
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


def test_a_python_that_does_not_run_is_a_problem(tools):
    broken = dataclasses.replace(tools, run=answers("Segmentation fault", rc=139))
    (problem,) = atc_python_problems(broken, {"PATH": PATH})
    assert "does not run: it printed Segmentation fault" in problem
    (problem,) = atc_python_problems(tools, {"PATH": "/nowhere"})
    assert "there is none on its PATH" in problem


def test_the_real_check_runs(tools, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to(sys.executable)
    write(tmp_path / "decorator.py", "raise ImportError('not here')")
    env = {"PATH": f"{folder}:{PATH}", "PYTHONPATH": str(tmp_path)}
    text = " / ".join(atc_python_problems(tools, env))
    assert "needs 3.7 to 3.10" in text
    assert "cannot import decorator (ImportError: not here): pip install decorator there" in text
