"""Sentences in the words of NLVR's writers, from a small grammar, true by program.

    count × thing                 there are exactly two black squares
    count × boxes × content       there is a tower with a blue block at the base
    which boxes × content         one of the grey boxes has at least 2 circles

A thing is a kind of item, perhaps at a place; a content is a count of things in one
box, or something about all its items. Forms, words and habits of writing are those of
the statements that NLVR publishes for development.

References:
    Suhr et al., A Corpus of Natural Language for Visual Reasoning, ACL 2017.
    https://aclanthology.org/P17-2034
"""

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from nacs.data.nlvr import BOX, COLOURS, SHAPES, Item, Scene

__all__ = ["WORDS", "say"]

Random: TypeAlias = np.random.Generator
Box: TypeAlias = tuple[Item, ...]
Said: TypeAlias = tuple[str, Callable[[Scene], bool]]
T = TypeVar("T")

WORDS = ("one", "two", "three", "four", "five", "six")
"""Numbers from one on."""

HEIGHT = 4
"""Blocks of the highest tower."""

LINKS = ("with", "with", "with", "having", "which has", "that contains")


class Count(NamedTuple):
    """How many, as it is said, and whether a number of things is so many."""

    text: str
    plural: bool
    fits: Callable[[int], bool]


class Thing(NamedTuple):
    """What is counted, how its place is told, and how many of it are in a box."""

    noun: str
    place: str
    within: Callable[[Box], int]

    def told(self, count: Count) -> str:
        """So many of it."""
        return f"{count.text} {self.noun}{'s' * count.plural} {self.place}".strip()


class Content(NamedTuple):
    """What a box is said to have, and whether it has."""

    text: str
    holds: Callable[[Box], bool]


def say(random: Random, *, towers: bool) -> Said:
    """A sentence, and of which scenes it is true.

    Args:
        random: What choices are drawn from.
        towers: Of towers of blocks rather than of scattered items.
    """
    forms = (_things, _boxes, _boxes, _which_boxes)
    return _one(random, (*forms, _tower) if towers else forms)(random, towers)


def _one(random: Random, options: Sequence[T]) -> T:
    return options[int(random.integers(len(options)))]


def _number(random: Random, number: int) -> str:
    """A number as a word or as a digit."""
    return _one(random, (WORDS[number - 1], str(number)))


def _count(random: Random, most: int) -> Count:
    """One to `most`, or none; small numbers more often.

    NLVR's writers mean no more by a bare digit, but perhaps more by a bare word.
    """
    if random.random() < 0.3:
        return Count(_one(random, ("a", "a", "a", "at least a")), False, bool)
    if random.random() < 0.05:
        return Count("no", False, lambda n: not n)
    number = min(int(random.geometric(0.45)), most)
    told = _number(random, number)
    how = _one(random, ("", "", "exactly", "exactly", "only", "at least", "atleast"))
    exact = how in {"exactly", "only"} or (not how and told.isdigit())
    return Count(
        f"{how} {told}".strip(),
        number > 1,
        lambda n: n == number if exact else n >= number,
    )


# --- things ---------------------------------------------------------------------------


def _thing(random: Random, towers: bool) -> Thing:
    return _block(random) if towers else _item(random)


def _item(random: Random) -> Thing:
    """Items of a colour or shape or both, or any, half of the time somewhere."""
    colour = _one(random, (None, *COLOURS, *COLOURS))
    shape = _one(random, (None, *SHAPES))
    noun = shape or _one(random, ("item", "object"))
    place, there = _one(random, (("", _anywhere), _place(random)))

    def within(box: Box) -> int:
        return sum(
            colour in (None, item.colour) and shape in (None, item.shape)
            for item in box
            if there(item)
        )

    return Thing(f"{colour or ''} {noun}".strip(), place, within)


def _place(random: Random) -> tuple[str, Callable[[Item], bool]]:
    """Where an item is in its box, in one of many ways to say it."""
    wall = _one(random, ("edge", "edge", "wall", "side"))
    which = _one(random, ("the", "the", "an" if wall == "edge" else "a"))
    close = _one(random, ("", "", "closely "))
    return _one(
        random,
        (
            (f"{close}touching {which} {wall}", _touches),
            (f"{close}touching {which} {wall}", _touches),
            (f"not touching any {wall}", lambda item: not _touches(item)),
            (f"not touching the {wall}", lambda item: not _touches(item)),
            ("touching the base", _low),
            (f"{close}touching the bottom of a box", _low),
            (f"{close}touching right wall of a box", _right),
            (f"{close}touching {_one(random, ('a', 'the'))} corner", _cornered),
        ),
    )


