"""Backends a recipe can name: who turns a float graph and ranges into an int8 graph."""
