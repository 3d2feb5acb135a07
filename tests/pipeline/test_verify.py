from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.canonical import sha256_bytes, sha256_tree
from edgekit.core.errors import InputError
from edgekit.pipeline.verify import Verification, open_bundle, verify
from tests.pipeline import sample_reports
from tests.pipeline.sample_bundles import bundle, facts


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a whole bundle's folder, its archive beside it; tests undo what they do to it."""
    return bundle(tmp_path_factory.mktemp("bundles")).folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of a whole bundle's folder to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "rpi4"))


def found(result: Verification) -> set[tuple[str, str]]:
    return {(problem.kind, problem.path) for problem in result.problems}


def names(folder: Path) -> list[str]:
    return sorted(sha256_tree(folder))


def test_a_whole_bundle_has_no_problems(whole: Path) -> None:
    folder, archive = verify(whole), verify(whole.with_suffix(".tar"))
    assert folder == archive
    assert folder.ok
    assert folder.problems == ()
    assert folder.manifest_digest == sha256_bytes((whole / "manifest.json").read_bytes())


@given(data=st.data(), mask=st.integers(1, 255))
def test_any_changed_byte_of_any_file_is_found(whole: Path, data: st.DataObject, mask: int) -> None:
    path = whole / data.draw(st.sampled_from(names(whole)))
    content = bytearray(path.read_bytes())
    before = bytes(content)
    content[data.draw(st.integers(0, len(content) - 1))] ^= mask
    path.write_bytes(content)
    try:
        assert not verify(whole).ok
    finally:
        path.write_bytes(before)
    assert verify(whole).ok


