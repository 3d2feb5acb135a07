"""Convolutions with one filter per channel."""
