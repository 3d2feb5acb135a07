"""Instruction sets: what a vector holds and how its few special steps are spelled."""
