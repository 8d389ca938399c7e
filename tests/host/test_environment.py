import dataclasses
import json
import os

import pytest

from harness.host import environment
from harness.host.clocks import Reading
from harness.host.environment import (
    CpuState,
    cpu_note,
    cpu_state,
    environment_facts,
    is_host_quiet,
    taken_share,
)

CPUINFO = """\
processor\t: 0
model name\t: Some CPU 9
flags\t\t: fpu sse2 avx2 avx512f amx_tile

processor\t: 1
model name\t: Another
"""


@pytest.fixture
def machine(tmp_path):
    """Write files of a machine below a folder and return that folder."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_facts_of_this_machine_are_text():
    facts = environment_facts()
    assert all(facts.values())
    assert facts["package.numpy"].startswith("1.26")
    assert facts["package.pytest"]
    assert int(facts["cpu.usable"]) <= int(facts["cpu.count"])
    assert json.loads(json.dumps(facts)) == facts


def test_facts_of_a_machine(machine):
    root = machine(
        {
            "proc/cpuinfo": CPUINFO,
            "proc/meminfo": "MemTotal:       2000000 kB\nMemFree: 1 kB\n",
            "etc/os-release": 'NAME="X"\nPRETTY_NAME="Some Linux 12"\n',
            "proc/1/cgroup": "0::/\n",
        }
    )
    facts = environment_facts(None, root)
    assert facts["cpu.model"] == "Some CPU 9"
    assert facts["cpu.isa"] == "avx2 avx512f amx_tile"
    assert facts["memory_gb"] == "2.0"
    assert facts["os"] == "Some Linux 12"
    assert facts["container"] == "no"


def test_facts_of_a_machine_that_tells_nothing(tmp_path):
    facts = environment_facts(None, tmp_path)
    for name in ("cpu.model", "cpu.isa", "memory_gb", "os", "container"):
        assert facts[name] == "unknown"


def test_flags_of_an_arm_machine(machine):
    root = machine({"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd sve\n"})
    assert environment_facts(None, root)["cpu.isa"] == "asimd sve"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", ""),
        ("proc/1/cgroup", "1:name=systemd:/docker/ab12\n"),
        ("proc/1/cgroup", "0::/kubepods.slice/pod1\n"),
    ],
)
def test_container_is_noticed(machine, name, text):
    assert environment_facts(None, machine({name: text}))["container"] == "yes"


def test_absent_package_reads_absent(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(environment, "OPENCV_PACKAGES", ("no-such-package",))
    facts = environment_facts()
    assert facts["package.no-such-package"] == facts["package.opencv"] == "absent"


STATE = CpuState(0.5, None, steal_s=1.0, governor=None, busy_s=100.0)
PASSED = Reading(10.0, 12.0, 7.0, 0.0, 10.0, 10.0, 12.0)


@pytest.mark.parametrize(
    ("busy_s", "steal_s", "switches", "is_quiet"),
    [
        (112.0, 1.0, 30, True),
        (112.9, 1.0, 30, True),
        (113.5, 1.0, 30, False),
        (112.5, 1.9, 30, False),
        (112.0, 1.0, 501, False),
        (None, 1.0, 30, None),
        (112.0, None, 30, None),
    ],
)
def test_a_host_is_quiet_where_nobody_else_worked(monkeypatch, busy_s, steal_s, switches, is_quiet):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    after = dataclasses.replace(STATE, busy_s=busy_s, steal_s=steal_s)
    assert is_host_quiet(STATE, after, PASSED, switches) is is_quiet


def test_cpu_state_of_this_machine():
    state = cpu_state()
    assert isinstance(state, CpuState)
    assert state.load_1min is not None


def test_cpu_state_of_a_machine_that_tells_nothing(tmp_path):
    assert set(dataclasses.astuple(cpu_state(tmp_path))) == {None}


def test_cpu_state_of_control_groups_2(machine):
    root = machine(
        {
            "proc/loadavg": "1.50 1.00 0.50 1/100 4242\n",
            "proc/stat": "cpu  1 2 3 4 5 6 7 300 0 0\ncpu0 0\n",
            "proc/self/cgroup": "0::/pod/main\n",
            "sys/fs/cgroup/cpu.stat": "usage_usec 5\n",
            "sys/fs/cgroup/pod/cpu.stat": "nr_throttled 3\nthrottled_usec 500000\n",
            "sys/fs/cgroup/pod/main/cpu.stat": "nr_throttled 1\nthrottled_usec 250000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        }
    )
    assert cpu_state(root) == CpuState(
        load_1min=1.5,
        throttled_s=0.75,
        steal_s=300 / os.sysconf("SC_CLK_TCK"),
        governor="powersave",
        busy_s=19 / os.sysconf("SC_CLK_TCK"),
    )


def test_what_disturbed_the_cpus_around_a_run():
    before = CpuState(0.5, 0.25, 10.0, "performance", None)
    after = CpuState(1.94, 1.75, 12.5, "performance", None)
    assert cpu_note(before, after) == (
        "host: load 0.50 before, 1.94 after, 2.5 s taken by other virtual machines, "
        "1.5 s stopped by its quota, governor performance"
    )
    unknown = CpuState(*[None] * 5)
    assert cpu_note(unknown, unknown) == ""
    assert cpu_note(unknown, after) == "host: governor performance"


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_cpu_state_of_control_groups_1(machine, mount):
    root = machine(
        {
            "proc/self/cgroup": "5:memory:/job\n3:cpu,cpuacct:/job\n",
            f"sys/fs/cgroup/{mount}/job/cpu.stat": "nr_throttled 2\nthrottled_time 1500000000\n",
        }
    )
    assert cpu_state(root).throttled_s == 1.5


def test_cpu_state_outside_the_namespace_of_control_groups(machine):
    root = machine(
        {
            "proc/self/cgroup": "0::/../../elsewhere\n",
            "sys/fs/cgroup/cpu.stat": "nr_throttled 1\nthrottled_usec 250000\n",
        }
    )
    assert cpu_state(root).throttled_s == 0.25


def test_short_line_of_proc_stat_is_no_steal(machine):
    assert cpu_state(machine({"proc/stat": "cpu 1 2\n"})).steal_s is None


def test_what_others_took_is_a_share_of_all_processors(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    after = dataclasses.replace(STATE, steal_s=(STATE.steal_s or 0.0) + 1.0)
    assert taken_share(STATE, after, 10.0) == pytest.approx(0.05)
    assert taken_share(STATE, dataclasses.replace(after, steal_s=None), 10.0) == 0.0
    assert taken_share(STATE, after, 0.0) == 0.0
