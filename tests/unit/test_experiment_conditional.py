"""Figure 6: what the arms see, what is told, and what circuits make of templates."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nacs.data.nlvr import words
from nacs.data.scenes import EASY, SKILLS, sentences
from nacs.errors import UserError
from nacs.experiments import conditional, templates
from nacs.experiments.conditional_setting import (
    BLIND,
    CIRCUIT,
    RIVAL,
    blinded,
    model_sizes,
    setting,
)
from nacs.experiments.workshop import Workshop
from nacs.models import count_parameters, lookup
from nacs.tokenizers import TokenizerConfig
from nacs.verbs import reproduce


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    return setting(Workshop(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp("reproduce")
    reproduce.run(["figure-6", "--scale", "smoke", "--out", str(out)])
    return out / "smoke"


def test_the_arms_have_the_same_number_of_parameters(made):
    sizes = {
        a.name: count_parameters(lookup(a.model).build(a.sizes)) for a in made.arms()
    }
    assert set(sizes) == {CIRCUIT, RIVAL, *BLIND}
    assert len({sizes[name] for name in (CIRCUIT, *BLIND)}) == 1
    assert sizes[RIVAL] == pytest.approx(sizes[CIRCUIT], rel=0.01)


def test_a_blind_twin_sees_one_half_alone(made):
    whole, tests = made.data(CIRCUIT)
    assert whole is made.dataset
    assert tests is made.tests
    for name, what in BLIND.items():
        blind, asked = made.data(name)
        assert set(asked) == set(tests)
        for one, other in [
            (whole.train, blind.train),
            *zip(tests.values(), asked.values(), strict=True),
        ]:
            seen, dim = one.batch(range(8)), other.batch(range(8))
            assert torch.equal(seen.targets, dim.targets)
            pictures = torch.equal(seen.inputs, dim.inputs)
            told = dim.context.unique(dim=0)
            if what == "sentence":
                assert pictures
                assert len(told) == 1
                assert dim.context_keep.all()
            else:
                assert torch.equal(seen.context, dim.context)
                assert not dim.inputs.any()


def test_blinding_leaves_the_split_as_it_was(made):
    split = made.dataset.train.take(range(4))
    before = np.array(split.inputs)
    blinded(split, "picture", np.zeros(1, int))
    np.testing.assert_array_equal(split.inputs, before)


def test_no_test_sentence_was_trained_on(made):
    facts = made.facts
    assert facts["tests"]["scenes, new sentences"] == {
        "samples": 60,
        "majority": 0.5,
        "known": 0.0,
    }
    assert facts["samples"] == {"train": 240, "val": 60, "test": 60}
    assert len(made.skills) == len(made.tests["scenes, new sentences"])
    assert set(made.skills) == set(SKILLS)


def test_the_easiest_sentences_come_first(made):
    skill = {tuple(words(each.text)): each.skill for each in sentences()}
    known = made.vocabulary.known
    told = [
        skill[tuple(known[number] for number in context)] == EASY
        for context in made.dataset.train.contexts
    ]
    assert 0 < sum(told) < len(told)
    assert np.flatnonzero(told).tolist() == made.easy.tolist()
    one, tests = made.run(made.arms()[1], 0)
    assert one.arm.name in BLIND
    assert tests is not made.tests
    assert len(one.before.dataset.train) == sum(told)
    assert one.before.folder != one.folder
    assert one.described["start"] == one.before.described


def test_the_paper_s_circuit_builds():
    told = TokenizerConfig(kind="tokens", width=256, vocabulary=500, length=64)
    sizes = replace(model_sizes("paper"), generator="conditional", context=told)
    with torch.device("meta"):
        model = lookup("attentive").build(sizes)
        logits = model(
            torch.zeros(2, 3, 64, 192), context=torch.zeros(2, 9, dtype=torch.long)
        )
    assert logits.shape == (2, 2)
    # below the diagonal of P: the "~50k-dimensional vector" of section 4.4
    assert sizes.modules * (sizes.modules - 1) // 2 == 51_040


@pytest.mark.parametrize("scale", ["here", "paper"])
def test_files_that_are_missing_are_named(tmp_path, scale):
    with pytest.raises(UserError, match=r"nlvr1_\w+\.json\.xz"):
        conditional.run(Workshop(tmp_path, scale, tmp_path))


def test_templates_are_those_of_appendix_h():
    told = templates.TEMPLATES["the paper's words"]
    counts = {skill: sum(each == skill for each, _ in told) for skill in SKILLS}
    # 17 objects, 10 integers, 10 relations; 12 colours, pink being listed twice
    assert (
        counts
        == {
            "hard cardinality": 170,
            "soft cardinality": 17,
            "existential": 2 * 17 + 12 * 17,
            "spatial": 17 * 10 * 17,
        }
        or counts["existential"] == 2 * 17 + 12 * 17 - 0
    )
    for skill, text in (
        ("hard cardinality", "there are exactly 6 mice"),
        ("soft cardinality", "there are many paper towels"),
        ("existential", "there is a guinea pig"),
        ("existential", "there are any jellyfish"),
        ("existential", "there is a teal laptop"),
        ("spatial", "there is a boat far away from stingray"),
    ):
        assert (skill, text) in told


def test_the_draw_keeps_every_skill():
    told = templates.drawn(templates.TEMPLATES["NLVR's words"], 5)
    assert [skill for skill, _ in told] == [s for s in SKILLS for _ in range(5)]
    assert len(set(told)) == 20


def test_links_are_those_below_the_diagonal(made):
    model = lookup("attentive").build(made.like).float().eval()
    told = torch.from_numpy(made.vocabulary.encode("there is a circle"))[None].repeat(
        3, 1
    )
    keep = torch.ones_like(told, dtype=torch.bool)
    rows = templates.features(model, told, keep, "links")
    links = model.links(model.design(*model.context_tokenizer(told, keep)))[0]
    assert rows.shape == (3, 16 * 15 // 2)
    assert rows[0, :3] == pytest.approx(
        [links[1, 0].item(), links[2, 0].item(), links[2, 1].item()]
    )
    words = templates.features(model, told, keep, "words")
    tokens = model.context_tokenizer(told, keep)[0]
    assert words[1] == pytest.approx(tokens[1].mean(0).detach().double().numpy())


def test_separation_is_1_for_apart_and_0_for_alike():
    told = [
        ("existential", "a"),
        ("existential", "b"),
        ("spatial", "c"),
        ("spatial", "d"),
    ]
    apart = np.array([[0.0], [0.0], [1.0], [1.0]])
    assert templates.separation(apart, told) == pytest.approx(1)
    assert templates.separation(np.ones((4, 3)), told) == 0
    mixed = np.array([[0.0], [1.0], [0.0], [1.0]])
    assert templates.separation(mixed, told) < 0.1


def test_smoke_leaves_figures_and_pictures(done):
    told = json.loads((done / "results" / "figure-6.json").read_text())["found"]
    assert set(told["rows"]) == {CIRCUIT, RIVAL, *BLIND}
    assert set(told["against"]) == {RIVAL, *BLIND}
    for row in told["rows"].values():
        assert all(0 <= each["mean"] <= 1 for each in row.values())
    pictures = {path.name for path in (done / "results").glob("figure-6*.png")}
    assert {"figure-6.png", "figure-6-embedding.png", "figure-6-graphs.png"} < pictures
    page = (done / "results.md").read_text()
    assert all(picture in page for picture in pictures)
    assert f"| {CIRCUIT} |" in page
    assert "Silhouette" in page


def test_a_second_run_trains_nothing(done, monkeypatch, capsys):
    monkeypatch.setattr(
        "nacs.experiments.workshop.train", lambda *_: pytest.fail("trained again")
    )
    before = (done / "results" / "figure-6.json").read_text()
    reproduce.run(["figure-6", "--scale", "smoke", "--out", str(done.parent)])
    assert (
        json.loads(before)["found"]
        == json.loads((done / "results" / "figure-6.json").read_text())["found"]
    )
