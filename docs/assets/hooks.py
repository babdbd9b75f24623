"""What mkdocs does beside its plugins: equations, modules, and parts of the navigation.

Equations become MathML while the pages are built, so a reader's browser draws them
itself: no script, no font and no request. A line `!modules PATTERN …` in a page of the
reference stands for modules, each under the longest pattern that fits it on any page,
so that every module stands on one page, also one that was written later. What search
needs in pages opened from a disk comes from beside them, not from the network.
"""

import html
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

EQUATION = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>',
    re.DOTALL,
)
MODULES = re.compile(r"^!modules (.+)$", re.MULTILINE)
SHIM = "https://unpkg.com/iframe-worker/shim"
ROOT = Path(__file__).resolve().parents[2]


def on_config(config: Any) -> Any:
    """List the decisions there are, and the page of results once it is there."""
    docs = Path(config.docs_dir)
    for section in config.nav:
        for name, pages in section.items():
            section[name] = [page for each in pages for page in _pages(each, docs)]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name the modules of a line `!modules`, as mkdocstrings takes them."""
    return MODULES.sub(
        lambda line: "\n\n".join(map(_entry, modules(line[1]))), markdown
    )


def on_page_content(content: str, **_: Any) -> str:
    """Turn every equation of a page into MathML."""
    return EQUATION.sub(_equation, content)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Take the workers of pages on a disk from a file of ours."""
    return _local(output, up="../" * page.url.count("/"))


def on_post_template(output_content: str, **_: Any) -> str:
    """The same in pages that are no document."""
    return _local(output_content, up="")


def _local(page: str, up: str) -> str:
    return page.replace(SHIM, f"{up}assets/iframe-worker.js")


def modules(line: str) -> list[str]:
    """The modules that the patterns of a line stand for, in the patterns' order."""
    named = _all_patterns()

    def best(module: str) -> str:
        fits = [each for each in named if fnmatchcase(module, each)]
        return max(fits, key=len, default="")

    owners = {module: best(module) for module in _all_modules()}
    return [
        module
        for pattern in line.split()
        for module, owner in owners.items()
        if owner == pattern
    ]


def _entry(module: str) -> str:
    """A module for mkdocstrings; a package that hands on names is a list of links.

    Of a verb of the command line its options are shown.
    """
    if module.startswith("nacs.verbs."):
        return f"::: {module}\n    options:\n      members: [Options]"
    source = ROOT / "src" / module.replace(".", "/") / "__init__.py"
    text = source.read_text(encoding="utf-8") if source.exists() else ""
    if not text or re.search(r"^def [a-z]", text, re.MULTILINE):
        return f"::: {module}"
    names = re.findall(r'"(\w+)"', text.partition("__all__ = [")[2].partition("]")[0])
    links = ", ".join(
        f"[`{each}`][{module}.{each}]" for each in names if each[0] != "_"
    )
    return f"::: {module}\n    options:\n      members: false\n\nHands on: {links}."


def _all_patterns() -> list[str]:
    pages = (ROOT / "docs" / "reference").glob("*.md")
    lines = (MODULES.findall(page.read_text(encoding="utf-8")) for page in pages)
    return [each for found in lines for line in found for each in line.split()]


def _all_modules() -> list[str]:
    """Every module that says what of it is public."""
    source = ROOT / "src"
    files = sorted((source / "nacs").rglob("*.py"))
    public = (path for path in files if "__all__" in path.read_text(encoding="utf-8"))
    names = (path.relative_to(source).with_suffix("").parts for path in public)
    return [".".join(parts).removesuffix(".__init__") for parts in names]


def _pages(entry: Any, docs: Path) -> list[Any]:
    """The entries of the navigation that one written in mkdocs.yml stands for."""
    if entry == {"Decisions": "adr/"}:
        found = sorted((docs / "adr").glob("*.md"))
        return [{"Decisions": [path.relative_to(docs).as_posix() for path in found]}]
    if entry == {"Results": "results.md"} and not (docs / "results.md").exists():
        return []
    return [entry]


def _equation(found: re.Match[str]) -> str:
    latex = html.unescape(found["latex"]).strip()
    display = "block" if found["tag"] == "div" else "inline"
    return convert(latex, display=display)
