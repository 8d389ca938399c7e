"""ONNX operators of opset 11 that a static, deterministic graph may use."""

NAMES = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift
Cast Ceil Clip Compress Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh
CumSum DepthToSpace DequantizeLinear Det Div DynamicQuantizeLinear Elu Equal Erf Exp Expand
EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool
GlobalMaxPool Greater HardSigmoid Hardmax Identity InstanceNormalization IsInf IsNaN LRN LSTM
LeakyRelu Less Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool
MaxUnpool Mean MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression Not OneHot Or PRelu Pad
Pow QLinearConv QLinearMatMul QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
Resize ReverseSequence RoiAlign Round Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid
Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan
Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where Xor
"""
# Left out on purpose: control flow, sequences and strings (dynamic shapes) and random operators.
OPSET11_OPS = frozenset(NAMES.split())
