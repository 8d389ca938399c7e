import hashlib

import pytest

from harness.errors import BuildError, RunError
from harness.host.command import CommandResult
from harness.language import speaking
from harness.runtimes.ascend.environment import PinnedOm
from harness.runtimes.ascend.foreign import passport_from_file
from harness.runtimes.ascend.passport import options_of, passport_from_text, passport_problems

# Published on the web: CANN 8.0.0 on an Atlas 200I, as its user pasted it.
ATLAS_200I = """ATC start working now, please wait for a moment.
============ Display Model Info start ============
Original Atc command line: /usr/local/Ascend/ascend-toolkit/8.0.0/aarch64-linux/bin/atc.bin --framework=5 \
--model=./yolo26n.onnx --input_format=NCHW --input_shape=images:1,3,640,640 --output=./yolo26n_bs1 \
--soc_version=Ascend310B4 --log=info
system   info: atc_version[7.6.0.1.220], soc_version[Ascend310B4], framework_type[Onnx].
resource info: memory_size[24123392 B], weight_size[5170176 B], stream_num[1], event_num[0].
om       info: modeldef_size[752511 B], weight_data_size[5170176 B], tbe_kernels_size[393461 B], \
cust_aicpu_kernel_store_size[0 B], task_info_size[56254 B], so_store_size[0 B].
============ Display Model Info end   ============
...
ATC run success, welcome to the next use.
"""
# The other one, of 8.3.RC1.alpha003, as far as it is known: no line of success, no sizes.
ATLAS_300V = """ATC start working now, please wait for a moment.
..................................
============ Display Model Info start ============
Original Atc command line: /usr/local/Ascend/cann/bin/atc.bin --framework=5 --soc_version=Ascend310P1
system   info: atc_version[8.3.T14.0.B101], soc_version[Ascend310P1], framework_type[Onnx].
resource info: stream_num[10], event_num[7].
============ Display Model Info end   ============
"""
IMAGES = {"input_shape": "images:1,3,640,640"}


def test_the_published_samples_are_read():
    found = passport_from_text(ATLAS_200I)
    assert (found.soc_version, found.framework) == ("Ascend310B4", "Onnx")
    assert found.compiler == "7.6.0.1.220"
    assert (found.memory_bytes, found.weight_bytes, found.stream_count) == (24123392, 5170176, 1)
    assert found.loaded_mb == pytest.approx(29.293568)
    assert options_of(found.command)["input_shape"] == "images:1,3,640,640"
    assert found.ai_cpu_operators is None
    other = passport_from_text(ATLAS_300V)
    assert (other.soc_version, other.stream_count) == ("Ascend310P1", 10)
    assert (other.memory_bytes, other.loaded_mb) == (None, None)
    assert "memory" not in other.lines
    with speaking("zh"):
        assert other.lines["芯片"] == "Ascend310P1"


@pytest.mark.parametrize(
    "text", ["", "E10041: no model", ATLAS_200I.replace("soc_version[Ascend310B4], ", "")]
)
def test_what_is_no_passport_is_refused(text):
    with pytest.raises(RunError, match="`atc --mode=6`"):
        passport_from_text(text)


@pytest.mark.parametrize(
    ("change", "soc", "mode", "words"),
    [
        ((), "Ascend310B4", "fp16", None),
        ((), "Ascend310P3", "fp16", "built for Ascend310B4, not for Ascend310P3"),
        (("images:1,", "images:4,"), "Ascend310B4", "fp16", "its input is images:4,3,640,640"),
        (("images:1,", "x:1,"), "Ascend310B4", "fp16", "not images:1,3,640,640"),
        (
            ("--log=info", "--precision_mode=allow_mix_precision"),
            "Ascend310B4",
            "fp16",
            "not in fp",
        ),
        (("--log=info", "--precision_mode_v2=origin"), "Ascend310B4", "origin", None),
        (
            ("--log=info", "--precision_mode=x"),
            "Ascend310B4",
            "fp16",
            "it computes in x, not in fp16",
        ),
        (("--log=info", "--precision_mode=force_fp16"), "Ascend310B4", "origin", "not in origin"),
        (("--input_shape=images:1,3,640,640 ", ""), "Ascend310B4", "fp16", None),
    ],
)
def test_a_model_that_is_not_the_cells_is_told(change, soc, mode, words):
    text = ATLAS_200I.replace(*change) if change else ATLAS_200I
    found = list(passport_problems(passport_from_text(text), soc, IMAGES, mode))
    assert (not found) if words is None else (len(found) == 1 and words in found[0]), found


