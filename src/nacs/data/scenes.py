"""Scenes in NLVR's look and simple sentences about them, true by program.

    random scenes  ×  sentence of a skill  →  one of which it is true, one of which not

The sentences are the paper's templates (appendix H) over NLVR's words and NLVR's own
towers, or drawn from a grammar of its writers' forms (`nacs.data.scene_forms`). Every
sentence is as often true as false, so it alone tells nothing; a scene is asked about in
many ways, so it alone tells little.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, appendix H.
    https://arxiv.org/abs/2210.08031
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from typing import Literal, TypeAlias

import numpy as np

from nacs.data.nlvr import BOX, COLOURS, SHAPES, Item, Scene, Statement
from nacs.data.scene_forms import WORDS, say

__all__ = [
    "EASY",
    "SKILLS",
    "Sentence",
    "Skill",
    "make_forms",
    "make_scenes",
    "part_of",
    "sentences",
]

Part: TypeAlias = Literal["train", "val", "test"]
Skill = Literal["hard cardinality", "soft cardinality", "existential", "spatial"]
SKILLS: tuple[Skill, ...] = (
    "hard cardinality",
    "soft cardinality",
    "existential",
    "spatial",
)
NUMBERS = {word: number for number, word in enumerate(WORDS, 1)}
EASY: Skill = "existential"
"""What is learned first."""


TOWERS = 0.65
"""Share of towers among NLVR's forms; of NLVR's statements it is 0.68."""

NEAR = 0.3
"""Share of sentences in NLVR's forms whose two scenes have the same items."""

TRIES = 300
"""Scenes that are looked at for one of which a sentence is true, or not."""

MANY = 4
"""From so many items on they are many; one to fewer than these are few."""

