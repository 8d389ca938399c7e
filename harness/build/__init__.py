"""ModelSpec to ONNX, simplified, and the device's model, in the artifact store."""
