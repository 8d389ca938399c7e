import dataclasses
import datetime
import json
import tomllib

import pydantic
import pytest

from harness.contract.tables import Waiver
from harness.contract.thresholds import thresholds_from_file
from harness.contract.toml import table_lines
from harness.errors import BuildError, DeviceAbsent, RecordError
from harness.judge.verdict import at_most
from harness.record.record import RunDirectory
from harness.report.lines import Asked, line_from_record
from harness.report.release import signoff_schema
from harness.report.values import Release
from harness.selftest.bends import bind


def kinds(release):
    return [reason.kind for reason in release.reasons]


def text(release):
    return " ".join(reason.text for reason in release.reasons)


def with_waivers(thresholds, *waivers):
    file = thresholds.file.model_copy(update={"waivers": waivers})
    return dataclasses.replace(thresholds, file=file)


@pytest.fixture
def whole(make_run, release_cells):
    """Make a run in which everything that the release requires has passed."""

    def make(name="whole", **more):
        return make_run(name, release_cells, **more)

    return make


def test_ships_what_it_has_seen_pass(whole, decide, required_count):
    release = decide(whole())
    assert (release.decision, release.reasons) == ("SHIP", ())
    assert release.coverage.passed_checks == release.coverage.required_checks == required_count
    assert Release.from_json(release.model_dump_json()) == release


def test_runs_of_several_hosts_are_one_release(make_run, release_cells, decide):
    groups = {}
    for cell in release_cells:
        groups.setdefault(cell.device, []).append(cell)
    release = decide(*(make_run(device, cells) for device, cells in groups.items()))
    assert release.decision == "SHIP"
    assert {run.run_id for run in release.runs} == set(groups)
    assert len(release.tables.versions) == len(groups)


def test_the_same_versions_in_several_runs_are_told_once(make_run, release_cells, decide):
    cells = [cell for cell in release_cells if cell.device == "cuda"]
    host = {"environment": {"host": "one"}}
    release = decide(make_run("first", cells[:2], **host), make_run("second", cells[2:], **host))
    (row,) = release.tables.versions
    assert (row.device, row.run_id) == ("cuda", "first")


def test_what_another_host_lacks_is_not_held_against_the_one_that_has_it(
    make_run, release_cells, decide
):
    ours = [cell for cell in release_cells if cell.device != "cuda"]
    theirs = [cell for cell in release_cells if cell.device == "cuda"]
    absent = {f"{c.id}:{k}": {"raises": DeviceAbsent("no T4")} for c in theirs for k in KINDS}
    assert decide(make_run("b", theirs), make_run("a", [*ours, *theirs], absent)).decision == "SHIP"


KINDS = ("export", "parity", "accuracy", "throughput")


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"is_over": False}, "stopped run", "stopped"),
        ({"broken": {"test_x": "teardown failed"}}, "broken run", "test_x: teardown failed"),
        ({"environment": {"suite.dirty": "yes"}}, "suite commit", "changes that are in no commit"),
        ({"environment": {"suite.dirty": "unknown"}}, "suite commit", "is not known"),
        ({"environment": {"suite.commit": "unknown"}}, "suite commit", "is not known"),
        ({"environment_after": {"suite.commit": "f" * 40}}, "suite commit", "while a run went on"),
        ({"environment_after": {"suite.dirty": "yes"}}, "suite commit", "while a run went on"),
        ({"thresholds_digest": "0" * 64}, "thresholds", "judged by other thresholds"),
        ({"tier": "nightly"}, "partial", "run in the nightly tier"),
        ({"record": {"weights": "seeded"}}, "seeded", "seeded weights"),
        ({"record": {"is_emulated": True}}, "emulated", "an emulator answered"),
        ({"record": {"signoff_blockers": ("only half of it",)}}, "partial", "only half of it"),
    ],
)
def test_each_of_these_alone_stops_a_release(whole, decide, changes, kind, said):
    release = decide(whole(**changes))
    assert release.decision == "DO NOT SHIP"
    assert set(kinds(release)) == {kind}
    assert said in text(release)


def test_every_outcome_but_a_pass_is_a_reason(make_run, release_cells, every_outcome, decide):
    release = decide(make_run("every", release_cells, every_outcome))
    assert kinds(release) == ["not run", "not run", "fail", "error", "invalid", "inconclusive"]
    assert [cell.has_gap for cell in release.cells[:3]] == [True, True, False]
    assert release.coverage.run_cells == release.coverage.required_cells - 2


