"""Every RGB configuration of the wheel, its sizes divided by eight, beside mmaction2's pipeline."""

import dataclasses
import functools

import pytest

from benchmarks.zoo import shrunk
from harness.check.mmaction2_pipeline import protocol_problems
from harness.errors import InputError
from harness.zoo.config import config_from_file, mmaction2_folder
from harness.zoo.protocol import protocol_from_config

# As the clips of Kinetics-400, 16:9, and portrait.
SMALL_SIZES = ((43, 32), (57, 32), (32, 45))
C3D = "c3d/c3d_sports1m_16x1x1_45e_ucf101_rgb.py"
TSM_TEN_CROPS = "tsm/tsm_r50_dense_1x1x8_100e_kinetics400_rgb.py"
TANET_TWICE = "tanet/tanet_r50_1x1x8_50e_sthv1_rgb.py"


def read(name):
    return config_from_file(mmaction2_folder() / "configs/recognition" / name)


@functools.cache
def all_protocols():
    """A configuration of each protocol in the wheel, shrunk; and how many share them."""
    found, count = {}, 0
    for path in sorted((mmaction2_folder() / "configs/recognition").rglob("*.py")):
        config = config_from_file(path)
        try:
            protocol_from_config(config)
        except InputError:
            continue
        small = shrunk(config, 8)
        found.setdefault(protocol_from_config(small), small)
        count += 1
    return found, count


def test_every_rgb_protocol_of_the_wheel_is_mmaction2s_bit_for_bit():
    protocols, count = all_protocols()
    assert count == 174
    assert len(protocols) > 35
    problems = {
        config.path.name: found
        for protocol, config in protocols.items()
        if (found := protocol_problems(config, protocol, SMALL_SIZES[:1]))
    }
    assert problems == {}


@pytest.mark.parametrize("name", [TSM_TEN_CROPS, TANET_TWICE])
def test_frames_of_any_shape_are_cropped_as_mmaction2_does(name):
    config = shrunk(read(name), 8)
    assert protocol_problems(config, protocol_from_config(config), SMALL_SIZES[1:]) == []


def test_a_crop_that_leaves_the_frame_is_refused():
    """mmaction2 cuts 14 rows from -1 on here and gives a crop of one row."""
    config = shrunk(read(C3D), 8)
    problems = protocol_problems(config, protocol_from_config(config), SMALL_SIZES[1:2])
    assert len(problems) == 1
    assert "1 crops of 14 do not fit frames with a short side of 12" in problems[0]


def test_the_comparison_finds_another_frame_and_another_pixel():
    config = shrunk(read(TANET_TWICE), 8)
    protocol = protocol_from_config(config)
    assert protocol.placement == "twice"
    later = dataclasses.replace(protocol, placement="dense", dense_positions=2)
    assert "samples" in protocol_problems(config, later, SMALL_SIZES[:1])[0]
    darker = dataclasses.replace(protocol, mean=(123.0, 116.28, 103.53))
    assert "pixels" in protocol_problems(config, darker, SMALL_SIZES[:1])[0]
