"""TimeSformer with divided space-time attention on Kinetics-400 (ModelZoo: TimeSformer)."""

from harness.zoo.model import model_spec_from_config

SPEC = model_spec_from_config(
    "recognition/timesformer/timesformer_divST_8x32x1_15e_kinetics400_rgb.py",
    "timesformer_divST_8x32x1_15e_kinetics400_rgb-3f8e5d03.pth",
    name="timesformer",
    output="result",
    protocol={"rawframe_short_side": 320},
    frozen_batch=1,
    atc=(
        *("--framework=5", "--model={model}", "--output={output}", "--input_format=ND"),
        *("--input_shape={input_shape}", "--log=error", "--soc_version={soc_version}"),
        *("--op_select_implmode=high_performance", "--optypelist_for_implmode=Gelu"),
    ),
)
