"""Kernels that treat every value alike, and the arithmetic they share with other kernels."""
