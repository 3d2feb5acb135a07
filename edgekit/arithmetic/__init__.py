"""Pure arithmetic on numpy arrays: quantization, requantization, calibration, statistics.

Nothing here knows about models, files or frameworks; every function is deterministic.
"""
