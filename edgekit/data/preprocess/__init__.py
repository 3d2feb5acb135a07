"""Preprocessing steps: one file each, named as in recipes (`to_float.py` is `to-float`)."""
