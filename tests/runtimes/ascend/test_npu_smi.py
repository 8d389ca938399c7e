import dataclasses
from pathlib import Path

import pytest

from harness.device import Presence
from harness.errors import DeviceBroken
from harness.host.command import Command, CommandResult
from harness.registry import device_spec
from harness.runtimes.ascend.environment import CannTools
from harness.runtimes.ascend.npu_smi import NpuSmi
from harness.runtimes.ascend.npu_smi_table import TableError, logic_ids_from_text, report_from_text
from harness.runtimes.ascend.probe import chip_problems, probe, unit_from_id, units_of

ASCEND310, ASCEND310P = device_spec("ascend310"), device_spec("ascend310p")
SAMPLES = Path(__file__).with_name("npu_smi")
BOARD = "\tNPU ID                         : 0\n\tChip Name : Ascend910\n\tNPU Name : 9391\n"


def sample(name):
    return (SAMPLES / f"{name}.txt").read_text()


class FakeNpuSmi:
    """Answers `npu-smi` with texts by its arguments, and anything else with an empty output."""

    def __init__(self, info, rc=0, m="", board="", timed_out=False):
        self.answers = {("info",): info, ("info", "-m"): m}
        self.board, self.rc, self.timed_out = board, rc, timed_out

    def __call__(self, command: Command) -> CommandResult:
        words = command.argv[1:]
        text = self.answers.get(words, self.board)
        return CommandResult(self.rc, text, 0.1, timed_out=self.timed_out)


def missing(command: Command) -> CommandResult:
    raise FileNotFoundError(command.argv[0])


def unstartable(command: Command) -> CommandResult:
    raise PermissionError(f"no permission: {command.argv[0]}")


def tools(tmp_path, info="", run=None, **answers):
    run = run or FakeNpuSmi(info, **answers)
    return CannTools(ascend_root=tmp_path / "none", device_root=tmp_path, run=run)


@pytest.fixture(autouse=True)
def _no_ascend(monkeypatch):
    for name in ("ASCEND_RT_VISIBLE_DEVICES", "ASCEND_TOOLKIT_HOME", "EMULATOR_STAMP"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "driver", "chips"),
    [
        ("310P3_22.0.0", "22.0.2", [(0, 0, "310P3", "OK", 17.0, 56, 0, 934, 23054, 0)]),
        (
            "310P3_22.0.4_na_power",
            "22.0.4",
            [(2144, 0, "310P3", "OK", None, 47, 0, 1807, 21527, 0)],
        ),
        (
            "310P3_24.1.0.1_processes",
            "24.1.0.1",
            [(1, 0, "310P3", "OK", None, 47, 0, 1894, 44215, 0)],
        ),
        (
            "310P3_duo_25.5.1",
            "25.5.1",
            [
                (1, 0, "310P3", "OK", None, 49, 0, 1448, 44278, 0),
                (1, 1, "310P3", "OK", None, 45, 0, 1511, 43693, 1),
            ],
        ),
        (
            "310P3_guide",
            "22.0.2",
            [
                (0, 0, "310P3", "OK", 15.8, 42, 0, 1074, 21534, 0),
                (1, 0, "310P3", "OK", 15.4, 43, 0, 1070, 21534, 1),
            ],
        ),
        (
            "310_21.0.3.1_two_chips",
            "21.0.3.1",
            [
                (1, 0, "310", "OK", 12.8, 49, 0, 2621, 8192, 0),
                (1, 1, "310", "OK", 12.8, 49, 0, 2621, 8192, 1),
            ],
        ),
        ("310B4_described", "23.0.0", [(0, 0, "310B4", "Alarm", 0.0, 55, 0, 1345, 3513, 0)]),
        ("910A_described", "21.0.4", [(0, 0, "910A", "OK", 68.4, 38, 0, 0, 32768, None)]),
        (
            "910B3_24.1.0.3",
            "24.1.0.3",
            [
                (0, 0, "910B3", "OK", 94.7, 54, 0, 3396, 65536, None),
                (1, 0, "910B3", "OK", 94.9, 52, 0, 54592, 65536, None),
            ],
        ),
        (
            "A3_described",
            "25.2.0",
            [
                (0, 0, "Ascend910", "OK", 172.8, 35, 0, 3128, 65536, None),
                (0, 1, "Ascend910", "OK", None, 34, 0, 2878, 65536, None),
            ],
        ),
    ],
)
def test_reads_every_layout(name, driver, chips):
    report = report_from_text(sample(name))
    found = [
        (
            *(c.npu_id, c.chip_id, c.name, c.health, c.power_w, c.temperature_c, c.aicore_percent),
            *(c.memory_used_mb, c.memory_total_mb, c.device_number),
        )
        for c in report.chips
    ]
    assert (report.driver_version, found) == (driver, chips)