def _anywhere(item: Item) -> bool:  # noqa: ARG001
    return True


def _low(item: Item) -> bool:
    return item.y + item.size >= BOX


def _right(item: Item) -> bool:
    return item.x + item.size >= BOX


def _touches(item: Item) -> bool:
    return _low(item) or _right(item) or item.x <= 0 or item.y <= 0


def _cornered(item: Item) -> bool:
    return (_low(item) or item.y <= 0) and (_right(item) or item.x <= 0)


def _block(random: Random) -> Thing:
    """Blocks of a colour, anywhere, at an end, or next to one of a colour."""
    kind, colour = random.random(), _one(random, tuple(COLOURS))
    noun = f"{colour} block"
    if kind < 0.3:
        return Thing(noun, "", lambda box: sum(i.colour == colour for i in box))
    if kind < 0.65:
        told, where = _end(random)
        return Thing(noun, f"at the {told}", lambda box: _is(colour, box, where))
    other = _one(random, tuple(COLOURS))
    told = _one(random, ("over", "above", "on", "on top of", "below"))
    pair = (colour, other) if told == "below" else (other, colour)
    return Thing(
        noun,
        f"{told} a {other} block",
        lambda box: sum((a.colour, b.colour) == pair for a, b in pairwise(box)),
    )


def _end(random: Random) -> tuple[str, int]:
    return _one(random, (("top", -1), ("top", -1), ("base", 0), ("bottom", 0)))


def _is(colour: str, box: Box, where: int) -> bool:
    return bool(box) and box[where].colour == colour


# --- contents -------------------------------------------------------------------------


def _content(random: Random, towers: bool) -> Content:
    """Things, two kinds of them, how many items, these and things, or the colours."""
    kind, one = random.random(), _things_in(random, towers)
    if kind < 0.55:
        return one
    if kind < 0.62:
        return _both(one, "and", _things_in(random, towers))
    if kind < 0.75:
        return _size(random, towers)
    if kind < 0.87:
        link = _one(random, ("having", "with", "and", "which has"))
        return _both(_size(random, towers), link, one)
    return _colours(random, towers)


def _both(one: Content, link: str, other: Content) -> Content:
    return Content(
        f"{one.text} {link} {other.text}",
        lambda box: one.holds(box) and other.holds(box),
    )


def _things_in(random: Random, towers: bool) -> Content:
    thing = _thing(random, towers)
    count = _count(random, 1 if towers and thing.place else 3)  # a tower has one top
    return Content(thing.told(count), lambda box: count.fits(thing.within(box)))


def _size(random: Random, towers: bool) -> Content:
    """How many items a box has; a bare number is exact."""
    number = int(random.integers(1, HEIGHT + 1 if towers else len(WORDS) + 1))
    noun = "block" if towers else _one(random, ("item", "object"))
    how, fits = _one(
        random,
        (
            *[(how, lambda n: n == number) for how in ("", "exactly ", "only ")],
            ("at least ", lambda n: n >= number),
            ("more than ", lambda n: n > number),
        ),
    )
    text = f"{how}{_number(random, number)} {noun}{'s' * (number > 1)}"
    return Content(text, lambda box: fits(len(box)))


def _colours(random: Random, towers: bool) -> Content:
    """Which colours a box has, or how many, or which are together or on top."""
    noun = "block" if towers else _one(random, ("item", "object"))
    one, other = (str(each) for each in random.permutation(tuple(COLOURS))[:2])
    many, size = (int(each) for each in random.integers((1, 2), (4, 4)))
    told = f"{('only ', '', 'all ')[many - 1]}{_number(random, many)}"
    kind = _one(random, ("", "different ")) + f"color{'s' * (many > 1)}"
    ends = (
        Content(
            f"{_number(random, size)} {one} blocks stacked together",
            lambda box: _together(box, one) >= size,
        )
        if towers
        else Content(
            f"{size} {noun}s and {_one(random, ('a', 'the'))} {one} one on top",
            lambda box: len(box) == size and _highest(box).colour == one,
        )
    )
    return _one(
        random,
        (
            ends,
            Content(f"only {one} {noun}s", lambda box: _seen(box) == {one}),
            Content(
                f"only {one} and {other} {noun}s",
                lambda box: _seen(box) == {one, other},
            ),
            Content(f"{noun}s of {told} {kind}", lambda box: len(_seen(box)) == many),
        ),
    )


