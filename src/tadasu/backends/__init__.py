"""The only rooms that import diffusers, transformers, onnxruntime and HTTP clients."""
