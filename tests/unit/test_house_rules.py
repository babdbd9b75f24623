"""The budgets and the import order that ruff cannot see."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_FILE = 400
ORDER = (
    "config",
    "circuit",
    "gated",
    "sparse",
    "links",
    "priors",
    "modulated",
    "attention",
    "generator",
    "layers",
    "model",
    "surgery",
    "effects",
    "frozen",
    "presets",
)
SOURCES = sorted(
    path
    for folder in ("src", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
ATTENTIVE = sorted(
    path
    for path in (ROOT / "src" / "nacs" / "attentive").glob("*.py")
    if path.stem != "__init__"
)


def siblings(source: str) -> set[str]:
    """Names of the files of `nacs.attentive` that a file of that package imports."""
    package = "nacs.attentive"
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = {0: "", 1: package, 2: "nacs"}[node.level]
            base = ".".join(filter(None, (home, node.module)))
            inside = base in {"nacs", package}
            found |= {f"{base}.{a.name}" for a in node.names} if inside else {base}
    return {name.split(".")[2] for name in found if name.startswith(package + ".")}


def out_of_order(name: str, source: str) -> set[str]:
    """What a file imports that does not stand above it in `ORDER`."""
    return siblings(source) - set(ORDER[: ORDER.index(name)])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_are_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{name_of(path)} has {lines} lines; split it"


@pytest.mark.parametrize("path", ATTENTIVE, ids=name_of)
def test_attentive_imports_only_from_above(path):
    assert path.stem in ORDER, f"give {path.name} its place in ORDER"
    wrong = out_of_order(path.stem, path.read_text(encoding="utf-8"))
    assert not wrong, f"{name_of(path)} imports {sorted(wrong)}, which stand below it"


@pytest.mark.parametrize(
    "line",
    [
        "from nacs.attentive.model import AttentiveCircuit",
        "from nacs.attentive import model",
        "import nacs.attentive.model",
        "from .model import AttentiveCircuit",
        "from . import model",
        "def late():\n    from nacs.attentive.model import AttentiveCircuit",
    ],
)
def test_an_import_from_below_is_seen_in_every_spelling(line):
    assert out_of_order("links", line) == {"model"}
    assert out_of_order("surgery", line) == set()


def test_the_sources_were_found():
    """An empty list would leave the tests above green for nothing."""
    assert len(ATTENTIVE) > 5
    assert ROOT / "src" / "nacs" / "__init__.py" in SOURCES


def test_contributing_stays_short():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
