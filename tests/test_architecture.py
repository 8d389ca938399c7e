"""Rules that hold for the tree of `harness/` as a whole."""

import ast
import fnmatch
import functools
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import harness

ROOT = Path(harness.__file__).parent
# The folders and modules of harness/, from top to bottom: each imports only from lines below its own.
# The last line is the ground: values and seams, which know one another.
LAYERS = """
__main__
cli
selftest
pytest_plugin
sign
channels
report
nightly
farm
check
predict
decide
build
record
contract
registry
devices
runtimes
data
judge
measure
host
models
zoo
errors spec precision device timings inside clips testing language locale
"""
FLOORS = {name: floor for floor, line in enumerate(LAYERS.split("\n")) for name in line.split()}
MODEL_SOFTWARE = {"torch", "torchvision", "mmaction", "mmcv", "onnx", "onnxruntime", "decord"}
HEAVY = MODEL_SOFTWARE | {"onnxsim", "cv2", "av", "aclruntime", "ais_bench"}
# What no function of these may reach, through whatever it imports.
UNREACHABLE = {
    "harness.judge": {"harness.models", "harness.devices", "harness.runtimes", *MODEL_SOFTWARE},
    "harness.measure": {"harness.models", "harness.devices", "harness.runtimes", *MODEL_SOFTWARE},
    "harness.data.sampling": MODEL_SOFTWARE,
    "harness.data.transforms": MODEL_SOFTWARE,
}
# Modules whose tests stand with what they serve. Every other one has its own, test_<module>*.py in the same place, or
# is covered by the tests of its folder, test_<folder>.py, or of a module of its folder that uses it.
TESTED_WITH = {
    "harness.measure.strips": "data/test_strips.py",
    "harness.__main__": "cli/test_cli.py",
    "harness.measure.export": "judge/test_verdict.py",
    "harness.measure.passport": "runtimes/ascend/test_passport.py",
    "harness.predict.host_scores": "predict/test_reference.py",
    "harness.runtimes.ort.nvidia_smi": "runtimes/ort/test_device.py",
}
# Values and errors: whoever makes one tests it.
PLAIN = {
    "harness.clips",
    "harness.device",
    "harness.errors",
    "harness.inside",
    "harness.precision",
    "harness.timings",
}
# Tests of the tree as a whole.
WHOLE = {"test_architecture.py"}
ENTRIES_MAX = 12
LINES_MAX = 300


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@functools.cache
def imports(module):
    """Dotted names that a module imports anywhere in it, for its types as well."""
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))))
    plain = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    froms = [n for n in nodes if isinstance(n, ast.ImportFrom)]
    return plain | {f"{n.module}.{alias.name}" for n in froms for alias in n.names}


def own_module(name):
    """The module of the harness that holds a dotted name, or None."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name if name != "harness" else None


@functools.cache
def neighbours(module):
    return frozenset(filter(None, map(own_module, imports(module)))) - {module}


@functools.cache
def reachable(module):
    found, todo = {module}, [module]
    while todo:
        new = neighbours(todo.pop()) - found
        found |= new
        todo += new
    return frozenset(found)


def is_in(name, places):
    return any(name == place or name.startswith(f"{place}.") for place in places)


def folder(module):
    return module.split(".")[1]


def may_import(module, other):
    """Whether one module is above another, in its folder, or on the ground as it is."""
    above, below = FLOORS[folder(module)], FLOORS[folder(other)]
    return above < below or folder(module) == folder(other) or above == max(FLOORS.values())


def test_the_imports_are_seen():
    assert neighbours("harness.contract.thresholds") >= {"harness.registry", "harness.judge.limits"}
    assert "harness.errors" in reachable("harness.devices.cpu")
    assert "torch" in imports("harness.build.torch_model")
    assert not may_import("harness.judge.parity", "harness.check.suite")


def test_a_folder_imports_only_folders_below_it():
    modules = [module for module in MODULES if module != "harness"]
    assert {folder(module) for module in modules} == set(FLOORS)
    arrows = [(module, other) for module in modules for other in neighbours(module)]
    assert [arrow for arrow in arrows if not may_import(*arrow)] == []


def test_no_module_imports_itself_through_others():
    try:
        graphlib.TopologicalSorter({name: neighbours(name) for name in MODULES}).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from None


def test_judges_and_measures_know_no_model_no_device_and_no_model_software():
    reached = {
        (module, name)
        for module in MODULES
        for place, forbidden in UNREACHABLE.items()
        if is_in(module, [place])
        for other in reachable(module)
        for name in imports(other) | {other}
        if is_in(name, forbidden)
    }
    assert reached == set()


def test_the_tree_stays_small():
    entries = [path.name for path in ROOT.iterdir() if not path.is_dir()]
    assert len(entries) <= ENTRIES_MAX, entries
    lines = {name: path.read_text("utf-8").count("\n") for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > LINES_MAX} == {}


def test_importing_everything_loads_nothing_heavy():
    code = """
