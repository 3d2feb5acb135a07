"""Smaller models: pruning on torch modules, quantization to int8 graphs."""
