import pytest

from harness.__main__ import main
from harness.check.precision_search import Trial

WHERE = ("precision", "search", "nonlocal_tiny", "--device", "ascend310p")


def trials(needed, query_ms=lambda keep: 5.0 + len(keep)):
    """Return what stands in for building: a model that needs some operators kept."""

    def made(context, precisions):
        def run(keep):
            is_met = needed is not None and needed <= set(keep)
            return Trial(keep, is_met, "off by far", None, ("/a", "/b", "/c"), query_ms(keep))

        return run

    return made


@pytest.mark.parametrize(
    ("needed", "status", "lines"),
    [
        (
            set(),
            0,
            ["nonlocal_tiny-ascend310p-bs1 meets its limits in fp16: nothing has to be kept"],
        ),
        (None, 1, ["No keep list helps, so fp16 is not what is wrong: off by far"]),
        (
            {"/b"},
            0,
            [
                "5 builds. Kept: /b",
                "Cost: 5.00 -> 6.00 ms a query (+20.0 %)",
                '    precisions={"kept": Precision(keep=("/b",))},',
                '    no_golden = ["bs1-kept"]',
            ],
        ),
    ],
)
def test_prints_the_table_to_paste_and_its_cost(capsys, monkeypatch, needed, status, lines):
    monkeypatch.setattr("harness.cli.precision.Trials", trials(needed))
    assert main(WHERE) == status
    printed = capsys.readouterr().out.splitlines()
    assert set(lines) <= set(printed)
    assert printed[:2] == [
        "build  parity  ms a query  kept in float32",
        f"1      {'fail' if needed != set() else 'pass'}    5.00        nothing",
    ]


def test_times_that_do_not_count_are_no_cost(capsys, monkeypatch):
    monkeypatch.setattr("harness.cli.precision.Trials", trials({"/b"}, lambda keep: None))
    assert main(WHERE) == 0
    assert "Its cost in speed was not measured" in capsys.readouterr().out


def test_a_device_that_computes_in_float32_has_nothing_to_keep(capsys):
    assert main((*WHERE[:4], "cpu")) == 2
    assert "cpu computes in fp32: there is nothing to keep" in capsys.readouterr().err
