"""The Nonlocal architecture, narrow and 64 x 64, shipped with weights trained on motion8."""

import dataclasses

from harness.models.nonlocal_r50 import SPEC as FULL
from harness.spec import TensorSpec

SPEC = dataclasses.replace(
    FULL,
    name="nonlocal_tiny",
    overrides={
        "backbone": {"type": "NarrowResNetTSM", "base_channels": 10, "pretrained": None},
        "cls_head": {"num_classes": 8, "in_channels": 320, "dropout_ratio": 0.2},
    },
    checkpoint="nonlocal_tiny_motion8-4d340936.pth",
    dataset="motion8",
    class_count=8,
    input=TensorSpec("video", (1, 8, 3, 64, 64)),
    output=TensorSpec("class", (1, 8)),
    protocol=dataclasses.replace(FULL.protocol, short_side=72, crop_size=64),
)
