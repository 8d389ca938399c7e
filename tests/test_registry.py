import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import harness
import harness.devices
import harness.models
from harness import registry
from harness.decide.speeds import guide_names
from harness.errors import InputError
from harness.precision import PRECISIONS, Precision
from harness.registry import model_spec, precision_of
from harness.spec import Cell, TensorSpec
from tests.bare_onnx import slow_fast_spec

ROOT = Path(harness.__file__).parent.parent
FOLDERS = {"models": harness.models, "devices": harness.devices}


def files_below(package):
    return sorted(file.stem for file in Path(package.__file__).parent.glob("[!_]*.py"))


@pytest.fixture
def define(tmp_path, monkeypatch):
    """Add a file to harness/models or harness/devices."""

    def add(folder, name, text):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        package = FOLDERS[folder]
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])

    before = set(sys.modules)
    yield add
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_files_are_the_registrations():
    assert list(registry.model_names()) == files_below(harness.models)
    assert list(registry.device_names()) == files_below(harness.devices)
    assert {"nonlocal_r50", "timesformer"} <= set(registry.model_names())
    assert {"cpu", "cuda"} <= set(registry.device_names())


@pytest.mark.parametrize("name", registry.device_names())
def test_a_device_is_called_like_its_file(name):
    device = registry.device(name)
    assert device.spec.name == name
    assert device.takes("Conv")
    assert not device.takes("Loop")


@pytest.mark.parametrize(
    ("find", "names"),
    [
        (registry.model_spec, registry.model_names()),
        (registry.device, registry.device_names()),
    ],
)
def test_an_unknown_name_lists_the_known(find, names):
    with pytest.raises(InputError, match=f"called 'nope'; there are: {', '.join(names)}$"):
        find("nope")


MINE = """
import dataclasses
from harness.models.nonlocal_tiny import SPEC as TINY
SPEC = dataclasses.replace(TINY, name="mine")
"""


def test_a_new_file_is_found(define):
    define("models", "mine", MINE)
    assert "mine" in registry.model_names()
    assert registry.model_spec("mine").name == "mine"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": (TensorSpec("a", (1, 3)),) * 2}, "takes a, a: two inputs have one name"),
        ({"frames": ()}, "slow, fast: say in `frames` of its SPEC"),
        ({"frames": ((0, 8), (1,))}, "which frames of a clip each of them takes, from 0 to 7"),
    ],
)
def test_inputs_that_cannot_be_told_apart_or_filled_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        registry.require_inputs(dataclasses.replace(slow_fast_spec(), **changes))


ANOTHER = """
import dataclasses
from harness.devices import ascend310p
SPEC = dataclasses.replace(
    ascend310p.SPEC, name="mine", description="a new card", label="M", compared_with=("cuda",)
)
def device():
    return dataclasses.replace(ascend310p.device(), spec=SPEC)
"""


def test_a_new_device_of_a_known_runtime_is_one_file(define):
    define("devices", "mine", ANOTHER)
    names = list(registry.device_specs())
    assert names.index("mine") == names.index("ascend310p") + 1
    assert "ascend310p, mine, " in registry.device_help()
    assert registry.device("mine").spec.description == "a new card"
    assert guide_names(("mine", "cuda")) == ["M", "T4"]


