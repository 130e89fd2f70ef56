"""Folders of DICOM files on the page: stored whole or not at all, within limits."""

from __future__ import annotations

import io as streams
import json
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest
from convnd_tasks.view import series as module
from convnd_tasks.view.folder import INPUTS, ViewFolder
from convnd_tasks.view.guard import RequestError
from convnd_tasks.view.run import serve
from convnd_tasks.view.series import copy_series, receive_series
from convnd_tasks.view.series_split import split_series
from dicom_files import series
from error_fields import raises
from page_client import Client

from convnd import io
from convnd.errors import UsageError


def message(*files: bytes) -> bytes:
    """What a page sends: the lengths of the files, and the files."""
    return json.dumps([len(file) for file in files]).encode() + b"\n" + b"".join(files)


def receive(folder: Path, body: bytes, name: str = "Study") -> Path:
    return receive_series(ViewFolder(folder), name, streams.BytesIO(body), len(body))


def test_a_folder_is_stored_with_a_name_of_its_own(folder: Path) -> None:
    paths = [receive(folder, message(b"one", b"", b"three"), name) for name in ("a/../x", "x")]
    assert [path.relative_to(folder).as_posix() for path in paths] == ["inputs/x", "inputs/x-2"]
    assert [path.read_bytes() for path in sorted(paths[0].iterdir())] == [b"one", b"", b"three"]
    view = ViewFolder(folder)
    assert view.find("inputs/x", series=True) == paths[0]
    (paths[0] / "link").symlink_to("/etc/hostname")
    for name, is_series in (("inputs/x", True), ("inputs/x-2", False), ("inputs", True)):
        with pytest.raises(RequestError):
            view.find(name, series=is_series)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[3]",
        b"{}\nabc",
        b"[3, 2]\nabc",
        b"[2]\nabc",
        b"[-1, 4]\nabc",
        b"[true, 2]\nabc",
        b"[3.0]\nabc",
        b"[" * 5000,
        b"[]\n",
        message(*[b""] * 4097),
    ],
)
def test_a_folder_that_is_none_leaves_nothing_behind(folder: Path, body: bytes) -> None:
    with pytest.raises(RequestError):
        receive(folder, body)
    assert not list(folder.rglob("*.dcm"))


def test_a_folder_that_ends_early_leaves_nothing_behind(folder: Path) -> None:
    whole = message(b"one", b"two")
    with pytest.raises(RequestError, match="early"):
        receive_series(ViewFolder(folder), "x", streams.BytesIO(whole[:-2]), len(whole))
    assert list((folder / INPUTS).iterdir()) == []


def test_a_folder_may_not_be_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_UPLOAD", 5)
    with pytest.raises(RequestError, match="MiB"):
        receive(folder, message(b"one", b"two"))


def test_a_folder_of_the_command_line_is_copied(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with raises(UsageError, got="another folder"):
        copy_series(ViewFolder(folder), tmp_path / "empty")
    source = series(tmp_path / "study", [0.0, 2.0, 4.0])
    bare = source / "0001"  # without preamble and meta information, as old devices write
    bare.write_bytes(bare.read_bytes()[132:])
    (source / "notes.txt").write_text("no slice")
    (source / "link").symlink_to("/etc/hostname")
    copy = copy_series(ViewFolder(folder), source)
    assert len(list(copy.iterdir())) == 3
    (source / "link").unlink()
    assert io.read(copy).shape == io.read(source).shape


def test_a_folder_of_several_series_becomes_a_folder_for_each(folder: Path) -> None:
    study = folder / "inputs" / "Schädel"
    for number, (text, count) in enumerate((("T2 / axial", 4), ("Lokalisator", 1), ("", 2))):
        fields: dict[str, Any] = {
            "SeriesNumber": 9 - number,
            "SeriesDescription": text,
            "Modality": "MR",
        }
        part = series(study / str(number), [2.0 * k for k in range(count)], **fields)
        for file in part.iterdir():
            dataset = pydicom.dcmread(file)
            dataset.SeriesInstanceUID = f"1.2.{number}"
            dataset.save_as(study / f"{number}-{file.name}")
        shutil.rmtree(part)
    found = split_series(study)
    assert [(Path(one["folder"]).name, one["text"], one["slices"]) for one in found] == [
        ("Schädel - series 7", "series 7", 2),
        ("Schädel - Lokalisator", "Lokalisator", 1),
        ("Schädel - T2 _ axial", "T2 / axial", 4),
    ]
    assert {one["modality"] for one in found} == {"MR"}
    for one in found:
        assert len(list(Path(one["folder"]).iterdir())) == one["slices"]
        assert len(split_series(Path(one["folder"]))) == 1  # stays as it is
    assert io.read(found[2]["folder"]).values.shape[-1] in (4, 20, 24)


@pytest.mark.slow
def test_files_that_are_no_scan_are_removed_again(folder: Path, tmp_path: Path) -> None:
    files = [path.read_bytes() for path in sorted(series(tmp_path / "s", [0.0, 2.0]).iterdir())]
    with serve(ViewFolder(folder), [], warm=False) as (server, _):
        client = Client(server.guard.address)

        def send(body: bytes) -> Any:
            kind = "application/octet-stream"
            return client.send("POST", "api/upload-series?name=s", body, Content_Type=kind)

        refused, taken = send(message(b"no", b"scan")), send(message(*files))
    assert refused.status == 422
    answer = json.loads(taken.body)
    assert (answer["name"], answer["kind"], len(answer["series"])) == ("inputs/s", "volumes", 1)
    assert [path.name for path in (folder / INPUTS).iterdir()] == ["s"]