def test_reads_the_process_table_and_glued_memory():
    report = report_from_text(sample("310P3_busy_described"))
    assert [p.pid for p in report.processes_of(report.chips[0])] == [4711]
    assert report.processes_of(report.chips[1]) == ()
    assert report.chips[0].memory_used_mb == 19435
    assert report_from_text(sample("310P3_24.1.0.1_processes")).processes == ()
    assert report_from_text(sample("310P3_22.0.0")).processes is None


def test_reads_the_map_of_logic_ids():
    assert logic_ids_from_text(sample("m_910B4")) == {(0, 0): 0, (1, 0): 1}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("npu-smi 22.0.0", "", "no line"),
        ("| NPU     Name ", "| XPU     Name ", "no header rows"),
    ],
)
def test_refuses_a_table_that_is_not_one(old, new, words):
    text = sample("310P3_22.0.0")
    assert old in text
    with pytest.raises(TableError, match=words):
        report_from_text(text.replace(old, new))


FIRST = "| 1       310P3                 | OK              | NA           49                0     / 0             |"
SECOND = "| 0       0                     | 0000:01:00.0    | 0            1448 / 44278                            |"


@pytest.mark.parametrize(
    ("old", "new", "name", "words"),
    [
        (FIRST, FIRST.replace("OK  ", "fine"), "310P3", "health 'fine'"),
        (SECOND, SECOND.replace("1448 / 44278", "1448        "), "310P3", "no memory"),
        (FIRST, FIRST.replace("1       310P3", "one     310P3"), "310P3", "invalid literal"),
        (FIRST + "\n", "", None, "one of its two lines is missing"),
        (SECOND + "\n", "", "310P3", "one of its two lines is missing"),
        (FIRST, FIRST.replace("310P3", "     "), None, "its record is empty"),
        (SECOND, SECOND.replace("1448 / 44278", "   0 / 0    "), "310P3", "its record is empty"),
    ],
)
def test_a_chip_that_cannot_be_read_is_lost_and_the_others_are_used(
    tmp_path, old, new, name, words
):
    whole = sample("310P3_duo_25.5.1")
    assert old in whole
    text = whole.replace(old, new, 1)
    (lost,) = report_from_text(text).lost
    assert (lost.name, words in lost.reason) == (name, True), lost
    state = probe(ASCEND310P, tools(tmp_path, text))
    assert (state.presence, state.unit_ids) == (Presence.PRESENT, ("npu1-chip1",))
    assert f"NOT USED: {lost.reason}" in state.detail
    with pytest.raises(DeviceBroken, match="npu1-chip0 can no longer be used"):
        unit_from_id(ASCEND310P, tools(tmp_path, text), "npu1-chip0")


def test_a_lost_chip_is_of_no_other_kind_than_its_name_says(tmp_path):
    alone = sample("310P3_22.0.0").replace("| OK      ", "| fine    ")
    assert probe(ASCEND310P, tools(tmp_path, alone)).presence is Presence.BROKEN
    assert probe(ASCEND310, tools(tmp_path, alone)).presence is Presence.ABSENT
    nameless = sample("310P3_22.0.0").replace("310P3", "     ")
    assert probe(ASCEND310, tools(tmp_path, nameless)).presence is Presence.BROKEN


def test_memory_whose_use_is_unknown_is_read(tmp_path):
    text = sample("310P3_22.0.0").replace("934  / 23054", "NA   / 23054")
    (unit,), _ = units_of(ASCEND310P, tools(tmp_path, text))
    assert "memory NA/23054 MB" in unit.text


@pytest.mark.parametrize("fault", ["smi_empty_record", "smi_lost_line"])
def test_the_emulator_loses_a_chip_too(bench, fault):
    bench.monkeypatch.setenv("EMULATOR_CHIP_COUNT", "2")
    bench.fault(fault)
    state = bench.device().probe()
    assert (state.unit_ids, "NOT USED: npu-smi shows" in state.detail) == (("npu1-chip1",), True)


