"""Distillation methods: one file each, a composition of the primitives in `losses`."""
