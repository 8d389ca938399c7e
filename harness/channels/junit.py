"""JUnit XML of suites of cases, as CI servers read it.

It keeps to the schema of Jenkins' xunit plugin (junit-10, pytest's ``xunit2``), which GitLab and
GitHub's actions read too. That schema has properties of suites only, so the numbers of a case stand
in its output.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

# What an outcome is to a server. A pass has no element; every other outcome is a failure.
_KINDS = {"pass": None, "error": "error", "not run": "skipped", "waived": "skipped"}
# Everything that XML 1.0 cannot hold, not even as a reference.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclasses.dataclass(frozen=True)
class Case:
    """One test case: ``message`` is the reason in one line, ``text`` all that is known."""

    classname: str
    name: str
    outcome: str = "pass"
    message: str = ""
    text: str = ""
    seconds: float = 0.0

    @property
    def kind(self) -> str | None:
        """The element that a server reads; a skipped case does not show as red."""
        return _KINDS.get(self.outcome, "failure")


@dataclasses.dataclass(frozen=True)
class Suite:
    """Cases that belong together; ``attributes`` are ``timestamp`` and ``hostname``, if known."""

    name: str
    cases: Sequence[Case]
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def junit_from_suites(name: str, suites: Sequence[Suite]) -> bytes:
    """Return the file."""
    root = ET.Element("testsuites", name=name)
    _count(root, [case for suite in suites for case in suite.cases])
    # The schema has no count of skipped cases at the root.
    del root.attrib["skipped"]
    for suite in suites:
        element = _element(root, "testsuite", name=suite.name, **suite.attributes)
        _count(element, suite.cases)
        if suite.properties:
            parent = ET.SubElement(element, "properties")
            for key, value in suite.properties.items():
                _element(parent, "property", name=key, value=value)
        for case in suite.cases:
            _add_case(element, case)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _count(element: ET.Element, cases: Sequence[Case]) -> None:
    element.set("tests", str(len(cases)))
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.kind == kind for case in cases)))
    element.set("time", f"{sum(case.seconds for case in cases):.3f}")


def _add_case(suite: ET.Element, case: Case) -> None:
    seconds = f"{case.seconds:.3f}"
    element = _element(suite, "testcase", classname=case.classname, name=case.name, time=seconds)
    if case.kind is not None:
        element = _element(element, case.kind, type=case.outcome, message=case.message)
    elif case.text:
        element = _element(element, "system-out")
    element.text = _text(case.text) or None


def _element(parent: ET.Element, tag: str, /, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, {key: _text(text) for key, text in attributes.items()})


def _text(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
