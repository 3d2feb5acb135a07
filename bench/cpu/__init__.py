"""Benchmark of compiled nets on processors; `python -m bench.cpu --help`."""
