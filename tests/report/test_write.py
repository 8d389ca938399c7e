import json
import re
import stat

import pytest

from harness.__main__ import main
from harness.decide.summary import verdict_lines
from harness.decide.todo import todos
from harness.decide.waivers import decide
from harness.decide.wording import todo_lines
from harness.errors import DeviceAbsent, MissingInput, RecordError, RunError
from harness.report import pdf
from harness.report.headline import last_line
from harness.report.merge import merged_runs
from harness.report.pdf import browser, browser_arguments, pdf_from_page
from harness.report.release import release_from_merged, run_report_from_merged
from harness.report.values import Release
from harness.report.write import report_lines, write_report
from harness.spec import CHECKS

FILES = {"signoff.html", "signoff.md", "signoff.json", "signoff.pdf"}


@pytest.fixture
def run(make_run, release_cells):
    return make_run("run", release_cells[:2])


@pytest.fixture
def no_browser(monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)


def program(folder, text):
    path = folder / "chromium"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def printer(tmp_path, monkeypatch):
    """Stand in for the browser, which takes seconds: it prints its last argument."""
    print_it = 'for a in "$@"; do case $a in --print-to-pdf=*) echo "%PDF" > "${a#*=}";; esac; done'
    path = program(tmp_path, print_it)
    monkeypatch.setattr(pdf.shutil, "which", lambda name: str(path))
    return path


def test_writes_the_four_files(run, thresholds, tmp_path, today, printer):
    release, problems = write_report([run], thresholds, tmp_path / "a" / "b", today)
    assert problems == ()
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == FILES
    stored = (tmp_path / "a" / "b" / "signoff.json").read_text("utf-8")
    assert Release.from_json(stored) == release


def test_without_a_browser_there_is_no_pdf_and_it_says_so(
    run, thresholds, tmp_path, today, no_browser
):
    (tmp_path / "signoff.pdf").write_text("of another decision")
    _, problems = write_report([run], thresholds, tmp_path, today)
    assert problems[0].startswith("no PDF, as none of chromium")
    assert not (tmp_path / "signoff.pdf").exists()


def test_a_folder_that_cannot_be_written_is_an_error(run, thresholds, tmp_path, today):
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot write the report into"):
        write_report([run], thresholds, tmp_path / "file", today)


