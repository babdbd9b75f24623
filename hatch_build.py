"""Compile `nacs.native` as the wheel is built; without a compiler the wheel is pure."""

import runpy
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import (  # pyright: ignore
    BuildHookInterface,
)


class NativeHook(BuildHookInterface):  # pyright: ignore
    """Puts the libraries into the wheel and the platform into its name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Called by hatchling before it collects files; editable installs too."""
        path = f"{self.root}/src/nacs/native/build.py"
        made = runpy.run_path(path)["build"]()
        if made:
            build_data["pure_python"] = False
            where = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{where}"
            build_data["artifacts"] += [
                "src/nacs/native/*.so",
                "src/nacs/native/built.json",
            ]
