"""How long the light commands take, and what a fully cached build takes.

    python bench/startup.py

Interleaved, median of the rounds. The store is one of its own, filled by one quickstart build for
the host.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile

from record import save, timed

ROUNDS = 9


def main() -> None:
    """Time the commands in turn."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "EDGEKIT_STORE": f"{folder}/store"}
        edgekit = [sys.executable, "-m", "edgekit"]
        build = [*edgekit, "build", "-r", "quickstart", "-t", "host", "-o", f"{folder}/dist"]
        timed(build, environment)
        commands = {
            "python_s": [sys.executable, "-c", "pass"],
            "help_s": [*edgekit, "--help"],
            "plan_s": [*edgekit, "plan", "-r", "quickstart", "-t", "host"],
            "cached_build_s": build,
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                times[name].append(timed(command, environment)[0])
    rounded = {name: round(statistics.median(values), 3) for name, values in times.items()}
    save("startup", {"rounds": ROUNDS, "median": rounded})


if __name__ == "__main__":
    main()
