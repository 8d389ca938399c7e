"""A run for a CI server: JUnit suites, a cell each, and the Markdown of its job summary.

It is about a run, not about a release: whether that may ship, ``harness report`` says. What did not
run is skipped in JUnit; the gate is a case of its own, red unless every required check passed.
"""

from collections.abc import Iterator, Sequence

from harness.channels.junit import Case, Suite
from harness.channels.markdown import table_lines
from harness.channels.stored_run import StoredRun
from harness.decide.blockers import SEEDED, blockers_of
from harness.decide.problems import exit_status
from harness.decide.summary import EMULATED, is_emulated, margin_text, problem_lines
from harness.decide.todo import counted
from harness.decide.wording import advice, command, said, todo_lines
from harness.judge.verdict import Finding
from harness.language import _, later
from harness.locale.recorded import translated
from harness.record.record import Record
from harness.record.reproduce import reproduce_check
from harness.report.formats import cell_text
from harness.spec import Check, shown_checks

_MET = {True: later("met"), False: later("NOT MET"), None: later("undecided")}


def run_suites(run: StoredRun) -> list[Suite]:
    """Return a suite for each cell, one case a check, then the gate."""
    where = {"timestamp": run.facts.started, "hostname": run.facts.environment.get("host", "")}
    return [
        *(
            Suite(name, [_case(run, one) for one in records], _cell_properties(run, records), where)
            for name, records in run.by_cell().items()
        ),
        Suite("acceptance gate", [_gate_case(run)], _run_properties(run), where),
    ]


def _case(run: StoredRun, record: Record) -> Case:
    reason = translated(record.verdict.reason)
    lines = [
        *(
            _("CANNOT BE SIGNED OFF: ") + translated(blocker.text)
            for blocker in blockers_of(record)
        ),
        reason,
        *map(_finding_line, record.verdict.findings),
        _("Reproduce: ") + reproduce_check(record),
    ]
    return Case(
        f"acceptance.{record.cell.id}",
        record.check,
        run.outcome(record),
        reason,
        "\n".join(lines),
        record.seconds,
    )


def _gate_case(run: StoredRun) -> Case:
    """Say what the run comes to: red where a required check is only skipped."""
    problems = run.decision.problems
    if not problems:
        return Case("acceptance", "gate", text=run.headline)
    status = exit_status(problems).name.lower()
    lines = [*todo_lines(run.todos, run.facts.tier), "", *problem_lines(problems)]
    return Case("acceptance", "gate", status, run.headline, "\n".join(lines))


def _run_properties(run: StoredRun) -> dict[str, str]:
    facts = run.facts
    return {
        "run": facts.run_id,
        "tier": facts.tier,
        "command": " ".join(facts.command),
        "thresholds.sha256": facts.thresholds_digest,
        **facts.environment,
    }


def _cell_properties(run: StoredRun, records: Sequence[Record]) -> dict[str, str]:
    """Return the facts of a cell, then every number of its checks."""
    facts: dict[str, str] = {"run": run.facts.run_id, "tier": run.facts.tier}
    for record in records:
        facts.update({f"device.{name}": text for name, text in record.device_facts.items()})
        facts.update({f"sha256.{name}": digest for name, digest in record.subjects.items()})
        if record.weights is not None:
            facts["weights"] = record.weights
        facts[f"{record.check}.status"] = run.outcome(record)
        for finding in record.verdict.findings:
            facts[f"{record.check}.{finding.name}"] = _number(finding)
    facts["emulated"] = "yes" if is_emulated(records) else "no"
    return facts


def _finding_line(finding: Finding) -> str:
    return f"{_(_MET[finding.is_met])}: {translated(finding.noted)}"


def _number(finding: Finding) -> str:
    return "undefined" if finding.measured is None else f"{finding.measured:.6g}"


def run_summary(run: StoredRun) -> Iterator[str]:
    """Yield the lines of the job summary: what it shows, what to do, what is open, all checks."""
    facts, problems = run.facts, run.decision.problems
    yield from (
        f"## {_('Acceptance')}: {_(exit_status(problems).name)}",
        "",
        cell_text(run.headline, None),
        "",
    )
    names = {"run": cell_text(facts.run_id), "tier": cell_text(facts.tier)}
    yield from (_("Run {run}, tier {tier}.").format(**names), "")
    if is_emulated(run.records):
        yield from (f"**{_(EMULATED)}**", "")
    yield from _task_lines(run)
    for problem in problems:
        reason = cell_text(translated(problem.reason))
        yield f"- **{_(problem.status).upper()}** {cell_text(problem.id)}: {reason}"
    if problems:
        yield ""
    checks = shown_checks(record.check for record in run.records)
    yield from table_lines([_("cell"), *map(_, checks)], _rows(run, checks))


def _rows(run: StoredRun, checks: Sequence[Check]) -> Iterator[list[str]]:
    for name, records in run.by_cell().items():
        outcomes = {record.check: _outcome(run, record) for record in records}
        yield [name, *(outcomes.get(check, "–") for check in checks)]


def _outcome(run: StoredRun, record: Record) -> str:
    seeded = f", {translated(SEEDED)}" if record.weights == "seeded" else ""
    return f"{_(run.outcome(record))} {margin_text(record)}".strip() + seeded


def _task_lines(run: StoredRun) -> Iterator[str]:
    """Yield what a person must do, each task with its command."""
    for one in counted(run.todos):
        yield f"**{cell_text(said(one))}.** {cell_text(advice(one))}"
        yield from ("", "```sh", command(one, run.facts.tier), "```", "")
