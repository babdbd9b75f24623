"""A short fuzz of everything that reads: `make fuzz` is the long one.

mutated files  →  readers          →  samples or UserError
random JSON    →  configurations   →  a model's shapes or UserError
HTTP questions →  the explorer     →  an answer below 500, never a traceback
"""

import contextlib
import io
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import UNLABELLED, feed, mutated, small_run, targets

from nacs.data.base import DataFacts
from nacs.errors import UserError
from nacs.models import MODELS, config_from_json
from nacs.recipe import TrainConfig
from nacs.sized import sized

TARGETS = targets()
SHORT = 60


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", TARGETS)
def test_readers_of_broken_files(tmp_path, name):
    target, random = TARGETS[name], np.random.default_rng(1)
    target.beside(tmp_path)
    for seed in target.seeds:
        feed(target, tmp_path, seed)
        for _ in range(SHORT // len(target.seeds)):
            feed(target, tmp_path, mutated(seed, random))


def test_a_crash_would_be_seen(tmp_path):
    """A reader that raises something else, or names nothing, fails the tests above."""
    from dataclasses import replace

    def crash(_):
        raise KeyError("a")

    def nameless(_):
        raise UserError("something is wrong")

    for read, kind in ((crash, KeyError), (nameless, AssertionError)):
        with pytest.raises(kind):
            feed(replace(TARGETS["csv"], read=read), tmp_path, b"")


# --- configurations

NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 10**9, 10**400])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each),
    max_leaves=4,
)


def kinds():
    """Every kind of configuration and a good one of it."""
    made = {TrainConfig: TrainConfig(), DataFacts: UNLABELLED}
    made |= {row.config: row.preset("tiny") for row in MODELS.values()}
    return {kind: json.loads(json.dumps(asdict(good))) for kind, good in made.items()}


KINDS = kinds()
BUILDERS = {
    row.config: (row.build, row.build(row.preset("tiny")).state_dict())
    for row in MODELS.values()
}


@st.composite
def configurations(draw):
    """A good configuration in which a few values are anything."""
    kind = draw(st.sampled_from(list(KINDS)))
    values = json.loads(json.dumps(KINDS[kind]))
    for _ in range(draw(st.integers(1, 3))):
        inner = [v for v in values.values() if isinstance(v, dict)]
        place = draw(st.sampled_from([values, *inner]))
        names = st.sampled_from([*place, "unknown"]) if place else st.just("unknown")
        place[draw(names)] = draw(JSON)
    return kind, values


def tries(inputs):
    """As many inputs as asked for, the same every time, however long they take."""
    return settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def try_configurations(inputs):
    """Random configurations; returns how many were tried."""
    tried = 0

    @tries(inputs)
    @given(configurations())
    def each(given_):
        nonlocal tried
        tried += 1
        kind, values = given_
        with contextlib.suppress(UserError):
            made = config_from_json(kind, values)
            if kind in BUILDERS:
                sized(BUILDERS[kind][0], made, BUILDERS[kind][1])

    each()
    return tried


def test_configurations():
    assert try_configurations(SHORT) == SHORT


# --- the explorer


@contextlib.contextmanager
def explorer():
    """An explorer of an untrained run, and its folder."""
    from nacs.view import Viewed
    from nacs.view.server import app

    with tempfile.TemporaryDirectory() as made:
        viewed = Viewed(small_run(Path(made) / "run"), samples=8)
        viewed.document()
        viewed.curves()  # measured once, and kept
        yield app(viewed, 8324), Path(made)


def questions(app):
    """Cases of every route, of the right types and of wrong ones."""
    import schemathesis
    from fastapi.openapi.utils import get_openapi
    from schemathesis.generation import GenerationMode

    told = get_openapi(title="explorer", version="1", routes=app.routes)
    schema = schemathesis.openapi.from_dict(told)
    schema.app = app
    routes = [each.ok() for each in schema.get_all_operations()]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    return st.one_of(
        [
            route.as_strategy(generation_mode=mode)
            for route in routes
            for mode in modes
            if mode is GenerationMode.POSITIVE or "{" in route.path or _asks(route)
        ]
    )


def _asks(route):
    return bool(list(route.query) or list(route.body))


HOME = "http://127.0.0.1:8324"
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "host": st.sampled_from(["127.0.0.1:8324", "localhost:8324", "evil", ""]),
        "origin": st.sampled_from(["http://127.0.0.1:8324", "null", "http://evil"]),
    },
)


def try_http(inputs):
    """Random questions to the explorer; returns how many were asked."""
    asked = 0
    with explorer() as (app, made):

        @tries(inputs)
        @given(questions(app), HEADERS)
        def each(case, headers):
            nonlocal asked
            asked += 1
            with contextlib.redirect_stdout(io.StringIO()):
                answer = case.call(base_url=HOME, headers=headers, timeout=120)
            assert answer.status_code < 500, (case.method, case.formatted_path)
            if answer.status_code >= 400:
                told = answer.json()
                assert told.get("error") or told.get("detail"), told
            kept = {path.name for path in made.rglob("*") if path.is_file()}
            assert not {name for name in kept if name.endswith((".py", ".pkl"))}

        each()
    return asked


def test_http():
    pytest.importorskip("schemathesis")
    assert try_http(SHORT) == SHORT
