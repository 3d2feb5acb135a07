"""Convolutions and dense layers, computed directly from register tiles."""
