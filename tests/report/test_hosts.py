"""The strip that shows which host did what when."""

import pytest

from harness.language import speaking
from harness.measure.measurement import json_lines
from harness.record.stints import HOSTS, Stint
from harness.report import hosts
from harness.report.evidence import Evidence, evidence_from_records
from harness.report.page import page_from_release

SHARDS, TORCH = "m-cpu-bs1 accuracy: predictions", "m-cpu-bs1 accuracy: reference"


def stint(host, what, start_s, end_s, fault=""):
    return Stint(host=host, what=what, start_s=1000.0 + start_s, end_s=1000.0 + end_s, fault=fault)


@pytest.fixture
def found():
    stints = (
        stint("second", SHARDS, 10, 20),
        stint("second", SHARDS, 21, 30, "lost"),
        stint("second", SHARDS, 90, 95),
        stint("first", SHARDS, 10, 60),
        stint("first", TORCH, 0, 40),
    )
    return {"m-cpu-bs1": Evidence(stints=stints)}


def test_calls_in_a_row_are_one_span_and_what_was_lost_stays(found):
    rows = hosts.strip_rows(hosts.spans(found))
    assert rows == [
        ["first", "1", TORCH, "0.0", "40.0", "1", ""],
        ["first", "2", SHARDS, "10.0", "60.0", "1", ""],
        ["second", "2", SHARDS, "10.0", "30.0", "2", "lost"],
        ["second", "2", SHARDS, "90.0", "95.0", "1", ""],
    ]


def test_what_runs_at_one_time_lies_in_rows_of_its_own(found):
    chart = str(hosts.strip_chart(hosts.spans(found)))
    heights = [
        part.partition('"')[0]
        for part in chart.split("<rect")[1:]
        for part in [part.split(' y="')[1]]
    ]
    assert heights == ["6", "22", "38", "38"]
    assert chart.count("golden") == 2
    assert "first: 2 spans, 1.5 minutes of work; second: 2 spans" in chart


def test_one_machine_has_no_strip():
    assert hosts.strip_chart(hosts.spans({"m-cpu-bs1": Evidence()})) == ""


def test_the_page_has_the_strip_its_table_and_the_versions_of_each_host(
    make_run, release_cells, decide
):
    run = make_run("run", [release_cells[8]])
    records = [
        record.model_copy(
            update={
                "host_facts": {"host": name, "package.torch": version},
                "raw": {
                    **record.raw,
                    HOSTS: run.keep(json_lines([stint(name, SHARDS, 0, 60)]), ".jsonl"),
                },
            }
        )
        for record, (name, version) in zip(
            run.records(), [("far-one", "9.1"), ("far-two", "9.2")] * 2, strict=True
        )
    ]
    (run.root / "records.jsonl").write_text("".join(map(run.line, records)))
    release = decide(run)
    seen = {(row.host, row.torch) for row in release.tables.versions}
    assert seen == {("far-one", "9.1"), ("far-two", "9.2")}
    evidence = evidence_from_records(records, [run])
    page = page_from_release(release, evidence)
    assert "Hosts of the farm" in page
    assert "Which host did what when: far-one: 1 span," in page
    assert f'<td class="n" data-label="Work">{SHARDS}</td>' in page
    with speaking("zh"):
        assert "集群中的主机" in page_from_release(release, evidence)
