"""Draw the two architectures from real objects of the code, as SVG for the pages.

Run:  PYTHONPATH=src python docs/assets/pictures.py    (writes *.svg beside this file)

Lines and words take the colour of the page (`currentColor`).
"""

from collections.abc import Iterable
from pathlib import Path

import networkx as nx
import numpy as np
import torch

from nacs.attentive import presets
from nacs.attentive.priors import sample_graph
from nacs.neuronal.dynamics import exact
from nacs.neuronal.wiring import ncp

__all__ = ["attentive", "neuronal"]

BLUE, ORANGE, GREEN, PINK = "#3a8fd0", "#e0762a", "#0a9e75", "#c979a8"
Point = tuple[float, float]


def attentive() -> str:
    """The sizes of `presets.tiny`: tokens, a graph of processors, read-outs, answer."""
    config = presets.tiny()
    graph = nx.from_numpy_array(sample_graph("scale-free", config.modules).numpy())
    spread = nx.spring_layout(graph, seed=4, k=0.6)
    places = {n: (330 + 105 * x, 190 + 105 * y) for n, (x, y) in spread.items()}
    tokens = [(60.0, 100 + 12 * i) for i in range(config.modules)]
    outputs = [(560.0, 130 + 40 * i) for i in range(config.outputs)]
    parts = [
        *(_line(token, places[n], 0.15) for n, token in enumerate(tokens)),
        *(_line(places[a], places[b], 0.5) for a, b in graph.edges),
        *(_line(places[n], end, 0.13) for n in range(0, 16, 2) for end in outputs),
        *(_line(end, (650.0, 190.0), 0.5) for end in outputs),
        *(_square(token, 8, GREEN) for token in tokens),
        *(_dot(places[n], 6 + 1.1 * graph.degree[n], BLUE) for n in graph),
        *(_dot(end, 9, ORANGE) for end in outputs),
        _square((650.0, 190.0), 16, PINK),
        _box(205, 8, 250, 44),
        _word(330, 26, "generator: a signature, a code and", 12),
        _word(330, 42, "a first state for every module", 12),
        _arrow((330.0, 52.0), (330.0, 78.0)),
        *(
            _word(x, 330, name, 14, bold=True)
            for x, name in ((60, "tokens"), (330, "processors"), (560, "read-outs"))
        ),
        _word(650, 330, "answer", 14, bold=True),
        _word(175, 350, "read-in", 12),
        _word(330, 350, "propagators, layer after layer", 12),
        _word(470, 350, "read-out", 12),
    ]
    return _svg(700, 365, "An attentive circuit", parts)


def neuronal() -> str:
    """A wiring that ncps draws, and how three logits relax."""
    wiring = ncp(8, 8, 6, 2, sparsity=0.5, seed=22222)
    groups = {"sensory": 8, "inter": 8, "command": 6, "motor": 2}
    places = {
        (name, n): (60.0 + 105 * column, 160 + 30 * (n - (count - 1) / 2))
        for column, (name, count) in enumerate(groups.items())
        for n in range(count)
    }
    wires = (
        ("sensory", "inter", wiring.sensory),
        ("inter", "command", wiring.inter),
        ("command", "motor", wiring.motor),
    )
    parts = [
        _line(places[a, i], places[b, j], 0.6, BLUE if signs[i, j] > 0 else ORANGE)
        for a, b, signs in wires
        for i, j in zip(*np.nonzero(signs), strict=True)
    ]
    for i, j in zip(*np.nonzero(wiring.command), strict=True):
        colour = BLUE if wiring.command[i, j] > 0 else ORANGE
        parts.append(_arc(places["command", i], places["command", j], colour))
    parts += [_dot(place, 8, "currentColor") for place in places.values()]
    parts += [
        _word(60 + 105 * column, 305, name, 14, bold=True)
        for column, name in enumerate(groups)
    ]
    parts += [
        _word(28, 105, "query", 12),
        _word(28, 225, "key", 12),
        _word(400, 134, "φ", 16),
        _word(400, 196, "ω", 16),
        _arrow((415.0, 160.0), (455.0, 160.0)),
        _path([(480.0, 60.0), (480.0, 250.0), (680.0, 250.0)], "currentColor", 1),
        _word(580, 275, "time", 12),
        _word(500, 48, "logit a(t)", 12),
        _word(580, 305, "one curve a pair", 14, bold=True),
    ]
    time = torch.linspace(0, 6, 60)
    for drive, rate, start, colour in ((0.9, 1, 0.1, BLUE), (0.5, 2, 0.9, ORANGE)):
        solved = exact(torch.tensor(drive), torch.tensor(float(rate)), time, start)
        curve = zip(480 + 33 * time.numpy(), 250 - 190 * solved.numpy(), strict=True)
        parts.append(_path(curve, colour, 2.5))
    return _svg(700, 320, "Neuronal attention", parts)


def _svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{title}" font-family="inherit">\n{body}\n</svg>\n'
    )


def _line(a: Point, b: Point, opacity: float, colour: str = "currentColor") -> str:
    return (
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" '
        f'stroke="{colour}" stroke-opacity="{opacity}" stroke-width="1.2"/>'
    )


def _arrow(a: Point, b: Point) -> str:
    """A line with a head at its end; straight right or straight down."""
    across = (b[1] - a[1], b[0] - a[0])
    length = abs(b[0] - a[0]) + abs(b[1] - a[1])
    side, back = (4 * each / length for each in across), (b[0] - a[0], b[1] - a[1])
    dx, dy = side
    x, y = (end - 7 * step / length for end, step in zip(b, back, strict=True))
    head = f"{b[0]},{b[1]} {x + dx:.1f},{y + dy:.1f} {x - dx:.1f},{y - dy:.1f}"
    return _line(a, b, 0.8) + f'<polygon points="{head}" fill="currentColor"/>'


def _arc(a: Point, b: Point, colour: str) -> str:
    if a == b:
        return (
            f'<circle cx="{a[0] + 10:.1f}" cy="{a[1]:.1f}" r="8" fill="none" '
            f'stroke="{colour}" stroke-opacity="0.8"/>'
        )
    bend = a[0] + 26
    return (
        f'<path d="M{a[0]:.1f} {a[1]:.1f} Q{bend:.1f} {(a[1] + b[1]) / 2:.1f} '
        f'{b[0]:.1f} {b[1]:.1f}" fill="none" stroke="{colour}" stroke-opacity="0.8"/>'
    )


def _path(points: Iterable[Point], colour: str, width: float) -> str:
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{drawn}" fill="none" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )


def _dot(at: Point, radius: float, colour: str) -> str:
    return (
        f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:.1f}" fill="{colour}"/>'
    )


def _square(at: Point, side: float, colour: str) -> str:
    x, y = (each - side / 2 for each in at)
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{side}" height="{side}" '
        f'fill="{colour}"/>'
    )


def _box(x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="none" '
        'stroke="currentColor" stroke-opacity="0.6"/>'
    )


def _word(x: float, y: float, text: str, size: int, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="middle"{weight}>'
        f"{text}</text>"
    )


if __name__ == "__main__":
    for draw in (attentive, neuronal):
        path = Path(__file__).with_name(f"{draw.__name__}.svg")
        path.write_text(draw(), encoding="utf-8")
