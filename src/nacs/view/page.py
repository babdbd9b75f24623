"""The page of the explorer: its built files, and one file that holds all of it.

`explorer/` has the sources; `make explorer` builds them into `assets/`, which is
committed, so that no user needs Node.
"""

import json
import re
from pathlib import Path
from typing import Any

from nacs.errors import UserError
from nacs.view.look import Viewed
from nacs.view.numbers import finite

__all__ = ["ASSETS", "asset", "everything", "inlined"]

ASSETS = Path(__file__).parent / "assets"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}

ALONE = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
"""Content security policy of the single file: it may load nothing at all."""

SHOWN = 12
"""Samples that the single file holds."""


def asset(name: str) -> tuple[bytes, str] | None:
    """A built file and its type; None if there is no file of just this name."""
    found = {path.name: path for path in ASSETS.iterdir()} if ASSETS.is_dir() else {}
    path = found.get(name)
    if path is None or path.suffix not in TYPES:
        return None
    return path.read_bytes(), TYPES[path.suffix]


def everything(viewed: Viewed, samples: int = SHOWN) -> dict[str, Any]:
    """The document with what the page would ask a server for.

    What cannot be had, as a data set that is gone, is left out and said in `missing`.

    Args:
        viewed: The run.
        samples: How many of the test split are shown.
    """
    found: dict[str, Any] = viewed.document()
    found |= {"samples": [], "activities": []}
    layers = int(found["layers"])
    try:
        count = min(samples, len(viewed.dataset.test))
        found["samples"] = [viewed.sample(index) for index in range(count)]
        found["activities"] = [
            [viewed.neuronal(index, layer) for layer in range(layers)]
            for index in range(count if layers else 0)
        ]
        if found["graph"] is not None:
            found["curves"] = viewed.curves()
            if found["graph"]["conditional"]:
                found["circuits"] = viewed.circuits()
                found["graphs"] = [viewed.graph(i)["graph"] for i in range(count)]
    except UserError as error:
        found["missing"] = str(error)
    return found


def inlined(document: dict[str, Any]) -> str:
    """The page as one HTML file that asks nobody for anything.

    Args:
        document: From `everything`.

    Raises:
        UserError: If the page was never built.
    """
    page = asset("index.html")
    if page is None:
        raise UserError(
            f"{ASSETS}: the explorer's page is not built; run make explorer."
        )
    text = page[0].decode()
    policy = f'<meta http-equiv="Content-Security-Policy" content="{ALONE}">'
    told = json.dumps(finite(document)).replace("<", "\\u003c")
    text = text.replace("<head>", f"<head>\n{policy}", 1)
    # Functions, because the replacement holds backslashes.
    text = re.sub(
        r'<link rel="stylesheet"[^>]*href="\./([^"]+)"[^>]*>',
        lambda found: f"<style>{_text(found[1])}</style>",
        text,
    )
    script = re.search(
        r'<script type="module"[^>]*src="\./([^"]+)"[^>]*></script>', text
    )
    assert script is not None
    code = _text(script[1]).replace("</script", "<\\/script")
    body = (
        f'<script type="application/json" id="inlined">{told}</script>\n'
        f'<script type="module">{code}</script>\n</body>'
    )
    return text.replace(script[0], "", 1).replace("</body>", body, 1)


def _text(name: str) -> str:
    found = asset(name)
    assert found is not None
    return found[0].decode()
