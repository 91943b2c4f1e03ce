"""Networks that run in onnxruntime."""
