"""The host's processor, by ONNX Runtime: the embedded default on which everything works."""

from harness.device import DeviceSpec
from harness.runtimes.ort import OrtDevice
from harness.runtimes.ort_operators import OPSET11_OPS

DEVICE = OrtDevice(
    DeviceSpec(
        name="cpu",
        runtime="ort",
        description="this host's CPU, by ONNX Runtime",
        precision="fp32",
        allowed_ops=OPSET11_OPS,
    ),
    provider="CPUExecutionProvider",
)
