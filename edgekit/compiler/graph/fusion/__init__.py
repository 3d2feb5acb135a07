"""From ONNX nodes to operators with a kernel of our own, and regions for all others."""
