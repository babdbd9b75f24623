"""Compile the C sources of this folder, if there is a compiler.

Run by pip, through `hatch_build.py`, and by `python -m nacs.native`. pip has no torch,
so this file imports nothing but the standard library. One shared library is made for
every instruction set (docs/adr/0009).
"""

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["FLAGS", "HERE", "build", "digest", "sources"]

HERE = Path(__file__).resolve().parent
FLAGS = {
    "avx512": "-mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx2 -mfma",
    "avx2": "-mavx2 -mfma",
    "plain": "",
}
"""Instruction sets, the best first, and what the compiler is told for them."""

ALWAYS = "-std=gnu11 -O3 -fPIC -shared -fvisibility=hidden -fno-math-errno"


def sources() -> str:
    """A digest of all that is compiled: a library of other sources is not loaded."""
    files = sorted((*HERE.glob("*.c"), *HERE.glob("*.h")))
    return digest(b"".join(file.read_bytes() for file in files))


def digest(content: bytes) -> str:
    """What a file is recognised by."""
    return hashlib.sha256(content).hexdigest()


def compiler() -> list[str] | None:
    """The C compiler as Python knows it, or any; None if there is none."""
    known = (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang")
    for command in known:
        words = shlex.split(command or "")
        if words and shutil.which(words[0]):
            return words
    return None


def build(folder: Path = HERE) -> list[Path]:
    """Compile into a folder; says on stderr why where nothing comes of it.

    Returns:
        The libraries and the list of their digests; empty where none could be built.
    """
    command = compiler()
    if command is None or sys.platform == "win32":
        print("nacs: no C compiler, torch does all the work", file=sys.stderr)
        return []
    intel = platform.machine().lower() in {"x86_64", "amd64"}
    made: dict[str, str] = {}
    for level, flags in FLAGS.items():
        if flags and not intel:
            continue
        target = folder / f"{level}.so"
        fresh = folder / f"{level}.{os.getpid()}.part"  # never seen half written
        words = [
            *command,
            *ALWAYS.split(),
            *flags.split(),
            str(HERE / "native.c"),
            "-o",
            str(fresh),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"nacs: {level} was not compiled: {done.stderr}", file=sys.stderr)
            continue
        fresh.replace(target)
        made[target.name] = digest(target.read_bytes())
    if not made:
        return []
    listed = folder / "built.json"
    listed.write_text(json.dumps({"sources": sources(), "libraries": made}, indent=2))
    return [listed, *(folder / name for name in made)]