@given(data=st.data(), mask=st.integers(1, 255))
def test_any_changed_byte_of_the_archive_is_found(
    whole: Path, data: st.DataObject, mask: int
) -> None:
    content = bytearray(whole.with_suffix(".tar").read_bytes())
    # Half of the draws fall on headers, which are a small part of all bytes.
    blocks = [block * 512 for block in range(len(content) // 512)]
    headers = [at for at in blocks if content[at + 257 : at + 262] == b"ustar"]
    at = data.draw(
        st.integers(0, len(content) - 1)
        | st.builds(int.__add__, st.sampled_from(headers), st.integers(0, 511))
    )
    content[at] ^= mask
    spoiled = whole.parent / "spoiled.tar"
    spoiled.write_bytes(content)
    assert not verify(spoiled).ok


@given(data=st.data())
def test_an_archive_cut_at_any_place_is_found(whole: Path, data: st.DataObject) -> None:
    content = whole.with_suffix(".tar").read_bytes()
    spoiled = whole.parent / "spoiled.tar"
    spoiled.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert not verify(spoiled).ok


@pytest.mark.parametrize("more", [b"\0", b"x", bytes(10_240)])
def test_an_archive_with_something_behind_it_is_found(whole: Path, more: bytes) -> None:
    spoiled = whole.parent / "spoiled.tar"
    spoiled.write_bytes(whole.with_suffix(".tar").read_bytes() + more)
    assert ("damaged", "spoiled.tar") in found(verify(spoiled))


@given(data=st.data())
def test_any_missing_file_is_named(whole: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names(whole)))
    content, mode = (whole / name).read_bytes(), (whole / name).stat().st_mode
    (whole / name).unlink()
    try:
        assert ("missing", name) in found(verify(whole))
    finally:
        (whole / name).write_bytes(content)
        (whole / name).chmod(mode)


@given(
    name=st.from_regex(r"\A(golden/|engines/tvm/|)[a-z]{1,8}(/[a-z.]{1,4}z)?\Z"),
    content=st.binary(max_size=4),
)
def test_any_added_file_is_named(whole: Path, name: str, content: bytes) -> None:
    path = whole / name
    parents = [parent for parent in path.parents if not parent.exists()]
    if path.exists() or any(parent.is_file() for parent in path.parents):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        assert found(verify(whole)) == {("added", name)}
    finally:
        path.unlink()
        for parent in parents:
            parent.rmdir()


def test_a_changed_byte_of_the_payload_is_called_changed(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"onnx modeL")
    assert found(verify(folder)) == {("changed", "model.onnx")}


def test_an_empty_folder_more_is_found(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert found(verify(folder)) == {("added", "empty")}


def test_a_folder_too_deep_to_be_a_bundle_is_found(folder: Path) -> None:
    deep = folder.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"")
    assert [problem.kind for problem in verify(folder).problems] == ["added"]


def test_links_are_never_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((folder / "model.onnx").read_bytes())
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(secret)
    (folder / "more").symlink_to(tmp_path)
    assert found(verify(folder)) == {
        ("damaged", "model.onnx"),
        ("missing", "model.onnx"),
        ("damaged", "more"),
    }


def test_special_files_are_never_read(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    assert ("damaged", "model.onnx") in found(verify(folder))


def test_one_more_space_in_the_measurements_is_found(folder: Path) -> None:
    path = folder / "measurements.json"
    path.write_bytes(path.read_bytes().replace(b": ", b":  ", 1))
    assert found(verify(folder)) == {("changed", "measurements.json")}


def test_measurements_of_another_bundle_do_not_fit(folder: Path, tmp_path: Path) -> None:
    other = bundle(tmp_path, about=facts(metric="f1")).folder
    shutil.copy(other / "measurements.json", folder)
    assert found(verify(folder)) == {("changed", "manifest.json")}


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[" * 100_000, b'{"schema": 1, "files": "\xff"}', b"null", b'"\\ud800"'],
)
@pytest.mark.parametrize("name", ["manifest.json", "measurements.json"])
def test_index_files_of_any_content_are_answered(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert ("damaged", name) in found(verify(folder))


def test_an_index_file_too_large_to_read_is_not_read(folder: Path) -> None:
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no room on the disk
    assert ("damaged", "manifest.json") in found(verify(folder))


def test_a_manifest_cannot_make_verify_read_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"model.onnx"', b'"../secret"', 1))
    problems = {(problem.path, problem.reason) for problem in verify(folder).problems}
    assert ("manifest.json", "'../secret' is no path it may list") in problems


def test_a_bundle_of_a_later_version_is_named_as_such(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"schema": 1', b'"schema": 2', 1))
    reasons = [problem.reason for problem in verify(folder).problems]
    assert "schema 2, this edgekit reads 1: build the bundle again" in reasons


def test_a_folder_that_is_no_bundle_lacks_its_index(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert found(verify(tmp_path)) == {
        ("missing", "manifest.json"),
        ("missing", "measurements.json"),
    }


def test_a_path_with_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing there, expected a bundle's folder"):
        verify(tmp_path / "nothing")


def member(name: str, content: bytes = b"evil", **changes: object) -> Callable[[Path], None]:
    """Return a writer of an archive with one member that `tarfile` itself would unpack."""

    def write(path: Path) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for key, value in changes.items():
            setattr(info, key, value)
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            archive.addfile(info, io.BytesIO(content))

    return write


def claims_much(path: Path) -> None:
    """Write a header that promises 8 GiB and nothing behind it."""
    info = tarfile.TarInfo("rpi4/model.onnx")
    info.size = 8**11 - 1
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT))


def two_bundles(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("rpi4/a", "rpi5/b"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())


def twice(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("rpi4/a"), io.BytesIO())


HOSTILE = {
    "escapes": member("rpi4/../../evil"),
    "escapes at once": member("../evil"),
    "is absolute": member("/tmp/evil"),
    "no folder": member("evil"),
    "symbolic link": member("rpi4/evil", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": member("rpi4/evil", b"", type=tarfile.LNKTYPE, linkname="rpi4/model.onnx"),
    "device": member("rpi4/evil", b"", type=tarfile.CHRTYPE),
    "folder": member("rpi4/evil", b"", type=tarfile.DIRTYPE),
    "set user id": member("rpi4/evil", mode=0o4755),
    "has a time": member("rpi4/evil", mtime=1),
    "has an owner": member("rpi4/evil", uname="root"),
    "negative size": lambda path: path.write_bytes(
        tarfile.TarInfo("rpi4/a").tobuf(tarfile.USTAR_FORMAT).replace(b"00000000000", b"\x80" * 11)
    ),
    "claims 8 GiB": claims_much,
    "two bundles": two_bundles,
    "twice the same": twice,
    "not a tar": lambda path: path.write_bytes(b"PK\x03\x04" * 1000),
    "empty": lambda path: path.write_bytes(b""),
    "compressed": lambda path: path.write_bytes(gzip.compress(bytes(10_240))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_unpacked(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "rpi4.tar"
    HOSTILE[kind](path)
    assert {problem.kind for problem in verify(path).problems} == {"damaged"}
    with pytest.raises(InputError, match="is not a whole bundle"), open_bundle(path):
        pass
    assert [item.name for item in tmp_path.rglob("*")] == ["in", "rpi4.tar"]


def test_an_open_archive_is_a_folder_for_as_long_as_it_is_open(whole: Path) -> None:
    with open_bundle(whole.with_suffix(".tar")) as opened:
        assert sha256_tree(opened.folder) == sha256_tree(whole)
        assert os.access(opened.folder / "engines/tvm/model", os.X_OK)
        place = opened.folder
    assert not place.exists()


def test_an_open_bundle_tells_what_it_is(whole: Path) -> None:
    with open_bundle(whole) as opened:
        assert opened.folder == whole
        assert opened.manifest.labels == tuple("0123456789")
        assert opened.manifest.inputs[0].shape == (None, 1, 8, 8)
        assert opened.measurements.selected == "onnxruntime"
        assert opened.report.engines == sample_reports.emulated().engines
        assert opened.manifest_digest == verify(whole).manifest_digest


def test_a_changed_bundle_does_not_open(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"another one")
    expected = pytest.raises(InputError, match=r"found model\.onnx changed.*edgekit verify")
    with expected, open_bundle(folder):
        pass
