"""ONNX Runtime: sessions on the host, and the devices that it drives."""
