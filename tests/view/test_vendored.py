"""Files of other projects that the page carries are those that their release holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import convnd_tasks.view

VENDORED = Path(convnd_tasks.view.__file__).parent / "static" / "vendor"
LIST = json.loads((VENDORED / "vendored.json").read_text())


def test_every_vendored_file_has_its_sha256_and_a_licence() -> None:
    listed = {name: sha256 for one in LIST.values() for name, sha256 in one["files"].items()}
    present = {path.name for path in VENDORED.iterdir()} - {"vendored.json"}
    assert present == set(listed)
    for name, sha256 in listed.items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == sha256, name
    for name, one in LIST.items():
        assert one["licence"] == "MIT"
        assert "MIT License" in (VENDORED / f"{name}.LICENSE.txt").read_text()
