"""Observers a recipe can name: how the range of an activation follows from calibration data."""