def test_a_process_uses_its_chip_whatever_else_can_be_read_of_it():
    busy = sample("310P3_busy_described")
    (process,) = report_from_text(busy.replace("| 4711 ", "| some ")).processes
    assert (process.npu_id, process.pid, process.memory_mb) == (8, None, 17000)
    with pytest.raises(TableError, match="does not describe a process"):
        report_from_text(busy.replace("| 8       0                     | 4711", "| many | 4711"))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"info": "dcmi module initialize failed. ret is -8005"}, "ret is -8005.*load the driver"),
        (
            {
                "info": "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"
                "dcmi model initialized failed, because the device is used. ret is -8020",
                "rc": 1,
            },
            "ret is -8020.*in use",
        ),
        ({"info": "dcmi something. ret is -9"}, "ret is -9.*by hand"),
        ({"info": "\x00\x01 segfault"}, "cannot read"),
        ({"info": ""}, "cannot read"),
        ({"info": "oops", "rc": 3}, "status 3 and printed oops"),
        ({"info": sample("310P3_22.0.0"), "rc": 1}, "status 1"),
        ({"info": "", "timed_out": True}, "did not answer within 30 s"),
    ],
)
def test_a_broken_npu_smi_is_broken_and_says_so(tmp_path, answers, words):
    state = probe(ASCEND310P, tools(tmp_path, **answers))
    assert state.presence is Presence.BROKEN
    with pytest.raises(DeviceBroken, match="(?s)" + words):
        NpuSmi(run=FakeNpuSmi(**answers)).report()


def test_no_npu_smi_and_no_node_is_absent(tmp_path):
    state = probe(ASCEND310P, tools(tmp_path, run=missing))
    assert state.presence is Presence.ABSENT
    assert "npu-smi is not on PATH" in state.detail
    assert "install the Ascend driver" in state.detail


def test_a_device_node_without_npu_smi_is_broken(tmp_path):
    (tmp_path / "davinci0").touch()
    (tmp_path / "davinci_manager").touch()
    state = probe(ASCEND310P, tools(tmp_path, run=missing))
    assert state.presence is Presence.BROKEN
    assert "davinci0 exist" in state.detail


def test_an_npu_smi_that_cannot_be_started_is_broken(tmp_path):
    state = probe(ASCEND310P, tools(tmp_path, run=unstartable))
    assert (state.presence, "cannot be started" in state.detail) == (Presence.BROKEN, True)


def test_a_table_without_chips_is_absent(tmp_path):
    head = "\n".join(sample("310P3_22.0.0").splitlines()[:6])
    state = probe(ASCEND310P, tools(tmp_path, head))
    assert (state.presence, "lists no chip" in state.detail) == (Presence.ABSENT, True)


def test_another_chip_is_absent_and_named(tmp_path):
    state = probe(ASCEND310, tools(tmp_path, sample("310P3_22.0.0")))
    assert state.presence is Presence.ABSENT
    assert "lists 310P3; looked for 310" in state.detail


@pytest.mark.parametrize(("cann", "is_refused"), [("8.2.RC1", False), ("8.3.RC1", True)])
def test_a_310_needs_a_cann_that_knows_it(tmp_path, cann, is_refused):
    host = tools(tmp_path, sample("310_21.0.3.1_two_chips"))
    info = host.ascend_root / "cann" / "opp" / "version.info"
    info.parent.mkdir(parents=True)
    info.write_text(f"Version={cann}\n")
    state = probe(ASCEND310, host)
    assert (state.presence is Presence.BROKEN) == is_refused
    assert (
        "CANN 8.3.RC1 no longer drives the Ascend 310, and 8.2 is" in state.detail
    ) == is_refused


def test_present_states_the_facts(tmp_path):
    state = probe(ASCEND310P, tools(tmp_path, sample("310P3_duo_25.5.1")))
    assert state.presence is Presence.PRESENT
    assert state.unit_ids == ("npu1-chip0", "npu1-chip1")
    assert state.facts["soc_version"] == "Ascend310P3"
    assert state.facts["driver"] == "25.5.1"
    assert "health OK, 49 °C, NA W, memory 1448/44278 MB" in state.detail
    assert not state.emulated


def test_the_most_idle_healthy_chip_comes_first(tmp_path):
    state = probe(ASCEND310P, tools(tmp_path, sample("310P3_busy_described")))
    assert state.unit_ids == ("npu8-chip0", "npu32800-chip0")
    assert "npu32800-chip0 310P3, health Warning" in state.detail