BLOCK = 20
"""Side of a tower's block in pixels; there is one pixel between two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """What can be said, and of which scenes it is true."""

    text: str
    skill: Skill
    holds: Callable[[Scene], bool]
    towers: bool = False
    """Whether it is said of towers rather than of scattered items."""


@dataclass(frozen=True, slots=True)
class _Noun:
    """Items by colour, shape or both."""

    colour: str | None
    shape: str | None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.colour, self.shape or "item")))

    def fits(self, item: Item) -> bool:
        right = self.colour in (None, item.colour)
        return right and self.shape in (None, item.shape)

    def count(self, scene: Scene) -> int:
        return sum(self.fits(item) for box in scene for item in box)


NOUNS = tuple(
    _Noun(colour, shape)
    for colour, shape in product((None, *COLOURS), (None, *SHAPES))
    if colour or shape
)


def _above(a: Item, b: Item) -> bool:
    return a.y + a.size <= b.y


def _left(a: Item, b: Item) -> bool:
    return a.x + a.size <= b.x


RELATIONS: dict[str, Callable[[Item, Item], bool]] = {
    "above": _above,
    "below": lambda a, b: _above(b, a),
    "to the left of": _left,
    "to the right of": lambda a, b: _left(b, a),
}
"""Of two items in one box; no part of one may reach the other."""


@cache
def sentences() -> tuple[Sentence, ...]:
    """All sentences there are."""
    return (*_existential(), *_hard(), *_soft(), *_spatial(), *_of_towers())


def _existential() -> Iterator[Sentence]:
    for noun in NOUNS:
        for text in (
            f"there is a {noun}",
            f"there are any {noun}s",
            f"there is at least one {noun}",
            f"there is a box with a {noun}",
            f"a box contains a {noun}",
        ):
            yield Sentence(
                text=text,
                skill="existential",
                holds=lambda scene, noun=noun: noun.count(scene) > 0,
            )
        if not (noun.colour and noun.shape):
            yield Sentence(
                text=f"there is a box with only {noun}s",
                skill="existential",
                holds=lambda scene, noun=noun: any(
                    noun.count((box,)) == len(box) for box in scene
                ),
            )


def _hard() -> Iterator[Sentence]:
    for noun, (word, number) in product(NOUNS, NUMBERS.items()):
        for told in (word, number):
            ending = "" if number == 1 else "s"
            yield Sentence(
                text=f"there {'are' if ending else 'is'} exactly {told} {noun}{ending}",
                skill="hard cardinality",
                holds=lambda s, noun=noun, number=number: noun.count(s) == number,
            )


def _soft() -> Iterator[Sentence]:
    for noun in NOUNS:
        yield Sentence(
            text=f"there are many {noun}s",
            skill="soft cardinality",
            holds=lambda scene, noun=noun: noun.count(scene) >= MANY,
        )
        yield Sentence(
            text=f"there are few {noun}s",
            skill="soft cardinality",
            holds=lambda scene, noun=noun: 0 < noun.count(scene) < MANY,
        )


def _spatial() -> Iterator[Sentence]:
    for (told, relation), one, other in product(RELATIONS.items(), NOUNS, NOUNS):

        def holds(
            scene: Scene,
            relation: Callable[[Item, Item], bool] = relation,
            one: _Noun = one,
            other: _Noun = other,
        ) -> bool:
            return any(
                relation(a, b)
                for box in scene
                for a in filter(one.fits, box)
                for b in filter(other.fits, box)
            )

        text = f"there is a {one} {told} a {other}"
        yield Sentence(text=text, skill="spatial", holds=holds)


def _of_towers() -> Iterator[Sentence]:
    for colour in COLOURS:
        yield Sentence(
            text=f"there is a tower with a {colour} block",
            skill="existential",
            holds=lambda scene, colour=colour: any(
                item.colour == colour for box in scene for item in box
            ),
            towers=True,
        )
        yield Sentence(
            text=f"there is a tower with only {colour} blocks",
            skill="existential",
            holds=lambda scene, colour=colour: any(
                all(item.colour == colour for item in box) for box in scene
            ),
            towers=True,
        )
    for colour, (told, place) in product(COLOURS, {"top": -1, "base": 0}.items()):
        yield Sentence(
            text=f"there is a tower with a {colour} block at the {told}",
            skill="spatial",
            holds=lambda scene, colour=colour, place=place: any(
                box[place].colour == colour for box in scene
            ),
            towers=True,
        )
    for over, under in product(COLOURS, COLOURS):
        yield Sentence(
            text=f"there is a {over} block over a {under} block",
            skill="spatial",
            holds=lambda scene, pair=(under, over): any(
                (a.colour, b.colour) == pair for box in scene for a, b in pairwise(box)
            ),
            towers=True,
        )
    for word, number in list(NUMBERS.items())[:4]:
        for told in (word, number):
            yield Sentence(
                text=f"there is a tower with exactly {told} "
                f"block{'s' if number > 1 else ''}",
                skill="hard cardinality",
                holds=lambda scene, number=number: any(
                    len(box) == number for box in scene
                ),
                towers=True,
            )


def part_of(text: str) -> Part:
    """Where a sentence belongs, whatever the seed: of ten, seven, one and two."""
    place = zlib.crc32(text.encode()) % 10
    return "train" if place < 7 else "val" if place < 8 else "test"


def make_scenes(samples: int, *, seed: int, part: Part) -> list[Statement]:
    """Templates' sentences of one part, half of them true of their scene and half not.

    Skills are equally likely, of scattered items and of towers each, but existential
    sentences twice as likely: they are learned first, and help with the others.

    Args:
        samples: How many; an even number.
        seed: Of scenes and draws.
        part: Whose sentences; see `part_of`.
    """
    random = np.random.default_rng(seed)
    pools = _pools(random, samples)
    groups: dict[tuple[Skill, bool], list[Sentence]] = {}
    for each in sentences():
        if part_of(each.text) == part:
            groups.setdefault((each.skill, each.towers), []).append(each)
    drawn = [*groups.values(), *(g for (s, _), g in groups.items() if s == EASY)]
    found: list[Statement] = []
    while len(found) < samples:
        group = drawn[random.integers(len(drawn))]
        sentence = group[random.integers(len(group))]
        scenes = _pair(sentence.holds, pools[sentence.towers], random)
        found += _told(sentence.text, scenes, len(found))
    return found


def make_forms(samples: int, *, seed: int, part: Part) -> list[Statement]:
    """Sentences in NLVR's forms, half of them true of their scene and half not.

    For some, the two scenes have the same items at each other's places, as in NLVR,
    whose writers told such scenes apart.

    Args:
        samples: How many; an even number.
        seed: Of sentences, scenes and draws.
        part: Whose sentences; see `part_of`.
    """
    random = np.random.default_rng(seed)
    pools = _pools(random, samples)
    found: list[Statement] = []
    while len(found) < samples:
        towers = bool(random.random() < TOWERS)
        text, holds = say(random, towers=towers)
        if part_of(text) == part:
            choose = _near_pair if random.random() < NEAR else _pair
            found += _told(text, choose(holds, pools[towers], random), len(found))
    return found


def _told(text: str, scenes: dict[bool, Scene], place: int) -> list[Statement]:
    """Two statements, if there are scenes for both."""
    if len(scenes) < 2:
        return []
    return [
        Statement(sentence=text, scene=scenes[true], true=true, name=f"{place + true}")
        for true in (False, True)
    ]


def _pair(
    holds: Callable[[Scene], bool], pool: list[Scene], random: np.random.Generator
) -> dict[bool, Scene]:
    """A scene of which it is false and one of which it is true, as far as found."""
    found: dict[bool, Scene] = {}
    for scene in _from_somewhere(pool, random):
        found.setdefault(holds(scene), scene)
        if len(found) == 2:
            break
    return found


def _near_pair(
    holds: Callable[[Scene], bool], pool: list[Scene], random: np.random.Generator
) -> dict[bool, Scene]:
    """Such scenes that differ only in which item has which looks; none if not found."""
    for scene in _from_somewhere(pool, random):
        other = _shuffled(scene, random)
        if holds(scene) != holds(other):
            return {holds(scene): scene, holds(other): other}
    return {}


def _from_somewhere(pool: list[Scene], random: np.random.Generator) -> Iterator[Scene]:
    start = int(random.integers(len(pool)))
    for step in range(min(len(pool), TRIES)):
        yield pool[(start + step) % len(pool)]


def _shuffled(scene: Scene, random: np.random.Generator) -> Scene:
    """The colours and shapes of all items at each other's places."""
    looks = [(item.colour, item.shape) for box in scene for item in box]
    order = iter(random.permutation(len(looks)))

    def changed(item: Item) -> Item:
        colour, shape = looks[next(order)]
        return item._replace(colour=colour, shape=shape)

    return tuple(tuple(map(changed, box)) for box in scene)


