"""Engines: one file each; each turns an ONNX model into files a runner can execute."""
