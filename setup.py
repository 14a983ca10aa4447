# SPDX-License-Identifier: Apache-2.0
"""Builds the C core; everything else about the distribution is in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BUILD_SCRIPT = "native/kvm_shim/build_native.py"
WARNINGS = runpy.run_path(BUILD_SCRIPT)["WARNINGS"]


class BuildNative(build_ext):
    """Compile our own C with every warning an error, and cffi's without; only what changed."""

    def build_extension(self, ext: Extension) -> None:
        generated, *own = ext.sources
        headers = [path for path in ext.depends if path.endswith(".h")]
        newest_header = max(Path(path).stat().st_mtime for path in [BUILD_SCRIPT, *headers])
        objects = self.compiler.object_filenames(own, output_dir=self.build_temp)
        stale = [
            source
            for source, made in zip(own, map(Path, objects), strict=True)
            if not made.exists()
            or made.stat().st_mtime < max(newest_header, Path(source).stat().st_mtime)
        ]
        self.compiler.compile(
            stale,
            output_dir=self.build_temp,
            macros=ext.define_macros,
            include_dirs=ext.include_dirs,
            extra_postargs=[*ext.extra_compile_args, *WARNINGS],
        )
        ext.sources = [generated]
        ext.extra_objects = objects
        ext.depends = [*ext.depends, *own]
        super().build_extension(ext)


setup(
    cffi_modules=[f"{BUILD_SCRIPT}:ffibuilder"],
    cmdclass={"build_ext": BuildNative},
    include_package_data=False,  # the sources are for source distributions only
)