def _pools(
    random: np.random.Generator, samples: int
) -> tuple[list[Scene], list[Scene]]:
    """Scenes of scattered items, and of towers."""
    scattered, towers = (
        [_draw(random, towers) for _ in range(samples)] for towers in (False, True)
    )
    return scattered, towers


def _draw(random: np.random.Generator, towers: bool) -> Scene:
    return tuple(_tower(random) if towers else _scattered(random) for _ in range(3))


def _colour(random: np.random.Generator) -> str:
    return tuple(COLOURS)[random.integers(len(COLOURS))]


def _tower(random: np.random.Generator) -> tuple[Item, ...]:
    """One to four blocks, the base first."""
    return tuple(
        Item(40, BOX - (BLOCK + 1) * level - BLOCK, BLOCK, _colour(random), "square")
        for level in range(random.integers(1, 5))
    )


def _scattered(random: np.random.Generator) -> tuple[Item, ...]:
    """One to six items that do not overlap, some of them at the edge."""
    items: list[Item] = []
    wanted = random.integers(1, 7)
    while len(items) < wanted:
        size = int(random.choice((10, 20, 30)))
        x, y = (int(p) for p in random.integers(-10, BOX - size + 11, size=2))
        x, y = (min(max(place, 0), BOX - size) for place in (x, y))
        shape = SHAPES[random.integers(len(SHAPES))]
        item = Item(x, y, size, _colour(random), shape)
        if not any(_overlap(item, other) for other in items):
            items.append(item)
    return tuple(items)


def _overlap(a: Item, b: Item) -> bool:
    return not (_above(a, b) or _above(b, a) or _left(a, b) or _left(b, a))
