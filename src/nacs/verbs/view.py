"""`nacs view`: look into a run in the browser, or write it as one HTML file."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from nacs.console import parse
from nacs.errors import UserError
from nacs.runs import written
from nacs.view import Viewed
from nacs.view.page import everything, inlined

__all__ = ["run"]


@dataclass
class Options:
    """Look into a trained run: its graph, surgery, what it computes, its training.

    The page is served to this machine alone until Ctrl-C.
    """

    run: Positional[Path]
    """A run folder."""

    beside: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = ()
    """Run folders whose training curves are shown beside its own."""

    html: Path | None = None
    """Write one file that needs no server instead, to send to a colleague."""

    samples: int = 256
    """How many test samples surgery is measured on."""

    port: int = 8324
    """Where the page is served; 0 for any that is free."""


def run(arguments: list[str]) -> None:
    """Load the run first, so that a mistake is said before anything is served."""
    options = parse(Options, arguments, "view", "nacs view runs/demo --html demo.html")
    viewed = Viewed(options.run, beside=options.beside, samples=options.samples)
    if options.html is None:
        _serve(viewed, options.port)
        return
    text = inlined(everything(viewed))
    with written(options.html) as beside:
        beside.write_text(text, encoding="utf-8")
    print(f"page: {options.html}")


def _serve(viewed: Viewed, port: int) -> None:
    try:
        import uvicorn

        from nacs.view.server import HOST, app
    except ImportError as error:
        raise UserError(
            f"nacs view needs {error.name}; run pip install 'nacs[view]', or write a "
            "file with --html."
        ) from error
    viewed.document()  # so that the page need not wait for it
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen()  # who asks before the server is up waits for it
        except (OSError, OverflowError) as error:
            raise UserError(
                f"port {port} cannot be used ({error}); try --port 0."
            ) from error
        port = listening.getsockname()[1]
        print(f"page: http://{HOST}:{port}/ (Ctrl-C ends it)", flush=True)
        config = uvicorn.Config(app(viewed, port), log_level="warning")
        uvicorn.Server(config).run(sockets=[listening])
