"""The emulated offline model: a line that says so, a JSON head, and the ONNX file."""

import json
from pathlib import Path

MAGIC = b"EMULATED OFFLINE MODEL\n"


def write_om(path, head, onnx_bytes):
    text = json.dumps(head).encode() + b"\n"
    Path(path).write_bytes(MAGIC + text + onnx_bytes)
    Path(path).chmod(0o600)


def read_om(path):
    """Return head and ONNX bytes; ValueError for any other file."""
    data = Path(path).read_bytes()
    if not data.startswith(MAGIC):
        raise ValueError(f"{path} is not an emulated offline model")
    text, onnx_bytes = data[len(MAGIC) :].split(b"\n", 1)
    return json.loads(text), onnx_bytes
