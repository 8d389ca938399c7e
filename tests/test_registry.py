import subprocess
import sys
from pathlib import Path

import pytest

import harness.devices
import harness.models
from harness import registry
from harness.decide.speeds import guide_names
from harness.errors import InputError

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


def test_a_new_file_is_found(define):
    define(
        "models", "mine", "from types import SimpleNamespace\nSPEC = SimpleNamespace(name='mine')"
    )
    assert "mine" in registry.model_names()
    assert registry.model_spec("mine").name == "mine"


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
