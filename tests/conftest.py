"""Narrow relatives of the two model families, built from the same configurations."""

import dataclasses

import pytest

from harness.registry import model_spec
from harness.spec import TensorSpec


@pytest.fixture(scope="session")
def narrow_nonlocal():
    """All the blocks of TSM-NL ResNet-50, an eighth as wide."""
    register_thin_tsm()
    return dataclasses.replace(
        model_spec("nonlocal_r50"),
        overrides={
            "backbone": {"type": "ThinTSM", "pretrained": None},
            "cls_head": {"num_classes": 5, "in_channels": 256},
        },
        class_count=5,
        input=TensorSpec("video", (1, 8, 3, 64, 64)),
        output=TensorSpec("class", (1, 5)),
    )


@pytest.fixture(scope="session")
def narrow_timesformer():
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


def register_thin_tsm():
    # ResNet of mmaction2 fixes its widths; what it makes its layers with is the place to narrow
    # them. The stem keeps its 64 channels.
    from harness.pytorch import _quiet_mmaction

    with _quiet_mmaction():
        from mmaction.models.backbones import resnet
        from mmaction.models.builder import BACKBONES

    if "ThinTSM" in BACKBONES:
        return
    make_layer = resnet.make_res_layer

    def make_thin_layer(block, inplanes, planes, *args, **options):
        thin = inplanes if planes == 64 else inplanes // 8
        return make_layer(block, thin, planes // 8, *args, **options)

    class ThinTSM(BACKBONES.get("ResNetTSM")):
        def __init__(self, depth, **options):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(resnet, "make_res_layer", make_thin_layer)
                super().__init__(depth, **options)

    BACKBONES.register_module(module=ThinTSM)
