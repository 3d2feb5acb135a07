"""Stages: what a recipe can do to a model; one file each, thin over the rooms below."""
