import pytest

from harness import registry


@pytest.mark.parametrize("name", registry.model_names())
def test_a_model_is_consistent(name):
    spec = registry.model_spec(name)
    assert spec.name == name
    assert spec.output.shape[-1] == spec.class_count
    assert spec.crop_count == spec.protocol.crop_count
    assert spec.input.shape[-2:] == (spec.protocol.crop_size,) * 2
    assert spec.protocol.frame_count in spec.input.shape
