import dataclasses
import json

import pytest

from harness.host.command import CommandResult
from harness.runtimes.ascend.environment import CannTools
from harness.runtimes.ascend.host_checks import MANAGERS, HostFacts, host_checks, host_facts

HOST = HostFacts(
    machine="aarch64",
    user="ann",
    groups=frozenset(["ann", "HwHiAiUser"]),
    known_groups=frozenset(["ann", "HwHiAiUser"]),
    container="no",
    may_use=lambda path: True,
)
MODULES = {"aclruntime": "/x/aclruntime.so", "attrs": "", "pkg_resources": "/x"}


class Bench:
    """An interpreter that has ais_bench of a generation, and modules; one without a file lacks it."""

    def __init__(self, modules=MODULES, is_new=True):
        self.modules, self.is_new = modules, is_new

    def __call__(self, command):
        if "--help" in command.argv:
            return CommandResult(0, "--outfmt --pipeline" if self.is_new else "--outfmt", 0.1)
        if self.modules is None:
            return CommandResult(1, "Segmentation fault", 0.1)
        modules = {
            name: {"error": "ModuleNotFoundError: no"} if file is None else {"file": file}
            for name, file in self.modules.items()
        }
        found = {"python": [3, 10, 1], "modules": modules}
        return CommandResult(0, f"noise\nIMPORTS {json.dumps(found)}\n", 0.1)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    for name in ("davinci0", *MANAGERS):
        (tmp_path / name).touch()
    (tmp_path / "cann/aarch64-linux").mkdir(parents=True)
    return CannTools(python="python3", ascend_root=tmp_path, device_root=tmp_path, run=Bench())


def advice(tools, **facts):
    checks = host_checks(tools, dataclasses.replace(HOST, **facts))
    return {check.name: check.advice for check in checks if check.advice}


def test_a_host_that_fits_needs_nothing(tools):
    assert advice(tools) == {}
    assert advice(tools, user="root", groups=frozenset()) == {}
    names = [check.name for check in host_checks(tools, HOST)]
    assert names == [
        *("architecture", "user", "device nodes", "container", "aclruntime", "attrs"),
        *("pkg_resources", "CANN's log", "commands"),
    ]


def test_this_host_says_what_it_is():
    facts = host_facts()
    assert facts.groups
    assert facts.groups <= facts.known_groups


@pytest.mark.parametrize(
    ("facts", "name", "words"),
    [
        ({"machine": "riscv64"}, "architecture", "CANN has no packages for it"),
        (
            {"machine": "x86_64"},
            "architecture",
            "cann is for aarch64: install the packages for x86",
        ),
        ({"groups": frozenset(["ann"])}, "user", "usermod -aG HwHiAiUser ann"),
        ({"may_use": lambda path: path.name != "hisi_hdc"}, "device nodes", "ann may not read and"),
        ({"container": "yes"}, "container", "mount /usr/local/Ascend/driver and /usr/local/dcmi"),
    ],
)
def test_what_a_host_lacks_is_said_with_what_to_do(tools, facts, name, words):
    found = advice(tools, **facts)
    assert (list(found), words in found[name]) == ([name], True), found


@pytest.mark.parametrize(("container", "words"), [("no", "load the driver"), ("yes", "--device")])
def test_missing_device_nodes_are_named(tools, container, words):
    (tools.device_root / "devmm_svm").unlink()
    (tools.device_root / "davinci0").unlink()
    found = advice(tools, container=container)["device nodes"]
    assert "/davinci<N>: " in found
    assert "devmm_svm missing: " in found
    assert words in found


@pytest.mark.parametrize(
    ("modules", "is_new", "names"),
    [
        ({**MODULES, "aclruntime": None}, True, ["aclruntime"]),
        ({**MODULES, "attrs": None}, True, ["attrs"]),
        ({**MODULES, "attrs": None}, False, []),
        ({**MODULES, "pkg_resources": None}, True, ["pkg_resources"]),
        (None, True, ["aclruntime", "attrs", "pkg_resources"]),
    ],
)
def test_what_ais_bench_imports_is_tried_in_its_interpreter(tools, modules, is_new, names):
    found = advice(dataclasses.replace(tools, run=Bench(modules, is_new)))
    assert list(found) == names
    assert all("python3" in text for text in found.values())


def test_without_ais_bench_there_is_no_aclruntime(tools):
    failing = dataclasses.replace(tools, run=lambda command: CommandResult(1, "No module", 0.1))
    assert "see ais_bench above" in advice(failing)["aclruntime"]


def test_logs_that_slow_or_mix_are_named(tools, monkeypatch):
    monkeypatch.setenv("ASCEND_GLOBAL_LOG_LEVEL", "1")
    monkeypatch.setenv("ASCEND_SLOG_PRINT_TO_STDOUT", "1")
    found = advice(tools)["CANN's log"]
    assert "unset ASCEND_GLOBAL_LOG_LEVEL" in found
    assert "unset ASCEND_SLOG_PRINT_TO_STDOUT" in found


def test_a_broken_environment_script_is_one_of_the_findings(tools, tmp_path):
    found = advice(dataclasses.replace(tools, set_env=tmp_path / "none.sh"))
    assert list(found) == ["set_env.sh"]


def test_commands_come_from_the_checkout(tools, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert "no harness and pytest in" in advice(tools)["commands"]
