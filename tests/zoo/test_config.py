import pytest

from harness.build.torch_model import quiet_mmaction
from harness.errors import InputError
from harness.zoo.config import config_from_file, config_path, mmaction2_folder

FAMILIES = ["c3d", "csn", "i3d", "slowfast", "timesformer", "tin", "tpn", "trn", "tsm", "x3d"]


def plain(value):
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_is_read_as_mmcv_reads_it(family):
    with quiet_mmaction():
        from mmcv import Config
    for path in sorted((mmaction2_folder() / "configs/recognition" / family).glob("*.py"))[:4]:
        expected = Config.fromfile(str(path))._cfg_dict.to_dict()
        assert plain(dict(config_from_file(path).content)) == plain(expected), path.name


def test_a_child_may_replace_a_part_of_its_base(tmp_path):
    (tmp_path / "base.py").write_text("import math\nmodel = dict(a=dict(x=1, y=2), b=dict(z=3))\n")
    child = tmp_path / "child.py"
    child.write_text("_base_ = 'base.py'\nmodel = dict(a=dict(x=7), b=dict(_delete_=True, w=4))\n")
    found = config_from_file(child)
    assert found.content == {"model": {"a": {"x": 7, "y": 2}, "b": {"w": 4}}}
    assert found.files == (child, tmp_path / "base.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("model = (", "not a configuration"),
        ("raise SystemError('no')", "no"),
        ("_base_ = 'gone.py'", r"gone\.py cannot be read"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, said):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said):
        config_from_file(path)


def test_a_configuration_is_named_below_mmaction2_or_by_its_own_path(tmp_path):
    assert config_path("recognition/tsm").is_dir()
    assert config_path(str(tmp_path / "mine.py")) == tmp_path / "mine.py"
