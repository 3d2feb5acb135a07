"""The ONNX graph node by node: read, its constants folded, cleaned of what inference needs not."""
