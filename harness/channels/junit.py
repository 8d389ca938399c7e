"""JUnit XML of a run, made from its records: one suite a cell, one case a check, and the gate.

It keeps to the schema of Jenkins' xunit plugin (junit-10, pytest's ``xunit2``), which GitLab and
GitHub's actions read too. That schema has properties of suites only, so a case tells its numbers in
its output. What did not run is skipped, which servers do not show as red; the gate is a case of its
own, red unless everything that was required has passed.
"""

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from harness.channels.stored_run import ToldRun
from harness.decide.blockers import blockers_of
from harness.decide.problems import exit_status
from harness.decide.summary import problem_lines
from harness.judge import Finding
from harness.record.record import Record
from harness.record.reproduce import reproduce_check

GATE = "acceptance gate"
# Everything that XML 1.0 cannot hold, not even as a reference.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_from_run(told: ToldRun) -> bytes:
    """Return the file."""
    root = ET.Element("testsuites", name="acceptance")
    cells: dict[str, list[Record]] = {}
    for record in told.records:
        cells.setdefault(record.cell.id, []).append(record)
    for name, records in cells.items():
        suite = _suite(root, name, told)
        _add_properties(suite, _cell_properties(told, records))
        for record in records:
            _add_case(suite, record, told)
    _add_gate(root, told)
    for suite in root:
        _count(suite, [suite])
    _count(root, list(root))
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _suite(root: ET.Element, name: str, told: ToldRun) -> ET.Element:
    host = told.facts.environment.get("host", "")
    return ET.SubElement(
        root, "testsuite", name=_text(name), timestamp=told.facts.started, hostname=_text(host)
    )


def _add_case(suite: ET.Element, record: Record, told: ToldRun) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=_text(f"acceptance.{record.cell.id}"),
        name=record.check,
        time=f"{record.seconds:.3f}",
    )
    outcome, reason = told.outcome(record), _text(record.verdict.reason)
    reproduce = f"Reproduce: {reproduce_check(record.cell, record.check, record.tier)}"
    lines = [*_blockers(record), reason, *map(_finding_line, record.verdict.findings)]
    text = _text("\n".join([*lines, reproduce]))
    kind = _KINDS.get(outcome)
    if kind is not None:
        told_why = ET.SubElement(case, kind, type=outcome, message=reason)
        told_why.text = text
    else:
        ET.SubElement(case, "system-out").text = text


# What each outcome is to a server; a pass has no element.
_KINDS: Mapping[str, str] = {
    "fail": "failure",
    "invalid": "failure",
    "inconclusive": "failure",
    "error": "error",
    "not run": "skipped",
    "waived": "skipped",
}


def _add_gate(root: ET.Element, told: ToldRun) -> None:
    """Say what the run comes to: red where a required check is only skipped."""
    suite = _suite(root, GATE, told)
    _add_properties(suite, _run_properties(told))
    case = ET.SubElement(suite, "testcase", classname="acceptance", name="gate", time="0.000")
    if told.decision.problems:
        text = _text("\n".join(problem_lines(told.decision.problems)))
        status = exit_status(told.decision.problems).name.lower()
        count = len(told.decision.problems)
        message = f"{status}: {count} problem(s), the first: {told.decision.problems[0].reason}"
        ET.SubElement(case, "failure", type=status, message=_text(message)).text = text


def _run_properties(told: ToldRun) -> dict[str, str]:
    facts = told.facts
    return {
        "run": facts.run_id,
        "tier": facts.tier,
        "command": " ".join(facts.command),
        "thresholds.sha256": facts.thresholds_digest,
        **facts.environment,
    }


def _cell_properties(told: ToldRun, records: Sequence[Record]) -> dict[str, str]:
    """Return the facts of a cell, then every number of its checks."""
    facts: dict[str, str] = {"run": told.facts.run_id, "tier": told.facts.tier}
    for record in records:
        facts.update({f"device.{name}": text for name, text in record.device_facts.items()})
        facts.update({f"sha256.{name}": digest for name, digest in record.subjects.items()})
        if record.weights is not None:
            facts["weights"] = record.weights
        facts[f"{record.check}.status"] = told.outcome(record)
        for finding in record.verdict.findings:
            facts[f"{record.check}.{finding.name}"] = _number(finding)
    facts["emulated"] = "yes" if any(record.is_emulated for record in records) else "no"
    return facts


def _add_properties(suite: ET.Element, properties: Mapping[str, str]) -> None:
    parent = ET.SubElement(suite, "properties")
    for name, value in properties.items():
        ET.SubElement(parent, "property", name=_text(name), value=_text(value))


def _count(element: ET.Element, suites: Sequence[ET.Element]) -> None:
    cases = [case for suite in suites for case in suite.iter("testcase")]
    element.set("tests", str(len(cases)))
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        # The schema has no count of what was skipped at the root.
        if not (attribute == "skipped" and element.tag == "testsuites"):
            element.set(attribute, str(sum(case.find(kind) is not None for case in cases)))
    seconds = sum(float(case.get("time", "0")) for case in cases)
    element.set("time", f"{seconds:.3f}")


def _blockers(record: Record) -> list[str]:
    return [f"CAN NOT BE SIGNED OFF: {blocker.text}" for blocker in blockers_of(record)]


def _finding_line(finding: Finding) -> str:
    met = {True: "met", False: "NOT MET", None: "undecided"}[finding.is_met]
    return f"{met}: {finding.text}" + (f" ({finding.note})" if finding.note else "")


def _number(finding: Finding) -> str:
    return "undefined" if finding.measured is None else f"{finding.measured:.6g}"


def _text(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
