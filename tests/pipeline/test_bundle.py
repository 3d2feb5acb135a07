from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from edgekit.core.canonical import sha256_file, sha256_tree
from edgekit.core.errors import InputError
from edgekit.pipeline.bundle import write_bundle, write_index
from edgekit.pipeline.manifest import Manifest, is_portable_name
from edgekit.pipeline.place import replace_in_two_steps
from edgekit.pipeline.verify import verify
from tests.pipeline import sample_bundles, sample_reports
from tests.pipeline.sample_bundles import bundle, facts, lineage


def stamps(output: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of change of everything below a folder."""
    return {
        str(path.relative_to(output)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in output.rglob("*")
    }


def manifest_of(folder: Path) -> Manifest:
    return msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)


def test_a_bundle_holds_payload_headers_example_reports_and_index(tmp_path: Path) -> None:
    paths = bundle(tmp_path)
    assert paths.folder == tmp_path / "dist" / "rpi4"
    assert set(sha256_tree(paths.folder)) == {
        *sample_bundles.FILES,
        "include/ek_model.h",
        "include/model.h",
        "example/main.c",
        "manifest.json",
        "measurements.json",
        "report.html",
        "report.json",
        "report.md",
    }
    assert verify(paths.folder).ok
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == ["rpi4", "rpi4.tar"]


def test_what_was_built_for_the_building_machine_does_not_ship(tmp_path: Path) -> None:
    source = sample_bundles.payload(tmp_path / "payload")
    (source / "host" / "tvm").mkdir(parents=True)
    (source / "host" / "tvm" / "libmodel.so").write_bytes(b"x86")
    paths = write_bundle(sample_reports.emulated(), source, facts(), tmp_path / "dist")
    assert not (paths.folder / "host").exists()


def test_the_archive_unpacks_to_the_folder(tmp_path: Path) -> None:
    paths = bundle(tmp_path)
    with tarfile.open(paths.archive) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert sha256_tree(tmp_path / "out" / "rpi4") == sha256_tree(paths.folder)
    assert os.access(tmp_path / "out" / "rpi4" / sample_bundles.EXECUTABLE, os.X_OK)
    assert os.access(paths.folder / sample_bundles.EXECUTABLE, os.X_OK)


def test_the_archive_is_sorted_and_free_of_times_and_owners(tmp_path: Path) -> None:
    with tarfile.open(bundle(tmp_path).archive) as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert {oct(member.mode) for member in members} == {"0o644", "0o755"}


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    one, other = bundle(tmp_path, "one"), bundle(tmp_path, "other")
    assert one.manifest_digest == other.manifest_digest
    assert sha256_file(one.archive) == sha256_file(other.archive)


def test_the_manifest_does_not_depend_on_when_and_how_fast_it_was_built(tmp_path: Path) -> None:
    later = msgspec.structs.replace(
        sample_reports.emulated(), created="2026-01-01T00:00:00+00:00", wall_s=1.0
    )
    one, other = bundle(tmp_path, "one"), bundle(tmp_path, "other", report=later)
    assert one.manifest_digest == other.manifest_digest


def test_nothing_in_a_bundle_names_the_folders_of_the_building_machine(tmp_path: Path) -> None:
    folder = bundle(tmp_path).folder
    assert manifest_of(folder).recipe["model"] == {"onnx": "net.onnx"}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(tmp_path).encode() not in content


def test_writing_an_equal_bundle_again_touches_nothing(tmp_path: Path) -> None:
    bundle(tmp_path)
    before = stamps(tmp_path / "dist")
    report = sample_reports.emulated()
    cached = tuple(
        msgspec.structs.replace(stage, status="cached", duration_s=None) for stage in report.stages
    )
    report = msgspec.structs.replace(report, stages=cached, created="later", wall_s=0.2)
    again = bundle(tmp_path, report=report)
    assert not again.changed
    assert stamps(tmp_path / "dist") == before
    assert again.report.wall_s == 0.2


@pytest.mark.parametrize("name", ["rpi4.tar", "rpi4/report.md", "rpi4/golden/input.bin"])
def test_what_was_lost_from_an_equal_bundle_comes_back(tmp_path: Path, name: str) -> None:
    first = bundle(tmp_path)
    digest = sha256_file(first.archive)
    (tmp_path / "dist" / name).unlink()
    assert bundle(tmp_path).changed
    assert verify(first.folder).ok
    assert sha256_file(first.archive) == digest


def test_a_new_bundle_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    bundle(tmp_path)
    source = sample_bundles.payload(tmp_path / "dist-payload")
    (source / "engines" / "tvm" / "libmodel.so").unlink()
    (source / "model.onnx").write_bytes(b"another model")
    paths = write_bundle(sample_reports.emulated(), source, facts(), tmp_path / "dist")
    assert verify(paths.folder).ok
    assert verify(paths.archive).manifest_digest == paths.manifest_digest
    assert not (paths.folder / "engines/tvm/libmodel.so").exists()
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == ["rpi4", "rpi4.tar"]


def test_an_equal_key_with_another_payload_is_called_not_reproducible(tmp_path: Path) -> None:
    stages = lineage("train", epochs=6), lineage("export"), lineage("compile")
    bundle(tmp_path, about=facts(*stages))
    others = stages[0], lineage("export", "2"), lineage("compile", "3")
    paths = bundle(tmp_path, about=facts(*others))
    assert len(paths.warnings) == 1
    assert paths.warnings[0].startswith("stage 'export' is not reproducible: the same key")
    assert paths.warnings[0] in paths.report.warnings
    assert "stage 'export' is not reproducible" in (paths.folder / "report.md").read_text()


def test_another_key_is_no_matter_of_reproducibility(tmp_path: Path) -> None:
    bundle(tmp_path, about=facts(lineage("train", epochs=6)))
    paths = bundle(tmp_path, about=facts(lineage("train", "2", epochs=7)))
    assert paths.warnings == ()


def test_the_returned_report_names_the_place(tmp_path: Path) -> None:
    assert bundle(tmp_path).report.output == str(tmp_path / "dist" / "rpi4")


@pytest.mark.parametrize("place", ["rpi4", "rpi4.tar"])
def test_a_file_in_the_place_is_never_replaced(tmp_path: Path, place: str) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / place).write_text("precious")
    with pytest.raises(InputError, match=f"{place}: found .*Move it away"):
        bundle(tmp_path)
    assert (tmp_path / "dist" / place).read_text() == "precious"


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    place = tmp_path / "dist" / "rpi4"
    place.mkdir(parents=True)
    (place / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="a folder that is not an edgekit bundle"):
        bundle(tmp_path)
    assert (place / "thesis.tex").read_text() == "precious"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "dist" / "rpi4").mkdir(parents=True)
    assert verify(bundle(tmp_path).folder).ok


def test_a_bundle_with_somebody_elses_file_in_it_is_never_replaced(tmp_path: Path) -> None:
    folder = bundle(tmp_path).folder
    (folder / "golden" / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match=r"golden/notes\.txt, which edgekit did not write"):
        bundle(tmp_path, report=sample_reports.emulated(), about=facts(metric="f1"))
    assert (folder / "golden" / "notes.txt").read_text() == "precious"


def test_a_link_in_the_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "dist" / "rpi4").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a file or link"):
        bundle(tmp_path)


def test_an_output_that_cannot_be_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Choose a folder you may write to"):
        write_bundle(
            sample_reports.emulated(),
            sample_bundles.payload(tmp_path / "payload"),
            facts(),
            tmp_path / "file" / "dist",
        )


@pytest.mark.parametrize("target", ["../rpi4", "a/b", ".hidden", "", "..", "a\\b", "c:x"])
def test_a_target_that_could_leave_the_output_is_refused(tmp_path: Path, target: str) -> None:
    report = msgspec.structs.replace(sample_reports.emulated(), target=target)
    with pytest.raises(InputError, match="cannot name a folder"):
        bundle(tmp_path, report=report)


@pytest.mark.parametrize(
    ("name", "is_portable"),
    [
        ("engines/tvm/model.h", True),
        ("größe.bin", True),
        ("", False),
        ("/etc/passwd", False),
        ("a/../b", False),
        ("./a", False),
        ("a//b", False),
        ("a/", False),
        ("a\\b", False),
        ("c:/x", False),
        ("a\nb", False),
        ("\udcff", False),
    ],
)
def test_portable_names_stay_inside_their_folder(name: str, is_portable: bool) -> None:
    assert is_portable_name(name) is is_portable


def test_a_name_too_long_to_pack_is_explained(tmp_path: Path) -> None:
    source = sample_bundles.payload(tmp_path / "payload")
    (source / ("x" * 200)).write_bytes(b"")
    with pytest.raises(Exception, match="Give the file a shorter name"):
        write_bundle(sample_reports.emulated(), source, facts(), tmp_path / "dist")


def test_leftovers_of_a_killed_build_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "dist" / ".rpi4.new-abc"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"half")
    (tmp_path / "dist" / ".rpi5.new-abc").mkdir()
    bundle(tmp_path)
    names = sorted(path.name for path in (tmp_path / "dist").iterdir())
    assert names == [".rpi5.new-abc", "rpi4", "rpi4.tar"]


def test_builds_at_once_leave_one_whole_bundle(tmp_path: Path) -> None:
    source = sample_bundles.payload(tmp_path / "payload")

    def write(number: int) -> None:
        about = facts(tools={"torch": str(number)})
        write_bundle(sample_reports.emulated(), source, about, tmp_path / "dist")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(6)))
    folder, archive = (verify(tmp_path / "dist" / name) for name in ("rpi4", "rpi4.tar"))
    assert folder.ok
    assert archive.manifest_digest == folder.manifest_digest


def test_folders_are_replaced_where_names_cannot_be_exchanged(tmp_path: Path) -> None:
    for name in ("new", "place"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replace_in_two_steps(tmp_path / "new", tmp_path / "place")
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert (tmp_path / "place" / "file").read_text() == "new"


WRITE_ON_AND_ON = """
import sys
from pathlib import Path
from edgekit.pipeline.bundle import write_bundle
from tests.pipeline import sample_bundles, sample_reports
folder = Path(sys.argv[1])
source = sample_bundles.payload(folder / "payload")
number = 0
while True:
    about = sample_bundles.facts(tools={"torch": str(number)})
    write_bundle(sample_reports.emulated(), source, about, folder / "dist")
    if number == 0:
        print("ready", flush=True)
    number += 1
"""


def test_a_build_killed_at_any_moment_leaves_a_whole_bundle(tmp_path: Path) -> None:
    chance = random.Random(0)
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITE_ON_AND_ON, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.05))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert verify(tmp_path / "dist" / "rpi4").ok
        assert verify(tmp_path / "dist" / "rpi4.tar").ok


def test_a_reader_always_meets_a_bundle(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITE_ON_AND_ON, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    child.stdout.readline()
    seen = set()
    deadline = time.monotonic() + 60
    try:
        while len(seen) < 10 and time.monotonic() < deadline:
            status = (tmp_path / "dist" / "rpi4" / "manifest.json").stat()
            seen.add((status.st_ino, status.st_mtime_ns))
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert len(seen) == 10


FILE_SIZE_LIMIT = """
import resource, signal, sys
from pathlib import Path
from edgekit.core.errors import EdgekitError
from edgekit.pipeline.bundle import write_bundle
from tests.pipeline import sample_bundles, sample_reports
folder = Path(sys.argv[1])
source = folder / "dist-payload"
about = sample_bundles.facts(tools={})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_bundle(sample_reports.emulated(), source, about, folder / "dist")
except EdgekitError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_leaves_the_old_bundle(tmp_path: Path) -> None:
    first = bundle(tmp_path)
    before = stamps(tmp_path / "dist")
    done = subprocess.run(
        [sys.executable, "-c", FILE_SIZE_LIMIT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert "found the file size limit" in done.stdout
    assert stamps(tmp_path / "dist") == before
    assert verify(first.folder).ok


def test_several_bundles_get_an_index(tmp_path: Path) -> None:
    samples = sample_reports.emulated(), sample_reports.measured()
    reports = [bundle(tmp_path, report=sample).report for sample in samples]
    path = write_index(reports, tmp_path / "dist")
    assert path == tmp_path / "dist" / "index.html"
    before = path.stat().st_mtime_ns
    write_index(reports, tmp_path / "dist")
    assert path.stat().st_mtime_ns == before


def test_one_bundle_gets_no_index(tmp_path: Path) -> None:
    reports = [bundle(tmp_path).report, sample_reports.hostile()]
    reports[1] = msgspec.structs.replace(reports[1], output=None)
    assert write_index(reports, tmp_path / "dist") is None


def test_somebody_elses_index_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("precious")
    with pytest.raises(InputError, match="a page that edgekit did not write"):
        write_index([sample_reports.emulated(), sample_reports.measured()], tmp_path)
    assert (tmp_path / "index.html").read_text() == "precious"


def test_bundling_and_reporting_load_no_framework() -> None:
    code = (
        "import sys; import edgekit.pipeline.bundle, edgekit.pipeline.compare; "
        "import edgekit.pipeline.report.terminal, edgekit.pipeline.report.comparison; "
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"numpy", "torch", "onnx", "onnxruntime", "tvm", "sklearn"}
