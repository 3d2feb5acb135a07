"""Evaluation: run a model of any kind, measure it, and hold two of its forms against each other."""
