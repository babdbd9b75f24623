"""Simple sentences by reasoning skill, and how a conditional circuit tells them apart.

templates  →  link matrices P, or mean-pooled word tokens  →  PCA  →  silhouette, t-SNE

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, section 4.4, appendix H.
    https://arxiv.org/abs/2210.08031
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nacs.attentive import AttentiveCircuit
from nacs.data.base import Array
from nacs.data.scenes import SKILLS, Skill

__all__ = ["TEMPLATES", "Told", "drawn", "features", "map_of", "reduced", "separation"]

Told: TypeAlias = tuple[Skill, str]
"""A sentence and the skill it asks for."""

COMPONENTS = 64
"""Of the PCA, as in the paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What the templates are filled with."""

    integers: tuple[str, ...]
    objects: dict[str, str]
    """Plurals by singular."""

    colours: tuple[str, ...]
    relations: tuple[str, ...]


def _plural(names: Iterable[str]) -> dict[str, str]:
    return {name: f"{name}s" for name in names}


NUMBERS = ("two", "three", "four", "five", "six", "2", "3", "4", "5", "6")

PAPER = Words(
    integers=NUMBERS,
    objects={
        **_plural(["cat", "dog", "cheetah", "stingray", "marmot", "chimp", "gorilla"]),
        **_plural(["guinea pig", "paper towel"]),
        **_plural(["boat", "flute", "door", "laptop", "ball", "machine"]),
        "mouse": "mice",
        "jellyfish": "jellyfish",
    },
    colours=(
        *("blue", "black", "red", "green", "yellow", "purple", "orange", "white"),
        *("teal", "beige", "pink", "gray"),
    ),
    relations=(
        *("near", "far away from", "next to", "on top of", "under", "behind", "on"),
        *("by", "above", "in front of"),
    ),
)
"""Appendix H's own; it lists pink twice."""

NLVR = Words(
    integers=NUMBERS,
    objects={
        **_plural(["item", "square", "circle", "triangle"]),
        **_plural(
            f"{colour} {shape}"
            for colour in ("yellow", "black", "blue")
            for shape in ("square", "circle", "triangle")
        ),
    },
    colours=("yellow", "black", "blue"),
    relations=("above", "below", "to the left of", "to the right of", "over", "on"),
)
"""The same with words of NLVR."""


def _filled(words: Words, article: str) -> list[Told]:
    """A sentence for each combination; `article` comes before a second object."""
    one, many = words.objects, words.objects.values()
    plain = [each for each in one if not each.startswith(words.colours)]
    by_skill: dict[Skill, list[str]] = {
        "hard cardinality": [
            f"there are exactly {number} {each}"
            for number, each in product(words.integers, many)
        ],
        "soft cardinality": [f"there are many {each}" for each in many],
        "existential": [
            *(f"there is a {each}" for each in one),
            *(f"there are any {each}" for each in many),
            *(f"there is a {tint} {each}" for tint in words.colours for each in plain),
        ],
        "spatial": [
            f"there is a {a} {relation} {article}{b}"
            for a, relation, b in product(one, words.relations, one)
        ],
    }
    return list(
        dict.fromkeys(
            (skill, text) for skill, texts in by_skill.items() for text in texts
        )
    )


TEMPLATES: dict[str, list[Told]] = {
    "the paper's words": _filled(PAPER, ""),
    "NLVR's words": _filled(NLVR, "a "),
}
"""All sentences of each vocabulary; the first exactly as appendix H fills them."""


def drawn(told: Sequence[Told], most: int, *, seed: int = 0) -> list[Told]:
    """At most so many sentences of each skill, drawn at random."""
    random = np.random.default_rng(seed)
    chosen: list[Told] = []
    for skill in SKILLS:
        mine = [each for each in told if each[0] == skill]
        order = random.permutation(len(mine))[:most]
        chosen += [mine[place] for place in sorted(order)]
    return chosen


@torch.no_grad()
def features(
    model: AttentiveCircuit,
    context: Tensor,
    keep: Tensor,
    what: Literal["links", "words"],
) -> Array:
    """A row of numbers a sentence.

    Args:
        model: A conditional circuit with contexts of its own.
        context: (sentences, words).
        keep: False where a context is padding.
        what: The links of the circuit, below the diagonal (sentences, pairs), or the
            mean of the word tokens from which it is written (sentences, width).
    """
    assert model.context_tokenizer is not None
    rows: list[Tensor] = []
    for some in zip(context.split(256), keep.split(256), strict=True):
        tokens, there = model.context_tokenizer(*some)
        if what == "words":
            alive = there.unsqueeze(-1)
            rows.append((tokens * alive).sum(1) / alive.sum(1))
        else:
            links = model.links(model.design(tokens, there))
            count = links.shape[-1]
            row, column = torch.tril_indices(count, count, -1)
            rows.append(links[:, row, column])
    return torch.cat(rows).double().numpy()


def reduced(rows: Array) -> Array:
    """The first 64 principal components, or as many as there are."""
    from sklearn.decomposition import PCA

    count = min(COMPONENTS, *rows.shape)
    return PCA(count, svd_solver="full").fit_transform(rows)


def separation(rows: Array, told: Sequence[Told]) -> float:
    """Silhouette over skills, from -1 to 1; 0 where all rows are alike."""
    from sklearn.metrics import silhouette_score

    if not rows.std(0).max() > 1e-9:
        return 0.0
    return float(silhouette_score(rows, [skill for skill, _ in told]))


def map_of(rows: Array) -> list[list[float]]:
    """Places in two dimensions by t-SNE."""
    from sklearn.manifold import TSNE

    close = min(30.0, (len(rows) - 1) / 3)
    places: Any = TSNE(
        2, perplexity=close, init="random", random_state=0
    ).fit_transform(rows)
    return np.round(places.astype(np.float64), 1).tolist()
