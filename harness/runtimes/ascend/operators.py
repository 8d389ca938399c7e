"""ONNX operators that ATC supports and that a video classifier may use."""

NAMES = """
Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant
ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace Div Dropout Elu Equal Erf Exp Expand
Flatten Floor Gather GatherND Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
HardSigmoid Identity InstanceNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max
MaxPool Mean Min Mod Mul Neg Not Or PRelu Pad Pow Range Reciprocal ReduceL2 ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum Relu Reshape Resize Shape Sigmoid Sign Sin Slice Softmax Softplus
SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze Upsample Where
"""
# Left out on purpose: Einsum, LayerNormalization, Gelu and GroupNormalization (above opset 11, or
# decomposed in fp16 with loss), ScatterND (refuses int64 indices), NonZero, Loop, If and Scan
# (dynamic shapes). See the failure modes of the toolchain: 11 and 20.
ATC_OPS = frozenset(NAMES.split())
