"""edgekit's own operator graph: what an ONNX model means, in operators that kernels exist for."""