def test_a_build_has_a_passport(bench, make, generation):
    facts = bench.built(make.tiny_onnx(bench.folder, batch=4)).artifact.provenance
    passport = facts["passport"]
    assert passport["soc_version"] == "Ascend310P3"
    assert "--input_shape=video:4,1,3,4,4" in passport["command"]
    assert "--model=tsm_tiny_bs4.onnx" in passport["command"]
    assert passport["weight_bytes"] > 0
    assert passport["ai_cpu_operators"] == []
    assert not passport["is_foreign"]


def test_operators_on_the_ai_cpu_are_named(bench, make):
    bench.fault("atc_ai_cpu")
    model = bench.built(make.tiny_onnx(bench.folder, op="Softmax"))
    assert model.artifact.provenance["passport"]["ai_cpu_operators"] == ["Softmax_1 (SoftmaxV2)"]
    assert bench.device().passport(model) == model.artifact.provenance["passport"]


def test_a_build_for_another_chip_is_refused(bench, make):
    bench.fault("atc_wrong_soc")
    with pytest.raises(BuildError, match=r"it was built for Ascend910B4, not for Ascend310P3"):
        bench.built(make.tiny_onnx(bench.folder))


def test_an_atc_that_cannot_tell_leaves_the_reason(bench, make):
    def run(command):
        if "--mode=6" in command.argv:
            return CommandResult(255, "E10001: Value [6] for parameter [mode] is invalid", 0.1)
        return bench.tools.run(command)

    model = bench.built(make.tiny_onnx(bench.folder), bench.device(run=run))
    assert "E10001" in model.artifact.provenance["passport_error"]
    assert bench.device().passport(model) is None


@pytest.fixture
def elsewhere(bench, make):
    """An offline model that somebody else built, and what it is of."""
    onnx = make.tiny_onnx(bench.folder)
    path = bench.folder / "theirs.om"
    path.write_bytes(bench.built_before(onnx).artifact.path.read_bytes())
    return onnx, PinnedOm(om=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def accepting(bench, onnx, pinned):
    return bench.device(models={f"{onnx.spec.name}-ascend310p-bs{onnx.batch}": pinned})


def test_a_model_that_somebody_else_built_is_accepted_by_its_digest(bench, make, elsewhere):
    onnx, pinned = elsewhere
    device = accepting(bench, onnx, pinned)
    assert device.shaped_by(onnx)["om"] == pinned.sha256
    assert "om" not in device.shaped_by(make.tiny_onnx(bench.folder, batch=2))
    model = bench.built(onnx, device)
    facts = model.artifact.provenance
    assert (facts["om_name"], facts["passport"]["is_foreign"]) == ("theirs.om", True)
    assert model.artifact.path.read_bytes() == pinned.om.read_bytes()
    session = device.open(model)
    assert session.run(make.random_feed(onnx))["class"].shape == (1, 5)
    session.close()


def test_a_foreign_model_of_another_digest_is_refused(bench, elsewhere):
    onnx, pinned = elsewhere
    device = accepting(bench, onnx, pinned.model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(BuildError, match=r"site\.toml pins 0000.*\[ascend\.models\]"):
        bench.built(onnx, device)


def test_a_foreign_model_of_another_batch_size_is_refused(bench, make, elsewhere):
    four = make.tiny_onnx(bench.folder, batch=4)
    with pytest.raises(BuildError, match=r"its input is video:1,.*not video:4,"):
        bench.built(four, accepting(bench, four, elsewhere[1]))


def test_a_foreign_model_for_another_chip_is_refused(bench, elsewhere):
    bench.monkeypatch.setenv("EMULATOR_CHIP", "310P5")
    with pytest.raises(BuildError, match="built for Ascend310P3, not for Ascend310P5"):
        bench.built(elsewhere[0], accepting(bench, *elsewhere))


def test_a_foreign_file_that_is_no_model_is_refused(bench, elsewhere):
    onnx, pinned = elsewhere
    pinned.om.write_bytes(b"nothing")
    nothing = PinnedOm(om=pinned.om, sha256=hashlib.sha256(b"nothing").hexdigest())
    with pytest.raises(BuildError, match="E10041"):
        bench.built(onnx, accepting(bench, onnx, nothing))


def test_a_file_that_is_not_there_has_no_passport(bench):
    with pytest.raises(RunError, match="there is no file"):
        passport_from_file(bench.folder / "none.om", bench.tools)