class TestPdf:
    def test_the_browser_prints_the_page(self, browser, site, tmp_path):
        page = (site / "signoff.html").read_text("utf-8")
        pdf_from_page(page, tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")

    def test_no_browser(self, no_browser):
        with pytest.raises(MissingInput, match="install chromium"):
            browser()

    @pytest.mark.parametrize(
        ("text", "said"), [("exit 1", "did not print"), ("exit 0", "wrote no file")]
    )
    def test_a_browser_that_does_not_print(self, tmp_path, text, said):
        with pytest.raises(RunError, match=said):
            pdf_from_page("", tmp_path / "page.pdf", program(tmp_path, text))

    def test_root_has_no_sandbox(self, monkeypatch):
        monkeypatch.setattr(pdf.os, "geteuid", lambda: 0)
        assert "--no-sandbox" in browser_arguments()
        monkeypatch.setattr(pdf.os, "geteuid", lambda: 1000)
        assert "--no-sandbox" not in browser_arguments()


class TestCommand:
    def test_says_no_and_why(self, run, required_count, tmp_path, capsys, no_browser):
        assert main(["report", str(run.root), "--output", str(tmp_path / "out")]) == 1
        told = capsys.readouterr()
        assert "no PDF" in told.err
        lines = told.out.splitlines()
        assert lines[0].startswith(
            "DO NOT SHIP: Not yet: 28 checks need an Ascend 310P, 24 need an"
        )
        counts = re.findall(r"(\d+) (?:checks )?(?:need|have not run)", lines[0])
        assert sum(map(int, counts)) == required_count - 8, lines[0]
        assert lines[-1] == str(tmp_path / "out" / "signoff.html")

    def test_ships(self, make_run, release_cells, required_count, tmp_path, capsys, printer):
        run = make_run("whole", release_cells)
        assert main(["report", str(run.root), "--output", str(tmp_path / "out")]) == 0
        told = f"\nSHIP: {required_count} of {required_count} required checks passed"
        assert told in f"\n{capsys.readouterr().out}"

    def test_refuses_what_is_no_run(self, tmp_path, capsys):
        assert main(["report", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
        assert "is it a run folder?" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


class TestAtTheEndOfARun:
    def test_the_last_line_is_the_path(self, run, thresholds, no_browser):
        lines = report_lines(run, thresholds)
        assert lines[-1] == str(run.root / "report" / "signoff.html")
        assert lines[-2].startswith("DO NOT SHIP: ")

    def test_a_run_that_cannot_be_read_takes_nothing_from_the_run(self, run, thresholds):
        (run.root / "records.jsonl").write_text("{")
        (line,) = report_lines(run, thresholds)
        assert line.startswith("no report: ")
        assert "truncated or damaged" in line


class TestRunReport:
    """What runs outside the tier of a release show: it never says that they may ship."""

    @pytest.fixture
    def nightly(self, make_run, release_cells):
        cells = release_cells[:2]
        required = tuple(f"{cell.id}:{check}" for cell in cells for check in CHECKS)
        return make_run("nightly", cells, tier="nightly", required=required)

    def test_a_green_one_says_what_it_shows(self, nightly, tmp_path, capsys, no_browser):
        out = tmp_path / "out"
        assert main(["report", str(nightly.root), "--output", str(out)]) == 1
        line, path = capsys.readouterr().out.splitlines()
        assert (
            line
            == "Run report: On an Ascend 310 and this host's CPU: 8 of 8 required checks passed"
        )
        assert path == str(out / "report.html")
        assert {one.name for one in out.iterdir()} == {"report.html", "report.md", "report.json"}
        for one in out.iterdir():
            assert "SHIP" not in re.sub(r"DO NOT SHIP", "", one.read_text("utf-8"))

    def test_it_is_not_a_release_though_everything_passed(
        self, make_run, release_cells, thresholds, today
    ):
        required = tuple(f"{cell.id}:{check}" for cell in release_cells for check in CHECKS)
        run = make_run("nightly", release_cells, tier="nightly", required=required)
        merged = merged_runs([run])
        report = run_report_from_merged(merged, thresholds, today)
        assert (report.decision, report.reasons) == ("RUN REPORT", ())
        assert release_from_merged(merged, thresholds, today).decision == "DO NOT SHIP"

    def test_release_decides_by_the_tier_of_a_release(self, nightly, tmp_path, capsys, no_browser):
        out = tmp_path / "out"
        main(["report", str(nightly.root), "--output", str(out)])
        assert main(["report", str(nightly.root), "--output", str(out), "--release"]) == 1
        assert capsys.readouterr().out.splitlines()[2].startswith("DO NOT SHIP: Not yet: ")
        assert {one.name for one in out.iterdir()} == {"signoff.html", "signoff.md", "signoff.json"}

    def test_the_terminal_says_the_same(self, make_run, release_cells, thresholds, every_outcome):
        required = tuple(f"{cell.id}:{check}" for cell in release_cells[:8] for check in CHECKS)
        plans = every_outcome | {
            f"{release_cells[9].id}:accuracy": {"raises": DeviceAbsent("no T4")}
        }
        run = make_run(
            "every", release_cells, plans, tier="nightly", required=required, broken={"x": "broke"}
        )
        facts, records = run.facts(), run.records()
        decision = decide(records, facts, (), facts.started_on)
        page = run_report_from_merged(merged_runs([run]), thresholds, facts.started_on)
        headline, *tasks = verdict_lines(records, decision, facts)
        assert headline == last_line(page)
        assert tasks == todo_lines(todos(page.reasons), "nightly")
        assert headline.endswith(
            "26 of 32 required checks passed; 1 check needs an Ascend 310, 1 has not run in full, 1 failed, "
            "1 ended in an error, 1 was not measured properly, 1 item broke outside of the checks, 1 check "
            "is not decided; not required: 1 check needs an Ascend 310P"
        )


def test_the_json_is_what_the_schema_describes(run, thresholds, tmp_path, today, no_browser):
    write_report([run], thresholds, tmp_path, today)
    stored = json.loads((tmp_path / "signoff.json").read_text("utf-8"))
    assert stored["decision"] == "DO NOT SHIP"
    assert set(stored) == set(Release.model_fields)


def test_the_page_draws_the_history_it_is_given(make_run, release_cells, tmp_path, no_browser):
    run, history = make_run("run", release_cells[:1]), tmp_path / "history.sqlite"
    assert main(["history", "add", str(run.root), "--history", str(history)]) == 0
    out = tmp_path / "out"
    words = ["report", str(run.root), "--output", str(out), "--title", "Clips 1.4"]
    assert main([*words, "--history", str(history)]) == 1
    assert 'id="trend"' in (out / "signoff.html").read_text("utf-8")
    assert main(words) == 1
    assert 'id="trend"' not in (out / "signoff.html").read_text("utf-8")


def test_a_history_that_is_not_there_is_an_error(
    make_run, release_cells, tmp_path, no_browser, capsys
):
    run = make_run("run", release_cells[:1])
    absent = str(tmp_path / "absent.sqlite")
    assert main(["report", str(run.root), "--output", str(tmp_path), "--history", absent]) == 2
    assert "absent.sqlite" in capsys.readouterr().err


class TestChinese:
    @pytest.fixture
    def written(self, run, tmp_path, capsys, no_browser):
        out = tmp_path / "zh"
        assert main(["report", str(run.root), "--output", str(out), "--language", "zh"]) == 1
        return out, capsys.readouterr().out

    def test_the_last_line_the_page_and_its_summary_speak_it(self, written):
        out, said = written
        assert said.startswith("不可发布：尚待完成：")
        page = (out / "signoff.html").read_text("utf-8")
        assert '<html lang="zh">' in page
        for text in ("待办事项", "需要昇腾 310P", "不可发布", "单元与检查"):
            assert text in page
        assert (out / "signoff.md").read_text("utf-8").startswith("# 不可发布")

    def test_the_decision_for_machines_is_the_same_in_every_language(
        self, written, run, tmp_path, no_browser
    ):
        main(["report", str(run.root), "--output", str(tmp_path / "en")])
        both = [(folder / "signoff.json").read_bytes() for folder in (tmp_path / "en", written[0])]
        assert both[0] == both[1]

    def test_numbers_names_and_digests_are_not_translated(self, written, run, thresholds):
        page = (written[0] / "signoff.html").read_text("utf-8")
        assert thresholds.digest[:12] in page
        assert "nonlocal_r50-ascend310-bs4" in page or "nonlocal_r50-ascend310p-bs4" in page
