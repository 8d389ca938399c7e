"""Narrow relatives of the two model families, and a suite of one with fitted weights."""

import dataclasses
import functools
import hashlib
import io
import signal
import threading

import pytest

from harness.build.build import Workshop
from harness.build.workbench import Workbench
from harness.check.suite import Suite
from harness.clips import Sample
from harness.contract.thresholds import thresholds_from_file
from harness.data.datasets import motion8
from harness.host import patience
from harness.host.artifacts import ArtifactStore
from harness.host.progress import Progress
from harness.host.site import load_site
from harness.record.record import new_run_directory
from harness.registry import device, model_spec
from harness.spec import CHECKS, Artifact, Cell, OnnxModel, TensorSpec
from harness.testing import run_here
from tests.made import run_facts

CLIPS = 16
CELL = Cell("nonlocal_tiny", "cpu", 4)
# Relative to the unoptimised graph on cpu, absolute elsewhere; the limits let every clean run through.
CONTRACT = """
schema = 2
multiply_adds = { tolerance = 0.0, source = "clean" }
[sources]
clean = "a clean run of sixteen clips"
double = "a double of 40 ms, or a run on any machine"
[clip_sets]
motion8 = { clip_count = 16, source = "clean" }
[parity.fp32]
fp64_factor = 3.0
fp64_atol = 1e-3
max_abs_error = 5e-3
p999_abs_error = 5e-3
relative_l2 = 1e-3
cosine = 0.9999
top1_agreement = 1.0
top5_overlap = 0.9
source = "clean"
[parity.fp16]
fp64_factor = 3.0
fp64_atol = 0.1
max_abs_error = 0.5
p999_abs_error = 0.5
relative_l2 = 0.1
cosine = 0.99
top1_agreement = 0.9
top5_overlap = 0.8
source = "clean"
[devices]
cpu = { unit = "x unoptimised", definition = "processor", scope = "host", against = "unoptimised", implausible = 1000.0 }
cuda = { unit = "clips/s", definition = "device", scope = "host" }
ascend310p = { unit = "clips/s", definition = "device", scope = "host" }
[models.nonlocal_tiny]
clip_set = "motion8"
paired = { margin = 0.5, confidence = 0.95, source = "clean" }
top1 = { floor = 0.9, source = "clean" }
top5 = { floor = 0.9, source = "clean" }
[models.nonlocal_tiny.devices]
cpu.throughput.bs4 = { golden = 1.0, tolerance = 0.99, source = "double" }
cuda.throughput.bs4 = { golden = 100.0, tolerance = 0.05, source = "double" }
ascend310p.throughput.bs4 = { golden = 100.0, tolerance = 0.05, source = "double" }
[tiers.nightly]
cells = ["*"]
required = ["*"]
parity_inputs = { default = 8 }
[tiers.nightly.timing]
default = { sessions_min = 2, sessions_max = 3, warmup_queries = 1, min_queries = 4, min_seconds = 0.0 }
nonlocal_tiny-cpu = { sessions_min = 1, sessions_max = 2, warmup_queries = 1, min_queries = 2, min_seconds = 0.0 }
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call):
    """Have a skip by a fixture reported as that by a mark: a line for each reason, not for each test."""
    report = yield
    if report.skipped and call.when == "setup":
        report.keywords = {"skip": 1}
    return report


@pytest.fixture(scope="session")
def torch():
    """The package, not imported before a test asks for it."""
    import torch

    # The models are so narrow that threads cost more than they give.
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def narrow_nonlocal(torch):
    """All the blocks of TSM-NL ResNet-50, an eighth as wide."""
    return dataclasses.replace(
        model_spec("nonlocal_r50"),
        overrides={
            "backbone": {"type": "NarrowResNetTSM", "base_channels": 8, "pretrained": None},
            "cls_head": {"num_classes": 5, "in_channels": 256},
        },
        class_count=5,
        input=TensorSpec("video", (1, 8, 3, 64, 64)),
        output=TensorSpec("class", (1, 5)),
    )


@pytest.fixture(scope="session")
def narrow_timesformer(torch):
    """TimeSformer with two layers, a sixteenth as wide."""
    return dataclasses.replace(
        model_spec("timesformer"),
        overrides={
            "backbone": {
                "pretrained": None,
                "img_size": 32,
                "embed_dims": 48,
                "num_heads": 4,
                "num_transformer_layers": 2,
            },
            "cls_head": {"num_classes": 5, "in_channels": 48},
        },
        class_count=5,
        input=TensorSpec("imgs", (1, 3, 3, 8, 32, 32)),
        output=TensorSpec("result", (3, 5)),
    )


@pytest.fixture(scope="session")
def timesformer_model(narrow_timesformer):
    """The narrow TimeSformer with seeded weights; not to be changed."""
    from harness.build.torch_model import torch_model_from_spec

    return torch_model_from_spec(narrow_timesformer, None)


@pytest.fixture(scope="session")
def nonlocal_model(narrow_nonlocal):
    """The narrow TSM-NL with seeded weights; not to be changed."""
    from harness.build.torch_model import torch_model_from_spec

    return torch_model_from_spec(narrow_nonlocal, None)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, narrow_nonlocal, narrow_timesformer):
    """Return (spec, path, facts) of a narrow family at a batch size, exported once."""
    from harness.build.onnx_export import write_onnx

    specs = {"nonlocal": narrow_nonlocal, "timesformer": narrow_timesformer}
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(family, batch):
        path = folder / f"{family}-bs{batch}.onnx"
        return specs[family], path, write_onnx(specs[family], batch, None, path)

    return export


@pytest.fixture(scope="session")
def tiny_onnx():
    """Return a model y = relu(x) + x of opset 11, with whatever is to be wrong about it."""
    from onnx import TensorProto, helper

    def build(shape=(2, 3), opset=11, more_inputs=(), dtype=TensorProto.FLOAT, op="Relu"):
        nodes = [helper.make_node(op, ["x"], ["r"]), helper.make_node("Add", ["r", "x"], ["y"])]
        inputs = [helper.make_tensor_value_info(name, dtype, shape) for name in ("x", *more_inputs)]
        outputs = [helper.make_tensor_value_info("y", dtype, shape)]
        graph = helper.make_graph(nodes, "tiny", inputs, outputs)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )

    return build


@pytest.fixture(scope="session")
def tiny_spec():
    """What `tiny_onnx` is declared as."""
    return dataclasses.replace(
        model_spec("timesformer"),
        name="tiny",
        input=TensorSpec("x", (2, 3)),
        output=TensorSpec("y", (2, 3)),
        softmax_in_graph=False,
    )


@pytest.fixture
def interruptible():
    """Let child processes answer to SIGINT, which those of `nohup` and of `&` in a script ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def released():
    """An event that lets go on what hangs; the threads that wait for it end with the test."""
    event = threading.Event()
    yield event
    event.set()
    for thread in patience._hanging:
        thread.join()


