from __future__ import annotations

import os
from pathlib import Path

from edgekit.devices.work_folder import new_work_folder, remove_work_folder


def test_folders_in_use_stay_and_abandoned_ones_go(tmp_path: Path) -> None:
    used, used_lock = new_work_folder(tmp_path)
    abandoned, abandoned_lock = new_work_folder(tmp_path)
    os.close(abandoned_lock)  # what the kernel does when the owner dies
    fresh, fresh_lock = new_work_folder(tmp_path)
    assert used.is_dir()
    assert fresh.is_dir()
    assert not abandoned.exists()
    remove_work_folder(used, used_lock)
    remove_work_folder(fresh, fresh_lock)
    assert list((tmp_path / "devices" / "work").iterdir()) == []
