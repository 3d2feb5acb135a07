"""Which of ONNX's own node tests compile and match, by edgekit and by TVM as it comes.

    python bench/onnx_coverage.py [--engine edgekit|tvm] [--only TEXT] [--progress FILE]

Every test runs in a worker process that may crash; what is done is kept in the progress file, so
that the benchmark goes on where it was stopped. Without --engine both run, and without --only the
result file is written.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onnx_cases import OPSET, Case, load_cases
from onnx_engines import ENGINES, serve
from record import save

TIMEOUT_S = 120
RESTART_AFTER = 200  # tests: a library once loaded stays in its process
BEFORE = ("read", "import")  # phases in which a model is not taken in yet
SHOWN = 4  # tests named for each reason


class Worker:
    """Keep one process that runs tests of one engine."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._done = 0

    def run(self, case: Case) -> tuple[str, str]:
        """Run one test; a crash or a time-out is an answer as well."""
        if self._process is None or self._done >= RESTART_AFTER:
            self._start()
        self._done += 1
        try:
            self._calls.send(case)
            if not self._calls.poll(TIMEOUT_S):
                self.close()
                return "crashed", f"no result after {TIMEOUT_S} s"
            verdict: tuple[str, str] = self._calls.recv()
        except (EOFError, OSError):
            self._process.join()
            status = self._process.exitcode
            self.close()
            return "crashed", signal.Signals(-status).name if status < 0 else f"status {status}"
        return verdict

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._calls.close()
            self._process.kill()
            self._process.join()
        self._process = None

    def _start(self) -> None:
        self.close()
        self._calls, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=serve, args=(self._engine, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self._done = 0


def main() -> None:
    """Run all tests that have no verdict yet, then sum up."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", choices=sorted(ENGINES), action="append")
    parser.add_argument("--only", default="", help="run tests with this text in their name")
    default = Path(tempfile.gettempdir()) / "edgekit-onnx-coverage.jsonl"
    parser.add_argument("--progress", type=Path, default=default)
    arguments = parser.parse_args()
    cases, left_out = load_cases()
    verdicts = _read(arguments.progress)
    for engine in arguments.engine or sorted(ENGINES):
        chosen = [case for case in cases if arguments.only in case.name]
        for case, verdict, reason in _run(engine, chosen, verdicts, arguments.progress):
            print(f"{engine:8}{case.name:60}{verdict:10}{reason[:120]}", flush=True)
    if not arguments.only:
        figures = {engine: _summary(cases, verdicts.get(engine, {})) for engine in ENGINES}
        save("onnx-coverage", {"opset": OPSET, "tests": len(cases), "left_out": left_out} | figures)


def _run(
    engine: str,
    cases: Iterable[Case],
    verdicts: dict[str, dict[str, tuple[str, str]]],
    progress: Path,
) -> Iterable[tuple[Case, str, str]]:
    done = verdicts.setdefault(engine, {})
    worker = Worker(engine)
    with progress.open("a", encoding="utf-8") as file:
        for case in cases:
            if case.name in done:
                continue
            verdict, reason = done[case.name] = worker.run(case)
            file.write(json.dumps([engine, case.name, verdict, reason]) + "\n")
            file.flush()
            yield case, verdict, reason
    worker.close()


def _read(progress: Path) -> dict[str, dict[str, tuple[str, str]]]:
    verdicts: dict[str, dict[str, tuple[str, str]]] = {}
    if progress.exists():
        for line in progress.read_text(encoding="utf-8").splitlines():
            engine, name, verdict, reason = json.loads(line)
            verdicts.setdefault(engine, {})[name] = verdict, reason
    return verdicts


def _summary(cases: list[Case], verdicts: dict[str, tuple[str, str]]) -> dict[str, Any]:
    counts = Counter(verdicts[case.name][0] for case in cases if case.name in verdicts)
    imported = sum(
        verdict in ("matched", "differs") or (verdict == "failed" and not reason.startswith(BEFORE))
        for verdict, reason in (verdicts[case.name] for case in cases if case.name in verdicts)
    )
    failing: dict[str, list[str]] = {}
    for case in cases:
        verdict, reason = verdicts.get(case.name, ("not run", ""))
        if verdict != "matched":
            group = f"{verdict}: {sorted(set(case.operators))[0]}"
            if len(set(case.operators)) > 1:
                group = f"{verdict}: {case.name.removeprefix('test_').partition('_')[0]} and others"
            failing.setdefault(group, []).append(f"{case.name}: {reason[:160]}")
    return {
        "imported": imported,
        **{verdict: counts[verdict] for verdict in ("matched", "differs", "refused", "failed")},
        "crashed": counts["crashed"],
        "failures": {
            group: {"count": len(names), "examples": names[:SHOWN]}
            for group, names in sorted(failing.items())
        },
    }


if __name__ == "__main__":
    main()
