from __future__ import annotations

import errno
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from error_fields import raises

from convnd.errors import InputFileError, OutputExistsError, OutputFileError, StopSignal
from convnd.io import atomic
from convnd.io.atomic import atomic_path, check_target, next_free_path, temporary_folder
from convnd.io.provenance import write_sidecar


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def _umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_a_new_file_appears_whole_with_the_umasks_permissions(tmp_path: Path) -> None:
    target = tmp_path / "out.nii.gz"
    with atomic_path(target, overwrite=False) as file:
        assert file.parent == tmp_path
        assert file.name.endswith(".nii.gz")
        assert not target.exists()
        file.write_text("new")
    assert target.read_text() == "new"
    assert names(tmp_path) == ["out.nii.gz"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_replacing_keeps_the_mode(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_text("old")
    target.chmod(0o604)
    with atomic_path(target, overwrite=True) as file:
        file.write_text("new")
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    assert names(tmp_path) == ["out.png"]


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), SystemExit(143)])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_failure_leaves_things_as_they_were(tmp_path: Path, error: Any, old: str | None) -> None:
    target = tmp_path / "out.png"
    if old is not None:
        target.write_text(old)
        target.chmod(0o604)
    with (
        pytest.raises(type(error)),
        atomic_path(target, overwrite=True) as file,
    ):
        file.write_text("half")
        raise error
    if old is None:
        assert names(tmp_path) == []
    else:
        assert target.read_text() == old
        assert stat.S_IMODE(target.stat().st_mode) == 0o604
        assert names(tmp_path) == ["out.png"]


def test_a_link_keeps_pointing_at_the_replaced_file(tmp_path: Path) -> None:
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    real.write_text("old")
    link.symlink_to(real)
    with atomic_path(link, overwrite=True) as file:
        file.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_an_existing_file_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_text("old")
    with raises(OutputExistsError, operation="out.png", got="one that exists"):
        check_target(target, overwrite=False)
    assert check_target(target, overwrite=True) == target


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    with (
        raises(OutputExistsError, operation="out.png", got="one made meanwhile by someone else"),
        atomic_path(target, overwrite=False) as file,
    ):
        file.write_text("ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert names(tmp_path) == ["out.png"]


def test_a_disk_without_hard_links_is_served_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no hard links")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with atomic_path(tmp_path / "out.png", overwrite=False) as file:
        file.write_text("new")
    assert names(tmp_path) == ["out.png"]


def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        raises(OutputFileError, operation="out.png", got="'No space left on device'"),
        atomic_path(tmp_path / "out.png", overwrite=False),
    ):
        pass
    assert names(tmp_path) == []


def test_the_data_are_synced_before_the_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.png"
    synced = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(target.exists()))
    with atomic_path(target, overwrite=False):
        pass
    assert synced == [False, True]  # the file, then its folder


def test_folders_that_take_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, words in (
        (tmp_path / "no" / "out.png", {"operation": "out.png", "got": "which is missing"}),
        (tmp_path / "file" / "out.png", {"operation": "out.png", "got": "which is a file"}),
        (tmp_path, {"got": "a folder"}),
        (Path("/dev/null"), {"operation": "write /dev/null", "got": "a device or pipe"}),
        (tmp_path / ("x" * 300), {"got": "'File name too long'"}),
        ("a\0b.png", {"operation": r"write a\x00b.png", "got": "embedded null"}),
    ):
        with raises(OutputFileError, **words) as caught:
            check_target(path, overwrite=True)
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that even root cannot fill")
def test_a_folder_that_is_not_writable_is_refused() -> None:
    with raises(
        OutputFileError, operation="write /proc/self/out.png", expected="a folder that takes"
    ):
        check_target("/proc/self/out.png", overwrite=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with raises(OutputFileError, got="'Permission denied'"):
            check_target(tmp_path / "out.png", overwrite=False)
    finally:
        tmp_path.chmod(0o700)


def test_the_longest_name_that_fits_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 251 + ".png")
    with atomic_path(target, overwrite=False) as file:
        file.write_text("new")
    assert target.read_text() == "new"


@pytest.mark.parametrize("moment", ["_create_temporary", "_move_into_place", "sync"])
def test_a_signal_at_a_bad_moment_leaves_nothing(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when a file has been made and nobody knows of it yet."""
    true = getattr(atomic, moment)

    def struck(*arguments: Any, **named: Any) -> Any:
        result = true(*arguments, **named)
        signal.raise_signal(signal.SIGTERM)
        return result

    def stop(number: int, _: object) -> None:
        raise StopSignal(number)

    before = signal.signal(signal.SIGTERM, stop)
    monkeypatch.setattr(atomic, moment, struck)
    try:
        with pytest.raises(StopSignal), atomic.atomic_path(tmp_path / "a", overwrite=False) as path:
            path.write_text("all of it")
    finally:
        assert signal.signal(signal.SIGTERM, before) is stop
    left = [entry.name for entry in tmp_path.iterdir()]
    assert left == (["a"] if moment == "_move_into_place" else [])


def test_a_link_to_nothing_is_no_free_name(tmp_path: Path) -> None:
    link, target = tmp_path / "a.png", tmp_path / "elsewhere" / "b.png"
    link.symlink_to(target)
    assert next_free_path(link) == tmp_path / "a-2.png"
    with raises(OutputExistsError, operation="a.png", got="missing"):
        check_target(link, overwrite=False)
    (tmp_path / "elsewhere").mkdir()
    with atomic_path(link, overwrite=True) as file:
        file.write_text("asked for")
    assert target.read_text() == "asked for"


def test_a_sidecar_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a.csv.json").symlink_to(tmp_path / "nothing")
    with raises(OutputExistsError, operation="a.csv.json", got="another file"):
        write_sidecar(tmp_path / "a.csv", {"convnd:x": "y"})
    assert names(tmp_path) == ["a.csv.json"]


def test_errors_name_the_result_and_not_the_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputFileError) as caught, atomic_path("a.png", overwrite=False) as file:
        raise InputFileError(f"write {file}", expected="this", got=file.name, remedy=str(file))
    assert str(caught.value) == "write a.png: expected this, got a.png; a.png"
    assert caught.value.operation == "write a.png"


@pytest.mark.parametrize("parent", [None, Path("/nowhere")])
def test_a_temporary_folder_that_cannot_be_is_an_output_error(
    parent: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    expected = raises(OutputFileError, operation="temporary folder", expected="a place that")
    with expected, temporary_folder(parent):
        pass