def test_a_declaration_imports_no_runtime():
    script = (
        "import sys; from harness import registry; registry.device_specs(); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "harness.devices.ascend310p" in done.stdout.split()
    assert "harness.runtimes" not in done.stdout


def test_a_model_under_another_name_is_refused(define):
    define("models", "mine", "from harness.models.timesformer import SPEC")
    with pytest.raises(
        InputError, match=r"harness/models/mine.py defines .* 'timesformer': rename"
    ):
        registry.model_spec("mine")


def test_a_device_under_another_name_is_refused(define):
    define("devices", "mine", "from harness.devices.cpu import SPEC, device")
    with pytest.raises(
        InputError, match=r"harness/devices/mine.py defines SPEC.name 'cpu': rename"
    ):
        registry.device("mine")


@pytest.mark.parametrize(
    ("folder", "find", "attribute"),
    [("models", registry.model_spec, "SPEC"), ("devices", registry.device_spec, "SPEC")],
)
def test_a_file_without_its_definition_is_refused(define, folder, find, attribute):
    define(folder, "mine", "")
    with pytest.raises(InputError, match=f"harness/{folder}/mine.py .* must define {attribute}"):
        find("mine")


# A fifth model and a fifth device, in a copy of the package

MODEL, DEVICE, SMALL = "plain_tsm", "cpu_plain", "nonlocal_tiny"
COPIED = ("acceptance", "ci", "harness", "tests")
LINKED = ("conftest.py", "docs", "fixtures", "pyproject.toml")
# What looks at the matrix of models and devices.
LOOKERS = (
    *("test_registry.py", "test_architecture.py", "test_spec.py", "contract", "decide", "channels"),
    *(
        "report/test_release.py",
        "report/test_write.py",
        "cli/test_cli.py",
        "pytest_plugin/test_plugin.py",
    ),
)
# Of the tests that start the suite as a whole, those that count its cells or name its devices.
CHOSEN = "(not test_plugin or required or laptop or waive) and not another_device_break_no_test"


def with_copies(contract, old, new):
    """Return the text of a contract in which the tables of one name stand under another, too."""
    head, tiers, rest = contract.partition("\n[tiers.")
    name = re.compile(rf"(?<=\.){old}(?=[.\]])")
    tables = re.split(r"^(?=\[)", head, flags=re.MULTILINE)
    copies = [name.sub(new, table) for table in tables if name.search(table.partition("\n")[0])]
    return "".join([head, "\n", *copies, tiers, rest])


@pytest.fixture
def enlarged(tmp_path):
    """A copy of the package with one more model and one more device: a file each, and tables.

    The device is the CPU with graphs that ONNX Runtime optimises less: a word in its declaration.
    """
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored, symlinks=True)
    for name in LINKED:
        (tmp_path / name).symlink_to(ROOT / name)
    models, devices = tmp_path / "harness/models", tmp_path / "harness/devices"
    model = (models / "nonlocal_r50.py").read_text("utf-8")
    model = model.replace('"nonlocal_r50"', f'"{MODEL}"').replace(
        "tsm_nl_dot_product_r50", "tsm_r50"
    )
    (models / f"{MODEL}.py").write_text(model, "utf-8")
    device = (devices / "cpu.py").read_text("utf-8").replace('name="cpu"', f'name="{DEVICE}"')
    device = device.replace("(SPEC, provider", '(SPEC, level="basic", provider')
    (devices / f"{DEVICE}.py").write_text(device, "utf-8")
    contract = (ROOT / "thresholds.toml").read_text("utf-8")
    contract = with_copies(with_copies(contract, "nonlocal_r50", MODEL), "cpu", DEVICE)
    (tmp_path / "thresholds.toml").write_text(contract, "utf-8")
    return tmp_path


def test_another_model_and_another_device_break_no_test(enlarged):
    names = {name for name in os.environ if not name.startswith("COVERAGE_")}
    places = {"PYTHONPATH": str(enlarged), "ACCEPTANCE_CACHE_DIR": str(enlarged / "cache")}
    environ = {name: os.environ[name] for name in names} | places

    def child(*words):
        command = [sys.executable, "-m", *map(str, words)]
        done = subprocess.run(
            command, cwd=enlarged, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr
        return done.stdout

    assert MODEL in child("harness", "models").splitlines()
    built = [child("harness", "build", SMALL, "--device", name) for name in ("cpu", DEVICE)]
    graphs = [onnx.load(shown.split()[-1]).graph for shown in built]
    # Only above its basic level does ONNX Runtime put operators of its own in.
    domains = [{node.domain for node in graph.node} for graph in graphs]
    assert "com.microsoft" in domains[0]
    assert domains[1] == {""}
    tests = [f"tests/{name}" for name in LOOKERS]
    child("pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN, *tests)


GEARED = dataclasses.replace(
    model_spec("nonlocal_tiny"), precisions={"gears": Precision(gears=(1, 4))}
)


@pytest.mark.parametrize(
    ("spec", "row", "words"),
    [
        (GEARED, "bs4", None),
        (GEARED, "bs4-gears", None),
        (GEARED, "bs4-origin", None),
        (GEARED, "bs8-gears", "gears of nonlocal_tiny has no gear 8; there are: 1, 4"),
        (GEARED, "bs4-half", "nonlocal_tiny has no precision half; there are: fp16, origin"),
        (
            dataclasses.replace(GEARED, frozen_batch=1),
            "bs1-gears",
            "supports bs1 only, so gears cannot give it the gears 1, 4",
        ),
    ],
)
def test_the_precision_of_a_cell(spec, row, words):
    cell = Cell.of_row(spec.name, "ascend310p", row)
    if words is None:
        known = {**PRECISIONS, **spec.precisions}
        assert precision_of(spec, cell) == known.get(cell.precision)
    else:
        with pytest.raises(InputError, match=words):
            precision_of(spec, cell)
