import pytest

from harness.contract.thresholds import thresholds_from_file
from harness.decide.speeds import best_batches, ratios, speed_lines, speeds_from_records, variants
from harness.judge.verdict import Verdict
from harness.measure.throughput import SessionTiming, throughput_measurement
from harness.record.record import Record
from harness.spec import Cell, Status
from tests import made

MODEL = "nonlocal_r50"


@pytest.fixture(scope="module")
def references(pytestconfig):
    return thresholds_from_file(pytestconfig.rootpath / "thresholds.toml").references()


def record(
    device, batch, *session_speeds, model=MODEL, status=Status.FAIL, check="throughput", **k
):
    times = [1000.0 * batch / per_s for per_s in session_speeds]
    sessions = [SessionTiming(device_ms=(ms, ms), device_io_ms=(ms, ms)) for ms in times]
    measurement = throughput_measurement(sessions, batch)
    return Record(
        run_id="r",
        tier="nightly",
        model=model,
        device=device,
        batch=batch,
        check=check,
        verdict=Verdict(status=status, reason="why"),
        measurement=measurement,
        device_facts={"soc_version": "Ascend310P3"} if device.startswith("ascend") else {},
        is_device_present=True,
        started="now",
        seconds=0.0,
        **k,
    )


def test_the_best_batch_is_the_fastest_and_names_what_sessions_do_not_tell_apart(references):
    records = [
        record("ascend310p", 8, 90.0, 100.0, 95.0),
        record("ascend310p", 1, 97.0, 97.1, 97.2),
        record("ascend310p", 4, 78.0, 78.1, 78.2),
    ]
    speeds = speeds_from_records(records, references)
    assert [speed.cell.batch for speed in speeds] == [1, 4, 8]
    (best,) = best_batches(speeds)
    assert (best.cell, best.guide) == (Cell(MODEL, "ascend310p", 1), 1)
    assert speeds[0].per_s == pytest.approx(97.1, rel=1e-3)
    assert best.not_slower == (8,)


def test_a_gear_is_shown_beside_the_model_of_one_batch_size(references):
    records = [
        record("ascend310p", 4, 99.0, 101.0, model="nonlocal_tiny"),
        record("ascend310p", 4, 89.0, 91.0, model="nonlocal_tiny", precision="gears"),
        # Without a plain cell there is nothing to show it beside.
        record("ascend310p", 8, 50.0, 51.0, model="nonlocal_tiny", precision="gears"),
    ]
    (found,) = variants(records, references)
    assert found.ratio == pytest.approx(0.9, rel=1e-3)
    assert found.bounds.low < 0.9 < found.bounds.high
    lines = speed_lines(records, references)
    assert lines[-1].startswith("    nonlocal_tiny-ascend310p-bs4-gears against bs4: 0.90 times as")


def test_one_batch_is_not_the_best_of_any(references):
    speeds = speeds_from_records([record("ascend310p", 1, 97.0, 98.0)], references)
    assert len(speeds) == 1
    assert best_batches(speeds) == ()
    assert speed_lines([record("ascend310p", 1, 97.0)], references) == []


def test_one_session_tells_nothing_apart(references):
    records = [record("ascend310p", 1, 97.0), record("ascend310p", 4, 96.9)]
    (best,) = best_batches(speeds_from_records(records, references))
    assert best.not_slower == ()
    # Nor beside three sessions, whichever of the two is the best.
    for other in (96.0, 98.0):
        beside = [records[0], record("ascend310p", 4, other, other, other)]
        (best,) = best_batches(speeds_from_records(beside, references))
        assert best.not_slower == ()


def test_what_does_not_count_has_no_speed(references):
    records = [
        record("ascend310p", 1, 97.0, status=Status.INVALID),
        record("ascend310p", 4),
        record("ascend310p", 3, 97.0),
    ]
    assert speeds_from_records(records, references) == ()
    for other in (None, made.measured("export")):
        one = record("ascend310p", 1, 97.0).model_copy(update={"measurement": other})
        assert speeds_from_records([one], references) == ()


def test_ratios_are_at_each_batch_of_both_and_best_to_best(references):
    records = [
        record("ascend310p", 1, 100.0),
        record("ascend310p", 4, 80.0),
        record("ascend310p", 16, 70.0),
        record("ascend310", 1, 12.5),
        record("ascend310", 4, 16.0),
    ]
    found = ratios(speeds_from_records(records, references))
    assert [([one.cell.batch for one in ratio.pair], ratio.value) for ratio in found] == [
        ([1, 1], pytest.approx(8.0)),
        ([4, 4], pytest.approx(5.0)),
        ([1, 4], pytest.approx(6.25)),
    ]
    assert [ratio.is_best for ratio in found] == [False, False, True]
    assert found[0].guide == pytest.approx(97.6916 / 53.8752)


def test_a_chip_is_never_compared_with_a_card_in_silence(references):
    records = [
        record("ascend310p", 1, 100.0),
        record("ascend310", 1, 12.5),
        record("cuda", 1, 50.0),
    ]
    old, _, gpu, _ = ratios(speeds_from_records(records, references))
    assert (old.scopes, old.guide_scopes) == (("chip", "chip"), ("chip", "card"))
    assert (gpu.scopes, gpu.guide_scopes) == (("chip", "card"), ("chip", "card"))
    text = "\n".join(speed_lines(records, references))
    assert (
        "nonlocal_r50 ascend310p / ascend310 at bs1: 8.00 (chip to chip); "
        "guide, 310P / 310: 1.81 (chip to card): not of the same scope, so not to be compared"
    ) in text
    assert (
        "nonlocal_r50 ascend310p / cuda at the best bs1: 2.00 (chip to card); "
        "guide, 310P / T4: 1.57 (chip to card)\n" in text + "\n"
    )
    assert (
        "nonlocal_r50 ascend310, by chip: bs1 12.5 (53.88); the guide's numbers are by card, not "
        "by chip"
    ) in text


def test_the_table_shows_speeds_beside_the_guide_and_the_best(references):
    records = [
        record("ascend310p", 1, 97.0, 97.1, is_emulated=True, signoff_blockers=("emulated",)),
        record("ascend310p", 4, 97.1, 97.0),
    ]
    head, line, stamp = speed_lines(records, references)
    assert head == "Speed by batch size in clips/s (the guide's in brackets):"
    assert line.endswith(
        "by chip: bs1 97.05 (97.69)  bs4 97.05 (78.25); best bs1, not told apart from bs4"
        " (guide: bs1)"
    )
    assert "EMULATED times" in stamp


def test_speeds_beside_pytorch_have_no_guide(references):
    records = [record("cpu", batch, 50.0, model="nonlocal_tiny") for batch in (1, 8)]
    (best,) = best_batches(speeds_from_records(records, references))
    assert best.guide is None
    line = speed_lines(records, references)[1]
    assert line == "    nonlocal_tiny cpu, by host: bs1 50  bs8 50; best bs1"


def test_every_cell_has_a_reference(references):
    assert Cell("timesformer", "ascend310p", 1) in references
