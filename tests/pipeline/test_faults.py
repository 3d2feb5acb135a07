"""Builds that are killed, interrupted or run twice at once end whole, and the next one goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.core.canonical import sha256_file
from edgekit.pipeline.store import Store
from edgekit.pipeline.verify import verify

RECIPE = """
edgekit: 1
model: {architecture: mlp, options: {input_shape: [1, 8, 8], hidden: [32], num_classes: 10}}
data: {name: digits}
preprocess: [{to-float: {scale: 16}}]
stages:
  - train: {epochs: %d, lr: 0.01}
  - export
  - quantize: {mode: ptq, subset_size: 32}
  - compile: {engines: [onnxruntime]}
  - profile: {num_runs: 3, num_images: 20}
"""


def start(folder: Path, name: str, epochs: int, *more: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "mine.yaml").write_text(RECIPE % epochs, encoding="utf-8")
    environment = {
        **os.environ,
        "EDGEKIT_STORE": str(folder / "store"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "edgekit", "build", "-r", "./mine.yaml", "-o", name),
            *("--num-threads", "1", "--json", *more),
        ],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(build: subprocess.Popen[str]) -> list[dict[str, object]]:
    out, err = build.communicate(timeout=300)
    assert build.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def wait_for(build: subprocess.Popen[str], name: str) -> None:
    assert build.stdout is not None
    for line in build.stdout:
        event = json.loads(line)
        if event.get("name") == name and event["event"] in ("start", "progress"):
            return
    pytest.fail(f"the build ended before '{name}': {build.communicate()}")


@pytest.mark.slow
def test_killed_builds_resume_and_end_in_the_same_bundle(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    finish(start(whole, "dist", 20))
    hurt = tmp_path / "hurt"
    generator = random.Random(7)
    for _ in range(4):
        build = start(hurt, "dist", 20)
        time.sleep(generator.uniform(0.5, 6.0))
        os.killpg(build.pid, signal.SIGKILL)
        build.communicate()
    events = finish(start(hurt, "dist", 20))
    assert verify(hurt / "dist" / "host").ok
    manifests = [folder / "dist" / "host" / "manifest.json" for folder in (whole, hurt)]
    assert sha256_file(manifests[0]) == sha256_file(manifests[1])
    assert events[-1]["event"] == "report"
    assert list((hurt / "store" / "tmp").iterdir()) == []


@pytest.mark.slow
def test_interrupt_leaves_soon_and_keeps_finished_stages(tmp_path: Path) -> None:
    build = start(tmp_path, "dist", 10_000)
    wait_for(build, "train")
    time.sleep(1)
    os.killpg(build.pid, signal.SIGINT)
    # Training would go on for hours; leaving takes at most 1.5 s, the rest is the machine's.
    _, err = build.communicate(timeout=30)
    assert build.returncode == 130
    assert "finished stages are kept" in err
    assert "Traceback" not in err
    store = Store(tmp_path / "store")
    assert [entry.parts.stage for entry in store.entries()] == ["architecture"]


@pytest.mark.slow
def test_two_builds_at_once_share_one_store(tmp_path: Path) -> None:
    builds = [start(tmp_path, name, 20) for name in ("one", "two")]
    reports = [finish(build)[-1]["report"] for build in builds]
    statuses = {
        (report["stages"][i]["label"], report["stages"][i]["status"])  # type: ignore[index]
        for report in reports
        for i in range(5)
    }
    # Every stage but the last was run by one of the builds and taken over by the other.
    assert {("train", "ran"), ("train", "cached")} <= statuses
    manifests = {sha256_file(tmp_path / name / "host" / "manifest.json") for name in ("one", "two")}
    assert len(manifests) == 1


@pytest.mark.slow
def test_two_targets_share_the_stages_that_read_no_target(tmp_path: Path) -> None:
    events = finish(start(tmp_path, "dist", 2, "-t", "host", "-t", "android-arm64"))
    starts = [event["name"] for event in events if event["event"] == "start"]
    for label, count in (("export", 1), ("quantize", 1), ("compile", 2)):
        assert starts.count(label) == count
    assert (tmp_path / "dist" / "index.html").is_file()


@pytest.mark.slow
def test_second_build_runs_nothing_and_touches_nothing(tmp_path: Path) -> None:
    finish(start(tmp_path, "dist", 2))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "dist").rglob("*")}
    events = finish(start(tmp_path, "dist", 2))
    report = events[-1]["report"]
    assert {stage["status"] for stage in report["stages"]} == {"cached"}  # type: ignore[index]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "dist").rglob("*")} == before
