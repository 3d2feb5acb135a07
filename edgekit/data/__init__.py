"""Datasets, splits, preprocessing and metrics; numpy only, and numpy only when data is touched.

Every module here imports in milliseconds, so that a plan can check a recipe's options and compute
the data's fingerprint without loading numpy.
"""
