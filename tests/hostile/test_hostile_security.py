"""SECURITY.md names a test for every line of its tables, and each is there."""

import ast
import functools
import re

from tests.made import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")


@functools.cache
def functions_of(path):
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists():
    named = NAMED.findall(PAGE)
    assert len(named) > 20
    missing = {(path, name) for path, name in named if name and name not in functions_of(path)}
    assert missing == set()
    assert [path for path, _ in named if not (ROOT / path).is_file()] == []


def test_every_line_of_a_table_names_one():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    lines = [row for row in rows if not row.startswith(("| what", "| ---"))]
    assert len(lines) > 20
    for line in lines:
        _, _, shown = line.strip("|").split(" | ")
        assert NAMED.search(shown), line
