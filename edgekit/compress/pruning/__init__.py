"""Structured pruning: which channels belong together, which matter, how many stay."""
