"""The catalogues: every text that a person reads has an entry, and every entry is read by somebody."""

import ast
import re
import string
from pathlib import Path
from typing import get_args

import jinja2
import pytest
from jinja2.ext import extract_from_ast

import harness
from harness import registry
from harness.decide.problems import ExitStatus
from harness.decide.todo import ReasonKind
from harness.language import ENGLISH, LANGUAGES, _, catalogue, language, n_, speaking
from harness.nightly.comparison import Kind
from harness.report.values import Decision, Outcome
from harness.spec import ALL_CHECKS

ROOT = Path(harness.__file__).parent
MARKS = {"_", "n_", "later", "later_n"}
SCOPES = ("chip", "card", "host")
# Words that are looked up by their value.
WORDS = {
    *get_args(Outcome),
    *get_args(ReasonKind),
    *get_args(Decision),
    *(status.name for status in ExitStatus),
    *ALL_CHECKS,
    *SCOPES,
    *(f"per {scope}" for scope in SCOPES),
    *(spec.noun for spec in registry.device_specs().values()),
    *(kind.value for kind in Kind),
    *("device", "model", "outcome", "no device", "processors", "WARNED"),
    # Units, and what a note of a table says.
    *("points", "clips", "x one thread", "x unoptimised", "a subset", "unknown"),
}
# These are the same in every language.
SAME = {"%"}
OTHERS = [name for name in LANGUAGES if name != ENGLISH]


def texts_of_code():
    """Yield every text that a module marks; a mark of something else than a text has to be in WORDS."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MARKS:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    yield first.value


def texts_of_templates():
    environment = jinja2.Environment()
    for path in (ROOT / "report" / "templates").glob("*.j2"):
        tree = environment.parse(path.read_text("utf-8"))
        for _line, _mark, text in extract_from_ast(tree, ("_", "n_")):
            first = text[0] if isinstance(text, tuple) else text
            if first is not None:
                yield first


TEXTS = {*texts_of_code(), *texts_of_templates(), *WORDS} - SAME


def places(text):
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name}


def test_the_texts_are_found():
    assert "Not yet: {tasks}" in TEXTS
    assert "{checks} needs {device}" in TEXTS
    assert "What to do" in TEXTS
    assert len(TEXTS) > 150


@pytest.mark.parametrize("name", OTHERS)
def test_no_text_is_missing(name):
    entries = catalogue(name)
    assert sorted(text for text in TEXTS if not entries.get(text)) == []


# What a person reads at the end of a run, in a job summary and in JUnit.
SUMMARY = ("decide/summary.py", "decide/speeds.py", "decide/wording.py", "channels/run_report.py")

# A command, and the name of a suite of JUnit.
NAMES = {"harness thresholds show", "acceptance gate"}


def unmarked(tree):
    """Yield the texts of two words and more that no mark and no docstring holds."""
    passed = {
        id(leaf)
        for node in ast.walk(tree)
        for one in (
            node.args
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MARKS
            else ()
        )
        for leaf in ast.walk(one)
    }
    passed |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in passed and re.search("[A-Za-z]{2} [A-Za-z]{2}", node.value):
            yield node.value


@pytest.mark.parametrize("path", SUMMARY)
def test_no_text_of_the_summary_is_unmarked(path):
    found = unmarked(ast.parse((ROOT / path).read_text("utf-8")))
    assert {*found} <= NAMES


def test_a_text_without_a_mark_is_found():
    code = "def f():\n    'It is a docstring.'\n    return _('marked text'), f'{x} not marked'"
    assert list(unmarked(ast.parse(code))) == [" not marked"]


@pytest.mark.parametrize("name", OTHERS)
def test_no_entry_is_left_over(name):
    assert sorted(catalogue(name).keys() - TEXTS) == []


@pytest.mark.parametrize("name", OTHERS)
def test_an_entry_has_the_places_of_its_text(name):
    wrong = [text for text, said in catalogue(name).items() if places(text) != places(said)]
    assert wrong == []


def test_english_is_what_stands_in_the_code():
    assert (language(), catalogue(ENGLISH)) == (ENGLISH, {})
    assert (_("a text"), n_("{n} run", "{n} runs", 1), n_("{n} run", "{n} runs", 2)) == (
        "a text",
        "{n} run",
        "{n} runs",
    )


def test_a_language_is_spoken_inside_its_block_alone():
    with speaking("zh"):
        assert _("What to do") == "待办事项"
        assert n_("{n} run", "{n} runs", 2) == n_("{n} run", "{n} runs", 1)
        assert _("a text that is in no catalogue") == "a text that is in no catalogue"
    assert _("What to do") == "What to do"
