import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent
MODEL_PACKAGES = ("torch", "torchvision", "mmaction", "onnx", "onnxruntime", "decord")
HEAVY = {*MODEL_PACKAGES, "mmcv", "onnxsim", "cv2", "av", "aclruntime", "ais_bench"}
# What makes a suite of the stages; what lies below must work without it.
SUITE_LEVEL = frozenset(
    {
        "harness.pytest_plugin.plugin",
        "harness.pytest_plugin.controller",
        "harness.__main__",
        "harness.check.suite",
    }
)
LONGER = {"cli/dataset.py": 302}


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported_names(node):
    """Names of what one statement imports: a module, or something in a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "relative import"
    return [f"{node.module}.{alias.name}" for alias in node.names]


def is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def statements(node, skipped):
    for child in ast.iter_child_nodes(node):
        if not skipped(child):
            yield child
            yield from statements(child, skipped)


def imports(name, skipped=lambda node: False):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found = [n for n in statements(tree, skipped) if isinstance(n, (ast.Import, ast.ImportFrom))]
    return [imported for node in found for imported in imported_names(node)]


def packages(names):
    return {name.split(".")[0] for name in names}


def own_module(imported):
    """The module of the harness that holds an imported name, or None."""
    while imported and imported not in MODULES:
        imported = imported.rpartition(".")[0]
    return imported or None


@functools.cache
def neighbours(name):
    """The modules of the harness that one imports anywhere, for types as well."""
    return frozenset(filter(None, map(own_module, imports(name)))) - {"harness", name}


@functools.cache
def reachable(name):
    found, todo = set(), [name]
    while todo:
        new = neighbours(todo.pop()) - found
        found |= new
        todo += new
    return frozenset(found)


def is_in(name, *places):
    return any(name == place or name.startswith(f"{place}.") for place in places)


def test_the_modules_are_found():
    assert {"harness.spec", "harness.judge", "harness.judge.parity"} <= set(MODULES)
    assert neighbours("harness.contract.thresholds") >= {"harness.registry", "harness.judge.limits"}
    assert "harness.errors" in reachable("harness.devices.cpu")


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name):
    assert name not in reachable(name), f"{name} imports itself through {sorted(neighbours(name))}"


@pytest.mark.parametrize("name", [name for name in MODULES if is_in(name, "harness.judge")])
def test_a_judge_knows_neither_models_nor_devices(name):
    places = ("harness.registry", "harness.models", "harness.devices", "harness.runtimes")
    assert [module for module in reachable(name) if is_in(module, *places)] == []


PURE = (
    "harness.data.sampling",
    "harness.data.transforms",
    "harness.measure.parity",
    "harness.measure.accuracy",
    "harness.measure.statistics",
    "harness.judge",
)


@pytest.mark.parametrize("name", [name for name in MODULES if is_in(name, *PURE)])
def test_pure_modules_know_no_model_software(name):
    users = [
        module
        for module in {name, *reachable(name)}
        if packages(imports(module)) & {*MODEL_PACKAGES}
    ]
    assert users == []


@pytest.mark.parametrize("name", MODULES)
def test_heavy_packages_are_imported_where_they_are_used(name):
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    at_import = imports(name, lambda node: isinstance(node, functions) or is_for_types(node))
    assert packages(at_import) & HEAVY == set()


@pytest.mark.parametrize("name", sorted(SUITE_LEVEL))
def test_only_the_suite_imports_the_suite(name):
    if name not in MODULES:
        pytest.skip(f"there is no {name}")
    users = {module for module in MODULES if any(is_in(n, name) for n in neighbours(module))}
    assert [user for user in users if not is_in(user, *SUITE_LEVEL)] == []


@pytest.mark.parametrize("name", MODULES)
def test_modules_stay_short(name):
    lines = MODULES[name].read_text(encoding="utf-8").count("\n")
    assert lines <= LONGER.get(str(MODULES[name].relative_to(ROOT)), 300)


def test_importing_everything_loads_nothing_heavy():
    code = f"""
import importlib, sys
for name in {[name for name in MODULES if not name.endswith("__main__")]}:
    importlib.import_module(name)
print(sorted({HEAVY} & {{name.split(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
