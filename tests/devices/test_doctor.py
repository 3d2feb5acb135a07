from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.core.progress import NullProgress
from edgekit.core.target import Target, load_target
from edgekit.devices import cpu
from edgekit.devices.doctor import examine


def test_this_computer_is_in_order_apart_from_its_clock(host: Target, cache_dir: Path) -> None:
    checks = {check.name: check for check in examine("local:", host, cache_dir, NullProgress())}
    assert list(checks) == ["processor", "zig", "device executable", "onnxruntime", "clock policy"]
    failed = {name: check.found for name, check in checks.items() if not check.ok}
    assert set(failed) <= {"clock policy"}  # the governor is this computer's business
    assert checks["device executable"].found.startswith("device executable, ABI 1")


def test_a_target_of_another_kind_is_a_failed_check(cache_dir: Path) -> None:
    checks = examine("local:", load_target("rpi4"), cache_dir, NullProgress())
    processor = checks[0]
    assert not processor.ok
    assert "aarch64" in f"{processor.found} {processor.remedy}" or "x86_64" in processor.found


@pytest.mark.parametrize(
    ("governor", "ok"), [("performance", True), ("powersave", False), (None, True)]
)
def test_a_changing_clock_is_a_failed_check(
    host: Target,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    governor: str | None,
    ok: bool,
) -> None:
    monkeypatch.setattr(cpu, "governor", lambda: governor)
    checks = {check.name: check for check in examine("local:", host, cache_dir, NullProgress())}
    assert checks["clock policy"].ok == ok
    assert ok or "performance" in str(checks["clock policy"].remedy)


def test_an_unknown_runner_is_refused(host: Target, cache_dir: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'emulated'"):
        examine("emulate:rpi4", host, cache_dir, NullProgress())
