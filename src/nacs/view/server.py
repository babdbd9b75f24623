"""The explorer's server: this machine only, a handful of questions, one page.

Any page that a browser shows may send requests to this machine. So a request must name
this server as its host, which a foreign name bound to 127.0.0.1 does not, and one that
comes from a page must come from ours.
"""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from nacs.errors import UserError
from nacs.view.look import Viewed
from nacs.view.numbers import finite
from nacs.view.page import asset

__all__ = ["HOST", "app"]

HOST = "127.0.0.1"
LARGEST = 1 << 16
"""Bytes of a question."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Wanted(BaseModel):
    """A smaller circuit to be written."""

    modules: float = 0.0
    """Share of the modules that goes."""

    edges: float = 0.0
    """Share of the edges that goes."""

    name: str
    """Of the new run folder, beside the run."""


def app(viewed: Viewed, port: int) -> FastAPI:
    """The application that shows one run.

    Args:
        viewed: The run.
        port: Where it is served, for the check of hosts.
    """
    made = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    hosts = {f"{HOST}:{port}", f"localhost:{port}"}

    @made.middleware("http")
    async def guard(
        request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = _refusal(request, hosts) or await answer(request)
        response.headers.update(HEADERS)
        return response

    @made.exception_handler(UserError)
    @made.exception_handler(OSError)
    async def mistaken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    @made.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 500, HEADERS)

    @made.get("/")
    def index() -> Response:
        return _file("index.html")

    @made.get("/{name}.{suffix}")
    def file(name: str, suffix: str) -> Response:
        return _file(f"{name}.{suffix}")

    @made.post("/api/save")
    def save(wanted: Wanted) -> Response:
        return _told({"run": str(saved(viewed, wanted))})

    _questions(made, viewed)
    for each in (guard, mistaken, broken, index, file, save):
        assert each  # they are used by their routes
    return made


def _questions(made: FastAPI, viewed: Viewed) -> None:
    """What the page asks."""

    def run() -> Response:
        return _told(viewed.document())

    def curves() -> Response:
        return _told(viewed.curves())

    def metrics() -> Response:
        return _told(viewed.metrics())

    def surgery(modules: float = 0.0, edges: float = 0.0) -> Response:
        return _told(viewed.measure(modules, edges))

    def sample(i: int) -> Response:
        return _told(viewed.sample(i))

    def graph(i: int) -> Response:
        return _told(viewed.graph(i))

    def circuits() -> Response:
        return _told(viewed.circuits())

    def neuronal(i: int, layer: int = 0) -> Response:
        return _told(viewed.neuronal(i, layer))

    for question in (run, curves, metrics, surgery, sample, graph, circuits, neuronal):
        made.get(f"/api/{question.__name__}")(question)


def _told(values: dict[str, Any]) -> Response:
    """JSON, without FastAPI's walk over every number of it."""
    return JSONResponse(finite(values))


def saved(viewed: Viewed, wanted: Wanted) -> Path:
    """Write the smaller circuit as `nacs prune` does, beside the run.

    Raises:
        UserError: If the name is none of a folder, or there is something already.
    """
    from nacs.verbs.prune import run

    for share in (wanted.modules, wanted.edges):
        if not 0 <= share <= 1:
            raise UserError(f"shares must lie in [0, 1], got {share}.")
    if not NAME.fullmatch(wanted.name):
        raise UserError(
            f"expected a folder's name of letters, digits, '.', '_' and '-', got "
            f"'{wanted.name[:100]}'."
        )
    surgeon = viewed.surgeon
    out = viewed.folder.resolve().with_name(wanted.name)
    arguments = [str(viewed.folder), "--out", str(out)]
    if wanted.modules:
        keep = surgeon.kept(wanted.modules) / surgeon.model.config.modules
        arguments += ["--keep", str(keep)]
    run([*arguments, "--edges", str(1 - wanted.edges)])
    return out


def _refusal(request: Request, hosts: set[str]) -> Response | None:
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if host not in hosts:
        return JSONResponse({"error": f"this server is not {host[:100]}."}, 403)
    if origin is not None and origin not in {f"http://{each}" for each in hosts}:
        return JSONResponse({"error": f"nothing for {origin[:100]}."}, 403)
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal() and int(length[:20]) <= LARGEST):
        return JSONResponse({"error": f"expected at most {LARGEST} bytes."}, 413)
    if "transfer-encoding" in request.headers:  # of which nobody knows how long it is
        return JSONResponse({"error": "expected a content-length."}, 411)
    return None


def _file(name: str) -> Response:
    found = asset(name)
    if found is None:
        return JSONResponse({"error": f"there is no {name[:100]}."}, 404)
    return Response(found[0], media_type=found[1])
