"""Exporters: the ways a torch model becomes an ONNX graph."""
