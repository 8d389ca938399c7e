from benchmarks.zoo import rgb_classifiers, sampled
from harness.zoo.listing import listed_line, zoo_list


def test_every_configuration_is_listed_with_what_it_is_or_why_not():
    listed = list(zoo_list())
    lines = {one.config.rpartition("/")[2]: listed_line(one) for one in listed}
    assert len(lines) == len(listed) == 185
    refused = [one for one in listed if one.spec is None]
    assert len(refused) == 13
    assert all(one.reason for one in refused)
    twice = lines["tanet_r50_1x1x8_50e_sthv1_rgb.py"]
    assert "8 frames, 2 x 3 views of 256, twice" in twice
    assert "70.24%, 70.59%, 70.73%" in lines["tsm_r50_1x1x8_50e_kinetics400_rgb.py"]
    assert "not supported: takes Flow input" in lines["tsn_r50_320p_1x1x3_110e_kinetics400_flow.py"]


def test_the_configurations_that_count_are_those_of_the_families_themselves():
    listed = rgb_classifiers()
    assert (len(listed), sum(one.spec is not None for one in listed)) == (137, 136)
    assert len({one.family for one in sampled(listed)}) == len(sampled(listed)) == 12
