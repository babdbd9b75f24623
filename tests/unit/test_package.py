"""What is installed: small, quick to import, and enough for the README.

`make package` builds the wheel, installs it alone into a new environment and runs the
tests at the end; without it they are skipped.
"""

import os
import resource
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import test_snippets

from nacs.native.build import sources

ROOT = Path(__file__).resolve().parents[2]
BUILT = Path(os.environ.get("NACS_PACKAGE", "nowhere")).absolute()
LARGEST = 5 * 2**20
"""Bytes of a wheel."""

ours = "import nacs.attentive, nacs.neuronal, nacs; nacs.freeze"


def processor_time(code):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_importing_takes_little_more_than_torch():
    """Measured 1.10 alone on the machine; 0.2 more for what runs beside."""
    times = [(processor_time("import torch"), processor_time(ours)) for _ in range(2)]
    torch, nacs = (min(each) for each in zip(*times, strict=True))
    assert nacs < 1.3 * torch


@pytest.mark.parametrize(
    ("code", "more"), [(ours, "accelerate"), ("import nacs.train, nacs.evaluation", "")]
)
def test_what_is_slow_to_import_waits(code, more):
    """The compiler takes as long as torch itself; scipy.stats, DTensor half of that."""
    slow = "torch._dynamo torch.distributed.tensor sympy scipy matplotlib networkx tyro"
    wanted = [*slow.split(), *more.split()]
    code = f"{code}; import sys; print(*set({wanted}) & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


def test_sources_make_a_small_wheel():
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for path in (ROOT / "src" / "nacs").rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                file.write(path)
    assert 100_000 < len(packed.getvalue()) < LARGEST


built = pytest.mark.skipif(not BUILT.is_dir(), reason="make package runs it")


@built
def test_the_wheel_has_every_file_and_no_other():
    (wheel,) = BUILT.glob("nacs-*.whl")
    assert wheel.stat().st_size < LARGEST
    names = {
        name for name in zipfile.ZipFile(wheel).namelist() if "dist-info" not in name
    }
    tracked = subprocess.run(
        ["git", "ls-files", "src/nacs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {name.removeprefix("src/") for name in tracked.stdout.split()}
    assert wanted <= names
    assert len(sources()) > 0
    made = {name.rsplit("/")[-1] for name in names - wanted}
    assert made <= {"avx512.so", "avx2.so", "plain.so", "built.json"}


DIGITS, SHORT = "nacs train mnist-5k", ["--training.epochs", "1", "--sizes.layers", "1"]


def commands_of(block):
    """The lines of a block that need no extra; other pictures instead of digits."""
    for line in block.code.replace("\\\n", " ").splitlines():
        line = line.replace(DIGITS, "nacs train my-images/") if DIGITS in line else line
        command, _, comment = line.partition("#")
        words = command.partition(">")[0].split()
        serves = words[1:2] == ["view"] and "--html" not in words  # and never ends
        known = "my-images" in line or "pip" not in comment
        if words[:1] == ["nacs"] and known and not serves:
            yield [*words[1:], *(SHORT if words[1] == "train" else [])]


@built
def test_the_readme_runs_from_the_wheel_alone(tmp_path):
    test_snippets.give_data(tmp_path)
    programs = BUILT / "venv" / "bin"
    found = test_snippets.ALL["README.md"]
    code = "".join(block.code for block in found if block.language == "python")
    commands = [["python", "-c", code]]
    for block in (block for block in found if block.language == "sh"):
        commands += [["nacs", *words] for words in commands_of(block)]
    assert len(commands) > 8
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for program, *words in commands:
        command = [str(programs / program), *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