def test_a_subset_is_partial(make_run, release_cells, decide):
    plan = {f"{release_cells[0].id}:accuracy": {"is_whole": False, "lost": 0, "gained": 0}}
    release = decide(make_run("subset", release_cells, plan))
    assert "partial" in kinds(release)
    assert "accuracy on a subset of 197 clips" in text(release)


def test_nothing_is_not_green(make_run, decide):
    release = decide(make_run("empty", []))
    assert release.decision == "DO NOT SHIP"
    assert "nothing was shown" in text(release)
    assert release.coverage.run_checks == 0


def test_a_red_check_that_nobody_requires_is_red(make_run, release_cells, thresholds, decide):
    (tiny,) = (cell for cell in thresholds.cells() if cell.id == "nonlocal_tiny-cpu-bs1")
    plan = {f"{tiny.id}:export": {"raises": BuildError("broke")}}
    release = decide(make_run("more", [*release_cells, tiny], plan))
    assert kinds(release) == ["error"]
    assert release.cells[-1].id == tiny.id


def test_a_check_that_was_tried_until_it_passed_is_red(make_run, release_cells, decide):
    cell = release_cells[0]
    failed = make_run("first", [cell], {f"{cell.id}:accuracy": {"drop": 200}})
    release = decide(make_run("second", release_cells), failed)
    assert {"repeated", "fail"} == set(kinds(release))
    (shown,) = (line for line in release.check_lines if line.id == f"{cell.id}:accuracy")
    assert (shown.outcome, shown.run_id) == ("fail", "first")


def test_runs_of_different_commits_are_no_release(make_run, release_cells, decide):
    other = make_run("b", release_cells[:1], environment={"suite.commit": "f" * 40})
    release = decide(make_run("a", release_cells[1:]), other)
    assert "of different suite commits: 8803df0ab19c, ffffffffffff" in text(release)
    assert release.commit is None


