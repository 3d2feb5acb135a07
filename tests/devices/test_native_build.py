from __future__ import annotations

import importlib.metadata
import threading
from pathlib import Path

import pytest

from edgekit.core.errors import DeviceError, InputError
from edgekit.core.progress import NullProgress
from edgekit.core.target import Target
from edgekit.devices import native_build
from edgekit.devices.doctor import examine
from edgekit.devices.native_build import build_program, host_triple, program_digest
from edgekit.devices.session import describe_device, open_session


@pytest.fixture
def _no_zig(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "ziglang":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_a_program_is_built_once(cache_dir: Path) -> None:
    first = build_program("device", host_triple(), cache_dir)
    before = first.stat().st_mtime_ns
    assert build_program("device", host_triple(), cache_dir) == first
    assert first.stat().st_mtime_ns == before


def test_builds_at_once_end_in_one_whole_program(tmp_path: Path) -> None:
    found: list[Path] = []
    builders = [
        threading.Thread(
            target=lambda: found.append(build_program("counter", host_triple(), tmp_path))
        )
        for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(set(found)) == 1
    assert found[0].read_bytes().startswith(b"\x7fELF")
    assert [path.name for path in found[0].parent.iterdir()] == ["counter"]


def test_digests_tell_programs_and_triples_apart() -> None:
    digests = {
        program_digest(program, triple)
        for program in ("device", "counter")
        for triple in ("x86_64-linux-gnu", "aarch64-linux-gnu")
    }
    assert len(digests) == 4


def test_an_unknown_triple_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found triple riscv64-linux-gnu"):
        build_program("device", "riscv64-linux-gnu", tmp_path)


def test_what_the_compiler_says_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.c").write_text("int main(void) { return nonsense; }")
    monkeypatch.setattr(native_build, "SOURCES", tmp_path)
    monkeypatch.setitem(native_build._FILES, "device", ("broken.c",))
    with pytest.raises(DeviceError, match="nonsense"):
        build_program("device", host_triple(), tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("device*/device")) == []


@pytest.mark.usefixtures("_no_zig")
def test_a_missing_zig_comes_with_the_command_that_installs_it(
    tmp_path: Path, host: Target
) -> None:
    with pytest.raises(InputError, match="pip install ziglang"):
        build_program("device", host_triple(), tmp_path)
    remedies = {
        check.name: check.remedy
        for check in examine("local:", host, tmp_path, NullProgress())
        if not check.ok
    }
    assert remedies["zig"] == "pip install ziglang"


@pytest.mark.usefixtures("_no_zig")
def test_a_plan_and_a_session_need_no_zig(tmp_path: Path, host: Target) -> None:
    describe_device("local:", host, tmp_path)
    with open_session("local:", host, tmp_path) as session:
        assert session.probe().kind == "local"
