"""A folder for the server of `convnd view`, and workers that compute nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["SECRET", "NoWorkers", "make_folder"]

SECRET = b"nobody may read this"


def make_folder(tmp_path: Path) -> Path:
    """Make a folder with a picture, beside one that the page must not see."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.png").write_bytes(SECRET)
    root = tmp_path / "results"
    root.mkdir()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(root / "red.png")
    (root / "link.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    (root / ".hidden.png").write_bytes(SECRET)
    return root


class NoWorkers:
    """Stands for the processes that compute: these tests are about the server alone."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[Any] = []

    def ask(self, request: Any) -> dict[str, Any]:
        self.asked.append(request)
        return {"image": "", "record": None}

    def run(self, request: Any, on_event: Any, on_start: Any) -> dict[str, Any]:
        self.asked.append(request)
        return {"done": True}

    def close(self) -> None: ...
