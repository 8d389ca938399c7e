"""An NVIDIA GPU, through ONNX Runtime's CUDA provider: the T4 column of the guides."""

from harness.device import Device, DeviceSpec

SPEC = DeviceSpec(
    name="cuda",
    description="an NVIDIA GPU, through ONNX Runtime's CUDA provider",
    runtime="ONNX Runtime",
    version_fact="onnxruntime",
    precision="fp32",
    label="T4",
    column=3,
    facts=("chip", "driver"),
)


def device() -> Device:
    """Return the device."""
    from harness.runtimes.ort.device import OrtDevice
    from harness.runtimes.ort.nvidia_smi import gpu_facts, gpu_vitals

    return OrtDevice(
        SPEC,
        provider="CUDAExecutionProvider",
        memory="cuda",
        # From Ampere on, it would round the factors of a product to 10 bits and call that fp32.
        options={"use_tf32": "0"},
        hardware=gpu_facts,
        signs=gpu_vitals,
        install_hint="install onnxruntime-gpu in place of onnxruntime on a host with an NVIDIA driver",
    )