import importlib, json, sys
names, heavy = map(json.loads, sys.argv[1:])
loaded = {}
for name in names:
    importlib.import_module(name)
    for package in set(heavy).intersection(sys.modules) - set(loaded):
        loaded[package] = name
print(json.dumps(loaded))
"""
    words = [json.dumps(sorted(names)) for names in (MODULES, HEAVY)]
    command = [sys.executable, "-W", "error", "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{}\n", "")


TESTS = ROOT.parent / "tests"


def own_tests(module):
    """The tests in a module's own place: named as it is, with a topic behind where there are several."""
    path = MODULES[module].relative_to(ROOT)
    stem = path.stem.strip("_")
    found = (TESTS / path.parent).glob("test_*.py")
    return [test for test in found if begins_with(test.stem.removeprefix("test_"), stem)]


def begins_with(name, start):
    return name == start or name.startswith(f"{start}_")


def is_tested(module):
    """Whether a module has tests of its own, with its folder, or through a neighbour that uses it."""
    place, _, name = module.rpartition(".")
    folder_test = (
        TESTS / MODULES[module].relative_to(ROOT).parent / f"test_{MODULES[module].parent.name}.py"
    )
    beside = {other for other in MODULES if other.rpartition(".")[0] == place and other != module}
    shorter = {other for other in beside if begins_with(name, other.rpartition(".")[2])}
    users = {other for other in beside if module in neighbours(other)}
    return bool(own_tests(module)) or folder_test.exists() or any(map(is_tested, shorter | users))


def subjects(test):
    """What a test may be named after: a module or script of its folder, or the folder as a whole."""
    folders = [top / test.relative_to(TESTS).parent for top in (ROOT, ROOT.parent, TESTS)]
    beside = [path for place in folders if place.is_dir() for path in place.iterdir()]
    return {path.stem.strip("_") for path in beside if not path.name.startswith("test_")} | {
        test.parent.name
    }


def test_the_tests_mirror_the_tree():
    tests = sorted(TESTS.rglob("test_*.py"))
    names = {test: test.stem.removeprefix("test_") for test in tests if test.name not in WHOLE}
    astray = {
        str(test.relative_to(TESTS))
        for test, name in names.items()
        if not any(begins_with(name, subject) for subject in subjects(test))
    }
    assert astray == set()
    places = {path.parent.relative_to(ROOT) for path in MODULES.values() if path.stem != "__init__"}
    assert {str(place) for place in places if not any((TESTS / place).glob("test_*.py"))} == set()


def test_the_test_of_a_module_is_found_without_a_search():
    packages = {module for module, path in MODULES.items() if path.stem == "__init__"}
    untested = {module for module in set(MODULES) - packages - PLAIN if not is_tested(module)}
    assert untested == set(TESTED_WITH)
    assert [test for test in TESTED_WITH.values() if not (TESTS / test).exists()] == []


def test_pytest_enters_every_folder_of_the_tests(pytestconfig):
    folders = {path.parent.name for path in Path(__file__).parent.rglob("test_*.py")}
    passed_by = pytestconfig.getini("norecursedirs")
    assert not [name for name in folders for one in passed_by if fnmatch.fnmatch(name, one)]
