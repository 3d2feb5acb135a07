"""Datasets: one file each, named as in recipes (`fashion_mnist.py` is `fashion-mnist`)."""
