"""The Nonlocal architecture, narrow and 64 x 64, shipped with weights trained on motion8."""

from harness.models.nonlocal_r50 import SPEC as FULL
from harness.precision import Precision
from harness.zoo.model import model_spec_from_config

SPEC = model_spec_from_config(
    FULL.config,
    "nonlocal_tiny_motion8-4d340936.pth",
    name="nonlocal_tiny",
    overrides={
        "backbone": {"type": "NarrowResNetTSM", "base_channels": 10},
        "cls_head": {"num_classes": 8, "in_channels": 320, "dropout_ratio": 0.2},
    },
    dataset="motion8",
    input="video",
    output="class",
    softmax_in_graph=True,
    protocol={"source": "video", "short_side": 72, "crop_size": 64},
    atc=FULL.atc,
    precisions={"gears": Precision(gears=(1, 4, 8))},
)
