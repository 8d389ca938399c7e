"""The TimeSformer architecture, narrow and 64 x 64, shipped with weights trained on motion8."""

from harness.models.timesformer import SPEC as FULL
from harness.zoo.model import model_spec_from_config

SPEC = model_spec_from_config(
    FULL.config,
    "timesformer_tiny_motion8-811e392d.pth",
    name="timesformer_tiny",
    overrides={
        "backbone": {
            "img_size": 64,
            "patch_size": 16,
            "embed_dims": 96,
            "num_heads": 4,
            "num_transformer_layers": 4,
        },
        "cls_head": {"num_classes": 8, "in_channels": 96},
    },
    dataset="motion8",
    output="result",
    protocol={"frame_interval": 4, "short_side": 64, "crop_size": 64, "source": "video"},
    atc=FULL.atc,
)
