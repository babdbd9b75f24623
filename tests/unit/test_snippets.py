"""Every code block of README.md and docs/ is run, page by page, from top to bottom.

Blocks of a page share one namespace and one empty folder with some data in it. A block
`text` holds what the block above prints, with … for what may differ. `nacs` is called
as from a shell; of `make` and `pip install` the target and the extras are looked up.
`<!-- not run: why -->` above a block is for what needs the network or minutes.
"""

import doctest
import re
import shlex
import sys
import tomllib
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from nacs.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- not run:(?P<reason>[^\n]*)-->\n+)?"
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
RUN = {"python", "sh"}
SHOWN = {"text", "csv", "toml", "tree"}
SHORTER = {"README.md": ["--training.epochs", "1", "--sizes.layers", "1"]}
"""What `nacs train` of a page that speaks of whole trainings is given beside."""
LEFT_OUT = {
    "nacs train car-racing --model neuronal": "records laps for ten minutes",
    "nacs reproduce table-1 --scale smoke": "tests/unit/test_reproduce.py runs it",
}
ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    code: str
    reason: str | None


def blocks(path):
    text = path.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        at = text[: found.start("code")].count("\n")
        code = re.sub(rf"(?m)^{found['indent']}", "", found["code"])
        name = path.relative_to(ROOT).as_posix()
        language = found["language"].split("{")[0].strip()
        yield Block(name, at, language, code, found["reason"])


ALL = {path.relative_to(ROOT).as_posix(): list(blocks(path)) for path in PAGES}
LIVE = [name for name, found in ALL.items() if any(b.language in RUN for b in found)]


def give_data(folder):
    """What the pages call the reader's own."""
    draw = np.random.default_rng(0)
    for place in ("cats", "dogs"):
        (folder / "my-images" / place).mkdir(parents=True)
        for index in range(20):
            pixels = draw.integers(0, 256, (28, 28, 3)).astype(np.uint8)
            pixels[..., 0] //= 4 if place == "cats" else 1
            Image.fromarray(pixels).save(folder / f"my-images/{place}/{index}.png")
    rows = ["id,time,heart_rate,pressure,label"]
    for patient in range(30):
        label = ("ill", "well")[patient % 2]
        for time in np.sort(draw.uniform(0, 60, draw.integers(5, 12))):
            rate = 70 + 20 * (label == "ill") + draw.normal(0, 5)
            pressure = "" if draw.random() < 0.3 else f"{120 + draw.normal(0, 9):.1f}"
            rows.append(f"patient-{patient},{time:.2f},{rate:.1f},{pressure},{label}")
    (folder / "my-series.csv").write_text("\n".join(rows) + "\n")
    (folder / "more-digits").mkdir()
    for name in ("digit.png", "more-digits/a.png", "more-digits/b.png"):
        digit = draw.integers(0, 256, (28, 28)).astype(np.uint8)
        Image.fromarray(digit).save(folder / name)


def as_module(page, folder, monkeypatch):
    """An empty module whose file has the page's Python, at the lines of the page."""
    lines = [""] * (ALL[page][-1].line + ALL[page][-1].code.count("\n") + 1)
    for block in (b for b in ALL[page] if b.language == "python"):
        code = block.code.splitlines()
        lines[block.line : block.line + len(code)] = code
    module = ModuleType("page")
    module.__file__ = str(folder / "page.py")
    Path(module.__file__).write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setitem(sys.modules, "page", module)
    return module


def run_python(block, module):
    code = "\n" * block.line + block.code
    exec(compile(code, module.__file__, "exec"), module.__dict__)


def run_shell(block, _):
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            run_command(words, f"{block.page}:{block.line}: {line}", block.page)


def run_command(words, where, page):
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in (word for word in words[1:] if "=" not in word):
            assert re.search(rf"(?m)^{target}:", makefile), where
    elif words[:2] == ["pip", "install"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for extra in re.findall(r"nacs\[([^\]]+)\]|\.\[([^\]]+)\]", " ".join(words)):
            names = set(",".join(filter(None, extra)).split(","))
            assert names <= set(project["optional-dependencies"]), where
    else:
        assert words[0] == "nacs", f"{where}: run it, or say why it is not run"
        words, file = (words[:-2], words[-1]) if ">" in words else (words, None)
        if " ".join(words) in LEFT_OUT:
            return
        given = SHORTER.get(page, []) if words[1] == "train" else []
        if given and "demo" in words:
            given = [*given, "--sizes.modules", "32"]
        if words[1] == "view" and "--html" not in words:
            # A server would never end.
            given = ["--html", "view.html", "--samples", "16"]
        out = StringIO()
        with redirect_stdout(out):
            code = main([*words[1:], *given])
        assert code == 0, where
        if file:
            Path(file).write_text(out.getvalue())
        else:
            print(out.getvalue(), end="")


@pytest.mark.parametrize("page", LIVE)
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    torch.set_default_dtype(torch.float32)
    give_data(tmp_path)
    module, printed = as_module(page, tmp_path, monkeypatch), ""
    for block in ALL[page]:
        where = f"{page}:{block.line}"
        if block.language in RUN and block.reason is None:
            out = StringIO()
            with redirect_stdout(out):
                run = run_python if block.language == "python" else run_shell
                run(block, module)
            printed = out.getvalue()
        elif block.language == "text" and block.reason is None:
            wanted = block.code.replace("…", "...")
            same = doctest.OutputChecker().check_output(wanted, printed, ELLIPSIS)
            assert same, f"{where}: the page shows\n{wanted}\nbut it is\n{printed}"


@pytest.mark.parametrize("page", ALL)
def test_blocks_say_what_they_are(page):
    """A block of no language would be run by nobody."""
    for block in ALL[page]:
        where = f"{page}:{block.line}: ```{block.language}"
        assert block.language in RUN | SHOWN, where
        if block.reason is not None:
            assert len(block.reason.strip()) > 8, f"{where}: why is it not run?"


def test_few_blocks_are_not_run():
    found = [b for page in ALL.values() for b in page if b.language in RUN]
    left = [b for b in found if b.reason is not None]
    assert len(found) > 4
    assert len(left) <= len(found) / 5, [f"{b.page}:{b.line}" for b in left]


def from_assets(name):
    path = ROOT / "docs" / "assets" / f"{name}.py"
    spec = spec_from_file_location(name, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("picture", ["attentive", "neuronal"])
def test_pictures_are_what_the_code_draws(picture):
    torch.set_default_dtype(torch.float32)
    drawn = getattr(from_assets("pictures"), picture)()
    kept = ROOT / "docs" / "assets" / f"{picture}.svg"
    assert drawn == kept.read_text(encoding="utf-8")


def test_every_public_module_is_on_one_page_of_the_reference():
    pytest.importorskip("latex2mathml")
    hooks = from_assets("hooks")
    pages = (ROOT / "docs" / "reference").glob("*.md")
    lines = [line for page in pages for line in hooks.MODULES.findall(page.read_text())]
    shown = [module for line in lines for module in hooks.modules(line)]
    assert sorted(shown) == sorted(hooks._all_modules())
    assert "nacs.attentive.model" in shown
    assert "nacs.verbs.train" in shown
