"""Kernels that move or gather pixels: pooling, resizing, joining, changes of layout."""
