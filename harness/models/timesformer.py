"""TimeSformer with divided space-time attention on Kinetics-400 (ModelZoo: TimeSformer)."""

from harness.spec import InputProtocol, ModelSpec, TensorSpec

SPEC = ModelSpec(
    name="timesformer",
    config="recognition/timesformer/timesformer_divST_8x32x1_15e_kinetics400_rgb.py",
    overrides={"backbone": {"pretrained": None}},
    checkpoint="timesformer_divST_8x32x1_15e_kinetics400_rgb-3f8e5d03.pth",
    dataset="kinetics400",
    class_count=400,
    input=TensorSpec("imgs", (1, 3, 3, 8, 224, 224)),
    output=TensorSpec("result", (3, 400)),
    softmax_in_graph=False,
    protocol=InputProtocol(
        sampling="strided",
        frame_count=8,
        frame_interval=32,
        short_side=224,
        crop_size=224,
        crop_count=3,
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        layout="MCTHW",
        source="rawframes",
        rawframe_short_side=320,
    ),
    frozen_batch=1,
    atc=(
        *("--framework=5", "--model={model}", "--output={output}", "--input_format=ND"),
        *("--input_shape={input_shape}", "--log=error", "--soc_version={soc_version}"),
        *("--op_select_implmode=high_performance", "--optypelist_for_implmode=Gelu"),
    ),
)