def test_only_unhealthy_chips_are_broken(tmp_path):
    text = sample("310P3_22.0.0").replace("| OK      ", "| Critical")
    state = probe(ASCEND310P, tools(tmp_path, text))
    assert state.presence is Presence.BROKEN
    assert "npu0-chip0 Critical" in state.detail


def test_visible_devices_hide_and_renumber(tmp_path, monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")
    (unit,), _ = units_of(ASCEND310P, tools(tmp_path, sample("310P3_duo_25.5.1")))
    assert (unit.id, unit.device_number) == ("npu1-chip1", 0)
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "5")
    state = probe(ASCEND310P, tools(tmp_path, sample("310P3_duo_25.5.1")))
    assert "ASCEND_RT_VISIBLE_DEVICES=5 and the device ids of site.toml (all) hide" in state.detail
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1,0")
    assert (
        "ascending order" in probe(ASCEND310P, tools(tmp_path, sample("310P3_duo_25.5.1"))).detail
    )


def test_the_site_may_leave_some_devices_out(tmp_path):
    duo = tools(tmp_path, sample("310P3_duo_25.5.1"))
    only = dataclasses.replace(duo, device_numbers=(1,))
    assert probe(ASCEND310P, only).unit_ids == ("npu1-chip1",)
    none = probe(ASCEND310P, dataclasses.replace(duo, device_numbers=(7,)))
    assert (none.presence, "site.toml [7] hide" in none.detail) == (Presence.ABSENT, True)


def test_what_changes_from_minute_to_minute_is_no_fact(tmp_path):
    one = tools(tmp_path, sample("310P3_22.0.0"))
    warmer = tools(tmp_path, sample("310P3_22.0.0").replace("56 ", "61 ").replace("934 ", "999 "))
    assert probe(ASCEND310P, one).facts == probe(ASCEND310P, warmer).facts


def test_a_unit_is_found_by_its_name(tmp_path):
    duo = tools(tmp_path, sample("310P3_duo_25.5.1"))
    assert unit_from_id(ASCEND310P, duo, "npu1-chip1").device_number == 1
    assert unit_from_id(ASCEND310P, duo, None).id == "npu1-chip0"
    with pytest.raises(DeviceBroken, match="npu9-chip0 can no longer be used"):
        unit_from_id(ASCEND310P, duo, "npu9-chip0")


def test_device_numbers_come_from_the_map_where_the_table_has_none():
    smi = NpuSmi(run=FakeNpuSmi(sample("910B3_24.1.0.3"), m=sample("m_910B4")))
    assert [smi.device_number(chip) for chip in smi.report().chips] == [0, 1]
    lost = NpuSmi(run=FakeNpuSmi(sample("910B3_24.1.0.3"), m="0 7 3 Ascend 910B4"))
    with pytest.raises(DeviceBroken, match="no Chip Logic ID for NPU 0"):
        lost.device_number(lost.report().chips[0])
    empty = NpuSmi(run=FakeNpuSmi(sample("910B3_24.1.0.3"), m="nothing here"))
    with pytest.raises(DeviceBroken, match="Chip Logic ID"):
        empty.logic_ids()


def test_soc_version_follows_the_chip():
    smi = NpuSmi(run=FakeNpuSmi(sample("910B3_24.1.0.3")))
    assert smi.soc_version(smi.report().chips[0]) == "Ascend910B3"
    a3 = NpuSmi(run=FakeNpuSmi(sample("A3_described"), board=BOARD))
    assert a3.soc_version(a3.report().chips[0]) == "Ascend910_9391"
    odd = NpuSmi(run=FakeNpuSmi(sample("A3_described"), board="Chip Name : Ascend910"))
    with pytest.raises(DeviceBroken, match="NPU Name"):
        odd.soc_version(odd.report().chips[0])
    mute = NpuSmi(run=FakeNpuSmi(sample("A3_described"), board="unsupported"))
    with pytest.raises(DeviceBroken, match="name : value"):
        mute.board(0)


def test_a_hot_shared_or_unhealthy_chip_spoils_a_measurement(tmp_path):
    idle = unit_from_id(ASCEND310P, tools(tmp_path, sample("310P3_22.0.0")), None)
    (busy, warned), _ = units_of(ASCEND310P, tools(tmp_path, sample("310P3_busy_described")))
    assert chip_problems(idle, idle) == []
    text = " / ".join(chip_problems(busy, warned))
    for words in ("91 °C is above 85 °C", "4711 python3 serve (17000 MB)", "AICore already 37 %"):
        assert words in text
    assert "npu32800-chip0 after the run: health Warning" in text
