"""Metrics: one file each, named as in recipes (`top_1.py` is `top-1`)."""
