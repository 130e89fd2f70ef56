"""The package is built with and without a C compiler."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = Path("convnd/backbones/kernels")


@pytest.mark.parametrize(
    "compiler", [pytest.param("", marks=pytest.mark.slow), "false", "no-such-compiler"]
)
def test_the_compiled_module_is_optional(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler the wheel has no module; one of an earlier build does not stay."""
    if not compiler and not shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]):
        pytest.skip("no compiler here")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copytree(ROOT / FOLDER / "csrc", tmp_path / FOLDER / "csrc")
    stale = tmp_path / FOLDER / "_native.abi3.so"
    stale.touch()
    monkeypatch.chdir(tmp_path)
    if compiler:
        monkeypatch.setenv("CC", compiler)
    hook: Any = module.NativeKernels(str(tmp_path), {}, None, None, str(tmp_path / "dist"), "wheel")
    build_data: dict[str, Any] = {"artifacts": [], "pure_python": True, "infer_tag": False}
    hook.initialize("standard", build_data)
    compiled = [path for path in (tmp_path / FOLDER).iterdir() if path.is_file()]
    assert build_data["pure_python"] == bool(compiler)
    assert [f"/{path.relative_to(tmp_path).as_posix()}" for path in compiled] == build_data[
        "artifacts"
    ]
    assert bool(compiled) != bool(compiler)
    assert build_data.get("tag", "").startswith("cp311-abi3-") == bool(compiled)
    assert all(path.stat().st_size for path in compiled)
