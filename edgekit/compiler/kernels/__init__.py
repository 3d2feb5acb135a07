"""Kernels of our own, each described once for every instruction set, written as TIR."""
