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


def test_the_lock_has_a_hash_for_every_package_but_torch():
    pins = {canonical(line) for line in lines_of("requirements.in")}
    lock = (ROOT / "requirements.lock").read_text().replace("\\\n", "")
    locked = {
        canonical(line.partition("--hash")[0]): line for line in lock.splitlines() if "==" in line
    }
    assert pins - locked.keys() == {"torch==2.13.0"}
    assert locked.keys() <= pins
    assert [name for name, line in locked.items() if "--hash=sha256:" not in line] == []


def lines_of(name):
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def canonical(line):
    """Return a pin as both files would have it."""
    return line.strip().replace('"', "'").replace("_", "-").lower()
