"""An NVIDIA GPU, by ONNX Runtime's CUDA provider: the T4 column of the guides."""

from harness.runtimes.onnx_ops import OPSET11_OPS
from harness.runtimes.ort import OrtDevice
from harness.spec import DeviceSpec

DEVICE = OrtDevice(
    DeviceSpec(
        name="cuda",
        runtime="ort",
        description="an NVIDIA GPU, by ONNX Runtime's CUDA provider",
        precision="fp32",
        allowed_ops=OPSET11_OPS,
    ),
    provider="CUDAExecutionProvider",
    memory="cuda",
    install_hint="install onnxruntime-gpu in place of onnxruntime on a host with an NVIDIA driver",
)
