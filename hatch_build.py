"""Compiles `automq.core._native` while the package is built; without a compiler the package is pure Python.

A wheel gets the extension module, and the tags of this platform; an editable install gets it beside its source.
AUTOMQ_PURE=1 builds without it, AUTOMQ_SANITIZE=1 with the compiler's sanitizers, for `make fuzz SANITIZE=1`.
"""

import os
import pathlib
import shutil
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CORE = pathlib.Path("broker/automq/core")
NAME = "automq.core._native"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g", "-O1"]


class CoreBuildHook(BuildHookInterface[Any]):
    """What hatchling calls before it packs anything."""

    _scratch: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        root = pathlib.Path(self.root)
        is_editable = version == "editable"
        if is_editable:
            for old in (root / CORE).glob("_native.*"):
                if old.suffix in (".so", ".pyd"):
                    old.unlink()
        # Kept until the wheel is packed.
        self._scratch = tempfile.TemporaryDirectory()
        built = compile_core(root, pathlib.Path(self._scratch.name))
        if built is None:
            return
        if is_editable:
            shutil.copyfile(built, root / CORE / built.name)
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(built)] = f"automq/core/{built.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()


def compile_core(root: pathlib.Path, scratch: pathlib.Path) -> pathlib.Path | None:
    """The extension module; None, said on stderr, when it cannot be had here."""
    if _is_set("AUTOMQ_PURE"):
        _say("AUTOMQ_PURE is set")
        return None
    try:
        return _compiled(root, scratch, SANITIZERS if _is_set("AUTOMQ_SANITIZE") else ["-O3"])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever fails, an installation does not; setuptools raises SystemExit
        _say(f"it could not be compiled ({error or type(error).__name__})")
        return None


def _is_set(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")  # noqa: TID251 - a build has no settings


def _say(reason: str) -> None:
    print(f"automq.core is pure Python: {reason}", file=sys.stderr)  # noqa: T201 - pip shows it with -v


def _compiled(root: pathlib.Path, scratch: pathlib.Path, flags: list[str]) -> pathlib.Path:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    # Copied: what is generated stays out of the source.
    for source in (root / CORE).glob("*"):
        if source.suffix in (".pyx", ".h"):
            shutil.copyfile(source, scratch / source.name)
    extension = Extension(
        NAME,
        [str(scratch / "_native.pyx")],
        include_dirs=[str(scratch)],
        extra_compile_args=flags,
        extra_link_args=flags,
    )
    modules = cythonize([extension], build_dir=str(scratch), quiet=True, force=True)
    command = build_ext(Distribution({"ext_modules": modules}))
    command.build_lib = str(scratch / "lib")
    command.build_temp = str(scratch / "objects")
    command.ensure_finalized()
    command.run()
    return next((scratch / "lib").rglob("_native.*"))