def test_a_pass_that_its_measurement_does_not_bear_out_is_found(whole, decide):
    run = whole()
    lines = (run.root / "records.jsonl").read_text("utf-8").splitlines()
    place = next(n for n, line in enumerate(lines) if '"check":"export"' in line)
    record = json.loads(lines[place])
    record["measurement"]["problems"] = ["a node of another domain"]
    lines[place] = json.dumps(record)
    (run.root / "records.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    bind(run.root)
    release = decide(run)
    assert kinds(release) == ["unfounded"]
    assert "comes to fail: 1 problem(s)" in text(release)


def test_a_cell_without_limits_is_shown_and_stops_the_release(whole, thresholds, decide):
    models = {k: v for k, v in thresholds.file.models.items() if k != "timesformer"}
    file = thresholds.file.model_copy(update={"models": models})
    release = decide(whole(), thresholds=dataclasses.replace(thresholds, file=file))
    assert kinds(release) == ["unfounded"]
    assert "no limits" in text(release)
    assert not any(cell.is_required for cell in release.cells if cell.model == "timesformer")


class TestWaivers:
    @pytest.fixture
    def waiver(self, release_cells):
        return Waiver(
            cell=release_cells[0].id,
            check="accuracy",
            reason="a known loss",
            issue="#12",
            owner="ada",
            expires=datetime.date(2026, 12, 31),
        )

    @pytest.fixture
    def failing(self, make_run, release_cells):
        plan = {f"{release_cells[0].id}:accuracy": {"drop": 200}}
        return make_run("failing", release_cells, plan)

    def test_a_waived_failure_is_shown_as_waived(
        self, failing, waiver, thresholds, decide, required_count
    ):
        release = decide(failing, thresholds=with_waivers(thresholds, waiver))
        assert release.decision == "SHIP"
        assert release.coverage.waived_checks == 1
        assert release.coverage.passed_checks == required_count - 1
        assert release.waivers[0].covers == (waiver.id,)
        assert (release.waivers[0].owner, release.waivers[0].expires) == ("ada", "2026-12-31")

    def test_an_expired_waiver_waives_nothing(self, failing, waiver, thresholds, decide):
        later = datetime.date(2027, 1, 1)
        release = decide(failing, thresholds=with_waivers(thresholds, waiver), today=later)
        assert kinds(release) == ["fail", "waiver"]
        assert "expired on 2026-12-31" in text(release)

    def test_a_waiver_of_a_pass_stops_the_release(self, whole, waiver, thresholds, decide):
        release = decide(whole(), thresholds=with_waivers(thresholds, waiver))
        assert kinds(release) == ["waiver"]
        assert release.waivers[0].problem


def test_margins_carry_the_interval_that_they_were_judged_by(whole, decide):
    lines = {line.id: line for line in decide(whole()).check_lines}
    speed = lines["nonlocal_r50-ascend310p-bs4:throughput"].findings[0]
    assert speed.interval.low < speed.measured < speed.interval.high
    top1, _, loss = lines["nonlocal_r50-ascend310p-bs4:accuracy"].findings[:3]
    assert top1.interval.low < top1.measured < top1.interval.high
    assert loss.interval.high == pytest.approx(loss.measured)
    assert lines["nonlocal_r50-ascend310p-bs4:parity"].findings[0].interval is None


def test_waiting_is_shown_without_the_interval_of_the_speed_beside_it(whole, thresholds):
    records = whole().records()
    record = next(one for one in records if one.id == "nonlocal_r50-cpu-bs1:throughput")
    waiting = at_most("waiting in a query", 0.2, 1.0, "ms")
    findings = (*record.verdict.findings, waiting)
    verdict = record.verdict.model_copy(update={"findings": findings})
    asked = Asked(record.cell, "throughput", thresholds.limits(record.cell), is_required=True)
    line = line_from_record(record.model_copy(update={"verdict": verdict}), asked, is_waived=False)
    assert [one.interval is None for one in line.findings] == [False, False, True]


class TestBadInput:
    def test_no_run(self, decide):
        with pytest.raises(RecordError, match="no run was given"):
            decide()

    def test_one_run_twice(self, make_run, release_cells, decide):
        run = make_run("a", release_cells[:1])
        with pytest.raises(RecordError, match="run a is given twice"):
            decide(run, run)

    def test_no_run_folder(self, tmp_path, decide):
        with pytest.raises(RecordError, match="is it a run folder"):
            decide(RunDirectory(tmp_path / "absent"))

    def test_a_truncated_record(self, make_run, release_cells, decide):
        run = make_run("a", release_cells[:1])
        path = run.root / "records.jsonl"
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(RecordError, match="line 4 is truncated or damaged"):
            decide(run)

    def test_a_missing_raw_file(self, make_run, release_cells, decide):
        run = make_run("a", release_cells[:1])
        next((run.root / "raw").iterdir()).unlink()
        with pytest.raises(RecordError, match=r"raw latencies: raw file .* is missing"):
            decide(run)

    def test_mixed_schema_versions(self, make_run, release_cells, decide):
        run = make_run("a", release_cells[:1])
        path = run.root / "records.jsonl"
        path.write_text(
            path.read_text("utf-8").replace('"schema_version":1', '"schema_version":2', 1)
        )
        with pytest.raises(RecordError, match="schema version 2, this harness reads 1"):
            decide(run)


class TestValues:
    def test_ship_cannot_be_built_with_a_reason(self, whole, decide):
        release = decide(whole(is_over=False))
        with pytest.raises(pydantic.ValidationError, match="no reason against it"):
            Release.model_validate(release.model_dump() | {"decision": "SHIP"})

    def test_ship_cannot_be_built_of_nothing(self, make_run, decide):
        release = decide(make_run("empty", []))
        values = release.model_dump() | {"decision": "SHIP", "reasons": (), "cells": ()}
        with pytest.raises(pydantic.ValidationError, match="every required check passed"):
            Release.model_validate(values)

    def test_do_not_ship_needs_a_reason(self, whole, decide):
        values = decide(whole()).model_dump() | {"decision": "DO NOT SHIP"}
        with pytest.raises(pydantic.ValidationError, match="needs a reason"):
            Release.model_validate(values)

    def test_the_schema_knows_every_field(self):
        schema = json.loads(signoff_schema())
        assert set(schema["properties"]) == set(Release.model_fields)


@pytest.fixture(scope="module")
def tables(tmp_path_factory, thresholds, release_cells, decide, run_maker):
    make = run_maker(tmp_path_factory.mktemp("tables"), thresholds)
    return decide(make("whole", release_cells)).tables


class TestGuideTables:
    def test_versions(self, tables):
        by_device = {row.device: row for row in tables.versions}
        ascend, cpu = by_device["ascend310p"], by_device["cpu"]
        assert (ascend.chip, ascend.driver, ascend.runtime) == (
            "310P3",
            "24.1.rc2",
            "CANN 8.0.RC2",
        )
        assert (cpu.driver, cpu.runtime) == ("none", "ONNX Runtime 1.32.0")

    def test_accuracy_beside_the_guide(self, tables):
        rows = {(row.model, row.device): row for row in tables.accuracy}
        row = rows["nonlocal_r50", "ascend310p"]
        assert row.guide_top1 == 0.7162
        assert row.deviation_top1 == pytest.approx(100 * (row.top1 - 0.7162))

    def test_how_often_perfect_devices_would_not_be_green(self, tables, release_cells):
        chance = tables.accuracy_chance
        # Five clips flip in each model, far too few to reach a floor 39 clips away.
        assert (chance.cells, chance.clips, chance.share) == (len(release_cells), 10, 0.0)

    def test_throughput_beside_the_guide_where_the_scopes_agree(self, tables):
        rows = {row.batch: row for row in tables.throughput if row.model == "nonlocal_r50"}
        old, new = rows[4].speeds["ascend310"], rows[4].speeds["ascend310p"]
        assert (old.scope, old.guide_scope, old.guide) == ("chip", "card", 56.076)
        assert old.deviation is None
        assert new.deviation == pytest.approx(new.per_s / 78.2537 - 1)

    def test_words_of_sources_and_new_goldens_change_nothing(
        self, tables, tmp_path, thresholds, release_cells, decide, run_maker
    ):
        contract = tomllib.loads(thresholds.path.read_text("utf-8"))
        contract["sources"] = {key: f"re-worded {key}" for key in contract["sources"]}
        for device in contract["models"]["nonlocal_r50"]["devices"].values():
            device["top1"] = device.get("top1", {}) | {"golden": 0.7, "source": "zoo"}
            for row in device["throughput"].values():
                if isinstance(row, dict):
                    row["golden"] *= 0.9
        path = tmp_path / "thresholds.toml"
        path.write_text("\n".join(table_lines(contract)), "utf-8")
        run = run_maker(tmp_path, thresholds)("whole", release_cells)
        other = decide(run, thresholds=thresholds_from_file(path)).tables
        beside = [
            [
                (device, speed.per_s, speed.guide, speed.guide_scope, speed.deviation)
                for row in one.throughput
                for device, speed in row.speeds.items()
            ]
            for one in (tables, other)
        ]
        assert beside[0] == beside[1]
        shown = [
            [(row.guide_top1, row.guide_top5) for row in one.accuracy] for one in (tables, other)
        ]
        assert shown[0] == shown[1]

    def test_where_the_guide_has_no_figure_the_note_says_what_is_expected(self, tables):
        rows = {(row.model, row.device): row for row in tables.accuracy}
        row = rows["nonlocal_r50", "cpu"]
        assert (row.guide_top1, row.deviation_top1) == (None, None)
        assert row.note == "no figure in the guide; top-1 71.60 % expected"

    def test_ratios_are_those_of_the_guide(self, tables):
        rows = {row.batch: row for row in tables.throughput if row.model == "nonlocal_r50"}
        found = {ratio.name: ratio for ratio in rows[64].ratios}
        assert found["310P/T4"].guide == pytest.approx(1.0397, abs=1e-4)
        assert found["310P/310"].guide == pytest.approx(1.3899, abs=1e-4)
        assert found["310P/310"].scopes == ("chip", "chip")
        assert not found["310P/310"].is_comparable

    def test_best_batches_are_those_of_the_guide(self, tables):
        rows = {row.batch: row for row in tables.throughput if row.model == "nonlocal_r50"}
        assert rows[1].speeds["ascend310p"].is_best
        assert not rows[4].speeds["ascend310p"].is_best
        assert rows[4].speeds["ascend310"].is_best
        assert rows[None].speeds["ascend310p"].guide == 97.6916
        assert {ratio.name for ratio in rows[None].ratios} == {"310P/310", "310P/T4"}
