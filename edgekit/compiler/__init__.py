"""From an ONNX file to what runs on a device: checks, engines, one plain C library."""