def _seen(box: Box) -> set[str]:
    return {item.colour for item in box}


def _highest(box: Box) -> Item:
    return min(box, key=lambda item: item.y)


def _together(box: Box, colour: str) -> int:
    """The most blocks of a colour that lie on each other."""
    runs = groupby(item.colour for item in box)
    return max((len(list(run)) for of, run in runs if of == colour), default=0)


# --- sentences ------------------------------------------------------------------------


def _things(random: Random, towers: bool) -> Said:
    """There are so many things, wherever they are."""
    count = _count(random, HEIGHT)
    ends = towers and random.random() < 0.4
    thing = _end_of_a_tower(random) if ends else _thing(random, towers)
    text = f"{_there(count)} {thing.told(count)}"
    return text, lambda scene: count.fits(sum(map(thing.within, scene)))


def _there(count: Count) -> str:
    return "there are" if count.plural else "there is"


def _end_of_a_tower(random: Random) -> Thing:
    """A block as the top or base of a tower, half of the time one of some height."""
    colour, (told, where) = _one(random, tuple(COLOURS)), _end(random)
    size = _one(random, (Content("", bool), _size(random, towers=True)))
    place = f"as the {told} of a tower{size.text and ' with '}{size.text}"
    return Thing(
        f"{colour} block",
        place,
        lambda box: _is(colour, box, where) and size.holds(box),
    )


def _boxes(random: Random, towers: bool) -> Said:
    """There are so many boxes with a content."""
    count, content = _count(random, 2), _content(random, towers)
    noun = "tower" if towers else _one(random, ("box", "box", "grey box"))
    several = "s" if towers else "es"
    told = f"{count.text} {noun}{several * count.plural} {_one(random, LINKS)}"
    return (
        f"{_there(count)} {told} {content.text}",
        lambda scene: count.fits(sum(map(content.holds, scene))),
    )


def _which_boxes(random: Random, towers: bool) -> Said:
    """All boxes, or at least one or two of them, have a content."""
    content = _content(random, towers)
    if towers and random.random() < 0.4:
        colour = _one(random, tuple(COLOURS))
        content = Content(f"a {colour} base", lambda box: _is(colour, box, 0))
    every = ("all towers", "all 3 towers", "each tower")
    among, noun = "towers", "tower"
    if not towers:
        every = ("each box", "each grey box")
        among, noun = _one(random, ("grey boxes", "grey box", "grey square")), "box"
    which, least = _one(
        random,
        (
            (_one(random, every), 3),
            (f"one of the {among}", 1),
            (f"two of the {among}", 2),
            (f"one {noun}", 1),
        ),
    )
    verb = _one(random, ("has", "has", "have", "contains"))
    return (
        f"{which} {verb} {content.text}",
        lambda scene: sum(map(content.holds, scene)) >= least,
    )


def _tower(random: Random, towers: bool) -> Said:  # noqa: ARG001
    """A tower that is told by its height or by its colour."""
    number = int(random.integers(1, HEIGHT + 1))
    colour, (told, where) = _one(random, tuple(COLOURS)), _end(random)
    size = f"{WORDS[number - 1]} block{'s' * (number > 1)}"

    def at_end(box: Box) -> bool:
        return len(box) == number and _is(colour, box, where)

    def plain(box: Box) -> bool:
        return _seen(box) == {colour}

    text, holds = _one(
        random,
        (
            (f"the tower with {size} has a {colour} block at the {told}", at_end),
            (f"the {told} of the {size} tower is {colour}", at_end),
            (f"there is a {colour} tower", plain),
            (
                f"there is a {colour} tower with only {size}",
                lambda box: plain(box) and len(box) == number,
            ),
        ),
    )
    return text, lambda scene: any(map(holds, scene))
