"""Compile the optional convolutions in C when the package is built."""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension

_MODULE = "convnd.backbones.kernels._native"


class NativeKernels(BuildHookInterface[Any]):
    """Compile the module into the source tree, and put it in the wheel.

    Without a working compiler the package is built without the module, and runs without it.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See the base class.

        Args:
            version: kind of wheel, such as "editable".
            build_data: what hatchling is told about the wheel.
        """
        del version
        folder = Path(self.root, *_MODULE.split(".")[:-1])
        sources = sorted(folder.glob("csrc/*.c"))
        extension = Extension(
            _MODULE,
            [str(source.relative_to(self.root)) for source in sources],
            extra_compile_args=["-O3", "-fvisibility=hidden"],
            py_limited_api=True,
            optional=True,
        )
        distribution = Distribution({"name": "convnd", "ext_modules": [extension]})
        command: Any = distribution.get_command_obj("build_ext")
        with tempfile.TemporaryDirectory() as temporary:
            command.build_lib, command.build_temp = f"{temporary}/lib", f"{temporary}/objects"
            command.ensure_finalized()
            command.run()
            compiled = Path(command.get_ext_fullpath(_MODULE))
            target = folder / compiled.name
            target.unlink(missing_ok=True)  # of an earlier build
            if not compiled.exists():
                return
            shutil.copy(compiled, target)
        build_data["artifacts"].append(f"/{target.relative_to(self.root).as_posix()}")
        build_data["pure_python"] = False
        if "abi3" in target.name:  # the stable interface of Python 3.11 and later
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"cp311-abi3-{platform}"
        else:
            build_data["infer_tag"] = True
