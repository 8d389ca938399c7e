import dataclasses
import importlib.metadata

import pytest

from harness.build.mmaction_inputs import (
    mmaction2_pipelines,
    mmaction_inputs,
    mmaction_name,
    pipeline_steps,
)
from harness.clips import Clip
from harness.data.known_inputs import (
    KNOWN_INPUTS,
    KnownInputs,
    decoding_environment,
    known_clips,
)
from harness.data.video import decoders
from harness.errors import ClipError, MissingInput
from harness.registry import model_names, model_spec
from harness.zoo.config import config_from_file, config_path

KNOWN = KnownInputs.from_json(KNOWN_INPUTS.read_bytes())
is_elsewhere = pytest.mark.skipif(
    KNOWN.environment != decoding_environment(), reason="other decoders made the known answers"
)


@pytest.fixture(scope="module", autouse=True)
def pipelines():
    with mmaction2_pipelines():
        yield


@is_elsewhere
@pytest.mark.parametrize("name", model_names())
def test_the_known_answers_are_what_mmaction2_gives(name):
    assert tuple(mmaction_inputs(model_spec(name), known_clips())) == KNOWN.models[name]


@is_elsewhere
def test_without_decord_mmaction2_reads_the_same_through_pyav(monkeypatch):
    monkeypatch.setattr("harness.build.mmaction_inputs.decoders", lambda: ("av",))
    spec = model_spec("nonlocal_tiny")
    assert pipeline_steps(spec, is_video=True)[0] == {"type": "PyAVInit"}
    assert tuple(mmaction_inputs(spec, known_clips())) == KNOWN.models[spec.name]


@pytest.mark.parametrize("name", ["nonlocal_r50", "timesformer"])
def test_the_steps_of_a_big_model_are_its_configuration_s(name):
    spec = model_spec(name)
    steps = pipeline_steps(spec, is_video=False)
    config = config_from_file(config_path(spec.config)).part("data", "test", "pipeline")
    assert steps == [step for step in config if step["type"] not in ("Collect", "ToTensor")]


def test_a_small_relative_has_its_own_sizes():
    steps = {
        step["type"]: step for step in pipeline_steps(model_spec("timesformer_tiny"), is_video=True)
    }
    decoder = "Decord" if "decord" in decoders() else "PyAV"
    assert [*steps][:3] == [f"{decoder}Init", "SampleFrames", f"{decoder}Decode"]
    assert steps["SampleFrames"]["frame_interval"] == 4
    assert steps["Resize"]["scale"] == (-1, 64)
    assert steps["ThreeCrop"]["crop_size"] == 64


def test_a_folder_of_raw_frames_is_read_as_it_is(tmp_path):
    spec = model_spec("nonlocal_tiny")
    framed = dataclasses.replace(
        spec, protocol=dataclasses.replace(spec.protocol, source="rawframes")
    )
    clip = known_clips()[0]
    from harness.data.rawframes import extract

    list(extract([clip], tmp_path, short_side=0))
    folder = Clip(clip.id, tmp_path / clip.path.stem, clip.label)
    (of_video,), (of_folder,) = (mmaction_inputs(framed, [one]) for one in (clip, folder))
    assert of_folder == of_video
    assert of_folder.indices == (2, 6, 11, 15, 20, 24, 29, 33)


def test_without_mmaction2_or_a_configuration_that_is_said(monkeypatch):
    spec = dataclasses.replace(model_spec("nonlocal_tiny"), config="none.py")
    with pytest.raises(MissingInput, match=r"has no configuration none\.py for nonlocal_tiny"):
        mmaction_inputs(spec, [])

    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("harness.build.mmaction_inputs.package_versions", absent)
    with pytest.raises(MissingInput, match="mmaction2 is not installed"):
        mmaction_name()


def test_a_clip_that_mmaction2_cannot_read(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"not a video")
    with pytest.raises(ClipError, match=r"mmaction2 cannot read .*broken\.mp4"):
        mmaction_inputs(model_spec("nonlocal_tiny"), [Clip("broken", path, 0)])
