"""Quantization after training: ranges from calibration data, int8 graphs in QDQ form."""
