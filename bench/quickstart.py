"""The quickstart from an empty store for an emulated Raspberry Pi 4: wall time and peak memory.

    python bench/quickstart.py

The emulated system is prepared before, as `edgekit device doctor emulated:rpi4` does: it is
fetched once per machine. A second build from another empty store shows whether every artifact is
reproducible.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from record import save, timed


def main() -> None:
    """Build twice from empty stores."""
    edgekit = [sys.executable, "-m", "edgekit"]
    timed([*edgekit, "device", "doctor", "emulated:rpi4"], dict(os.environ))
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "second"):
            environment = {**os.environ, "EDGEKIT_STORE": f"{folder}/{name}-store"}
            output = Path(folder) / name
            build = ["build", "-r", "quickstart", "-t", "rpi4", "-o", str(output), "--json"]
            wall, peak, text = timed([*edgekit, *build], environment)
            report = json.loads(text.splitlines()[-1])["report"]
            manifest = timed([*edgekit, "verify", str(output / "rpi4"), "--json"], environment)[2]
            runs.append(
                {
                    "wall_s": round(wall, 1),
                    "peak_mib_of_largest_process": round(peak),
                    "manifest_sha256": json.loads(manifest)["manifest_digest"],
                    "stages_s": {s["label"]: s["duration_s"] for s in report["stages"]},
                    "top-1": {
                        s["label"]: m["value"]
                        for s in report["stages"]
                        for m in s["metrics"]
                        if m["name"] == "top-1"
                    },
                }
            )
    same = runs[0]["manifest_sha256"] == runs[1]["manifest_sha256"]
    save("quickstart", {"runs": runs, "manifests_are_equal": same})


if __name__ == "__main__":
    main()
