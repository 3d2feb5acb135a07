"""What every test runs under: one thread per library, and no clock in property tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Read once, when numpy or torch is first loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A deadline would fail a test because the machine is busy.
settings.register_profile("edgekit", deadline=None)
settings.load_profile("edgekit")
