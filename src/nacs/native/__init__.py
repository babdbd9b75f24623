"""Compiled code for what torch has no fast operation for (docs/adr/0009).

The libraries are built when nacs is installed, one for every instruction set; where
there is none, or `NACS_NATIVE=off`, torch does the same work.
"""

import ctypes
import json
import os
import platform
import warnings
from functools import lru_cache

import torch

from nacs.native.build import FLAGS, HERE, digest, sources

__all__ = ["level", "library"]

WISH = "NACS_NATIVE"
"""The environment variable: off, or the instruction set to use; the best if unset."""


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled code this process uses, or None; decided at the first call."""
    name = level()
    return None if name == "off" else ctypes.CDLL(str(HERE / f"{name}.so"))


@lru_cache(maxsize=1)
def level() -> str:
    """The instruction set of the compiled code in use: avx512, avx2, plain, or off."""
    wish = os.environ.get(WISH, "")
    if wish == "off":
        return wish
    if wish and wish not in FLAGS:
        raise ValueError(
            f"{WISH} must be off or one of {', '.join(FLAGS)}, got '{wish}'."
        )
    if wish and wish not in _supported():
        return _without(wish, f"this processor has no {wish}")
    listed = HERE / "built.json"
    if not listed.is_file():
        return _without(wish, "it was not built")
    try:
        built = json.loads(listed.read_text(encoding="utf-8"))
        if built["sources"] != sources():
            return _without("stale", "it was built from other sources")
        for name in [wish] if wish else _supported():
            path = HERE / f"{name}.so"
            if path.name not in built["libraries"]:
                continue
            # A library cut short would end the process as it is mapped.
            if digest(path.read_bytes()) != built["libraries"][path.name]:
                return _without("damaged", f"{path} is damaged")
            ctypes.CDLL(str(path))
            return name
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _without("broken", str(error))
    return _without(wish, f"{HERE} has no library for it")


def _supported() -> list[str]:
    """Instruction sets that this processor has, the best first."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return ["plain"]
    best = torch.backends.cpu.get_cpu_capability()
    return {"AVX512": ["avx512"], "AVX2": []}.get(best, []) + (
        ["avx2", "plain"] if best in {"AVX512", "AVX2"} else ["plain"]
    )


def _without(asked: str, reason: str) -> str:
    """Say so where compiled code was there or asked for, and let torch do the work."""
    if asked:
        warnings.warn(
            f"nacs works without its compiled code: {reason}. To build it: "
            "python -m nacs.native",
            stacklevel=4,
        )
    return "off"