@pytest.fixture
def onnx_model(tmp_path, tiny_onnx, tiny_spec):
    """The file of `tiny_onnx` as an exported model."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_onnx().SerializeToString())
    return OnnxModel(tiny_spec, 1, "seeded", Artifact("file", path, "", {}))


@pytest.fixture
def in_process(monkeypatch):
    """Run stages in this process."""
    monkeypatch.setattr("harness.build.build.run_in_child", run_here)
    monkeypatch.setattr("harness.check.checks.run_in_child", run_here)


@pytest.fixture
def workshop(tmp_path):
    """An empty store in which stages run."""
    return Workshop(ArtifactStore(tmp_path / "cache"), tmp_path / "logs", Progress())


@pytest.fixture(scope="session")
def narrow_spec():
    """The architecture of nonlocal_tiny at 32 x 32 and 4 channels, under its name."""
    tiny = model_spec("nonlocal_tiny")
    return dataclasses.replace(
        tiny,
        overrides={
            "backbone": {"type": "NarrowResNetTSM", "base_channels": 4, "pretrained": None},
            "cls_head": {"num_classes": 8, "in_channels": 128},
        },
        input=TensorSpec("video", (1, 8, 3, 32, 32)),
        protocol=dataclasses.replace(tiny.protocol, short_side=36, crop_size=32),
    )


@pytest.fixture(scope="session")
def clip_set():
    """The first clips of motion8."""
    whole = motion8()
    return dataclasses.replace(whole, clips=whole.clips[:CLIPS], digest="the-first-sixteen")


@pytest.fixture(scope="session")
def fitted(torch, narrow_spec, clip_set, tmp_path_factory):
    """The narrow model's SPEC and its weights: seeded, with a head that knows the clips."""
    path = tmp_path_factory.mktemp("checkpoints") / "narrow.pth"
    content = fitted_checkpoint(torch, narrow_spec, clip_set)
    path = path.with_name(f"narrow-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    path.write_bytes(content)
    return dataclasses.replace(narrow_spec, checkpoint=path.name), path


def fitted_checkpoint(torch, spec, clip_set):
    """Fit the last layer to the clips by least squares and return the file's content."""
    from harness.build.torch_model import torch_model_from_spec
    from harness.data.loading import sample_from_clip

    recognizer = torch_model_from_spec(spec, None).recognizer
    head, features = recognizer.cls_head.fc_cls, []
    hook = head.register_forward_hook(lambda _, inputs, __: features.append(inputs[0].mean(dim=0)))
    with torch.no_grad():
        for clip in clip_set.clips:
            sample = sample_from_clip(clip, spec.protocol)
            assert isinstance(sample, Sample)
            recognizer.forward_dummy(torch.from_numpy(sample.tensor.reshape(spec.input.shape)))
    hook.remove()
    table = torch.stack(features).double()
    centre = table.mean(dim=0)
    labels = torch.tensor([clip.label for clip in clip_set.clips])
    # No two classes of a clip are alike, so that the best five are no matter of rounding.
    distance = (torch.arange(spec.class_count) - labels[:, None]) % spec.class_count
    wanted = torch.where(distance == 0, 3.0, -0.2 * distance).double()
    weight = torch.linalg.pinv(table - centre, rtol=1e-3) @ wanted
    head.weight.data.copy_(weight.T)
    head.bias.data.copy_(-(centre @ weight))
    buffer = io.BytesIO()
    torch.save(recognizer.state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def thresholds(tmp_path_factory):
    """The contract of the narrow model."""
    path = tmp_path_factory.mktemp("contract") / "thresholds.toml"
    path.write_text(CONTRACT, encoding="utf-8")
    return thresholds_from_file(path)


@pytest.fixture(scope="session")
def make_suite(thresholds, fitted, clip_set, tmp_path_factory):
    """Return what makes a suite of the narrow model over a cache, with doubles for devices."""
    spec, checkpoint = fitted

    def make(cache, devices=None, model=spec, clips=clip_set):
        folder = tmp_path_factory.mktemp("suite")
        (folder / "site.toml").write_text(
            f'run_root = "runs"\nlock_dir = "locks"\ncheckpoints = ["{checkpoint.parent}"]\n',
            encoding="utf-8",
        )
        site = load_site(folder / "site.toml", {"ACCEPTANCE_CACHE_DIR": str(cache)})
        doubles = devices or {}
        bench = Workbench(
            site,
            folder / "logs",
            Progress(),
            find_model=lambda name: model,
            find_device=lambda name: doubles.get(name) or device(name),
        )
        bench.clip_set = functools.cache(lambda name: clips)
        run = new_run_directory(site.run_root)
        run.write_facts(run_facts(run, thresholds))
        return Suite(thresholds, "nightly", bench, run)

    return make


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A store that all suites share; to be copied where it is to be harmed."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def clean(make_suite, cache):
    """The suite and the records of a clean run; it is timed in a process of its own."""
    suite = make_suite(cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.build.build.run_in_child", run_here)
        return suite, {check: suite.check(CELL, check) for check in CHECKS}
