"""Ahead of time: an ONNX model becomes one plain C library without any runtime."""
