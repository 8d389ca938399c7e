"""The host's processor, through ONNX Runtime: the default, on which everything works."""

from harness.device import Device, DeviceSpec

SPEC = DeviceSpec(
    name="cpu",
    description="this host's CPU, through ONNX Runtime",
    runtime="ONNX Runtime",
    version_fact="onnxruntime",
    precision="fp32",
    column=4,
    is_host=True,
)


def device() -> Device:
    """Return the device."""
    from harness.host.vitals import host_vitals
    from harness.runtimes.ort.device import OrtDevice

    return OrtDevice(SPEC, provider="CPUExecutionProvider", signs=host_vitals)
