"""The TimeSformer architecture, narrow and 64 x 64, shipped with weights trained on motion8."""

import dataclasses

from harness.models.timesformer import SPEC as FULL
from harness.spec import TensorSpec

SPEC = dataclasses.replace(
    FULL,
    name="timesformer_tiny",
    overrides={
        "backbone": {
            "pretrained": None,
            "img_size": 64,
            "patch_size": 16,
            "embed_dims": 96,
            "num_heads": 4,
            "num_transformer_layers": 4,
        },
        "cls_head": {"num_classes": 8, "in_channels": 96},
    },
    checkpoint="timesformer_tiny_motion8-811e392d.pth",
    dataset="motion8",
    class_count=8,
    input=TensorSpec("imgs", (1, 3, 3, 8, 64, 64)),
    output=TensorSpec("result", (3, 8)),
    protocol=dataclasses.replace(
        FULL.protocol,
        frame_interval=4,
        short_side=64,
        crop_size=64,
        source="video",
        rawframe_short_side=0,
    ),
    frozen_batch=None,
)
