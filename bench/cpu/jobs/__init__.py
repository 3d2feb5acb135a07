"""Measurements, each made by a process of its own that gets a job and prints an answer."""
