"""Instructions of compiled nets on emulated boards; `python -m bench.arm --help`."""
