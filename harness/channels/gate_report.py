"""The report of the nightly gate as lines, Markdown and JUnit."""

from pathlib import Path
from xml.etree import ElementTree

from harness.decide.problems import ExitStatus
from harness.errors import InputError
from harness.nightly.comparison import Kind
from harness.nightly.gate import GateReport


def report_lines(report: GateReport) -> list[str]:
    """Return the report for a terminal: the decision, each reason, what changed that night."""
    lines = [_headline(report)]
    for notice in report.notices:
        lines += [f"{notice.status.upper()} ({notice.kind}): {notice.id}", f"    {notice.reason}"]
        lines += [f"    changed: {change}" for change in notice.changes]
        if notice.kind in (Kind.LOSS, Kind.SUSPECT) and not notice.changes:
            lines.append("    nothing that is recorded changed about then")
    return lines + [f"note: {note}" for note in report.notes]


def report_markdown(report: GateReport) -> str:
    """Return the report as Markdown, for a job summary."""
    lines = [f"## {_escaped(_headline(report))}", ""]
    if report.notices:
        lines += ["| outcome | what | check | why |", "| --- | --- | --- | --- |"]
    for notice in report.notices:
        why = [notice.reason, *(f"changed: {change}" for change in notice.changes)]
        cells = [str(notice.status), str(notice.kind), notice.id, "; ".join(why)]
        lines.append(f"| {' | '.join(map(_escaped, cells))} |")
    lines += ["", *(f"- {_escaped(note)}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def report_junit(report: GateReport) -> bytes:
    """Return the report as JUnit XML: a failure for each reason, one passed test if there is none."""
    count = str(len(report.notices))
    suite = ElementTree.Element(
        "testsuite", name="harness gate", tests=str(max(1, len(report.notices))), failures=count
    )
    if not report.notices:
        ElementTree.SubElement(suite, "testcase", classname="gate", name=report.run_id)
    for notice in report.notices:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"gate.{notice.kind}", name=notice.id
        )
        failure = ElementTree.SubElement(case, "failure", message=_printable(notice.reason))
        failure.text = _printable("\n".join(notice.changes))
    return bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True))


def _headline(report: GateReport) -> str:
    words = {
        ExitStatus.PASSED: "PASSED",
        ExitStatus.FAILED: "FAILED",
        ExitStatus.INCOMPLETE: "INCOMPLETE",
        ExitStatus.INCONCLUSIVE: "INCONCLUSIVE",
    }
    run = f"run {report.run_id}" if report.run_id else "no run tonight"
    return (
        f"gate {words[report.status]}: {run}, {report.series_count} series, "
        f"{report.compared_count} of them in the baseline, {len(report.notices)} problem(s)"
    )


def _escaped(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(escaped.replace("|", "\\|").split())


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def write_channel(path: Path | None, content: bytes, *, append: bool = False) -> None:
    """Write one channel of the report; ``append`` adds to it, as job summaries want.

    Raises:
        InputError: the file cannot be written.
    """
    if path is None:
        return
    try:
        with path.open("ab" if append else "wb") as file:
            file.write(content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
