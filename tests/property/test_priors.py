"""Laws of the graph priors, of their matching and of what surgery leaves of them."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nacs.attentive import AttentiveCircuit, drop_modules, presets
from nacs.attentive.priors import (
    PRIORS,
    graph_loss,
    graphon,
    match,
    ring_of_cliques,
    sample_graph,
    small_world,
)


@given(name=st.sampled_from(sorted(PRIORS)), modules=st.integers(1, 60))
def test_priors_are_symmetric_probabilities(name, modules):
    prior = graphon(name, modules)
    assert prior.shape == (modules, modules)
    assert torch.equal(prior, prior.T)
    assert ((prior >= 0) & (prior <= 1)).all()


@pytest.mark.parametrize("name", sorted(PRIORS))
def test_drawn_graphs_are_simple(name):
    drawn = sample_graph(name, 40, seed=1)
    assert torch.equal(drawn, drawn.T)
    assert (drawn.diagonal() == 0).all()
    assert set(drawn.unique().tolist()) == {0, 1}
    assert not torch.equal(drawn, sample_graph(name, 40, seed=2))


def test_the_ring_is_closed():
    """The last clique is tied to the first; the released code has a chain."""
    ring, chain = (ring_of_cliques(40, blocks=4, closed=c) for c in (True, False))
    assert (ring[:10, 30] == 1).all()
    assert (ring[30, :10] == 1).all()
    assert (chain[:10, 30] == 0.05).all()
    where = ring != chain
    where[:10, 30] = where[30, :10] = False
    assert not where.any()


def test_small_world_has_the_degrees_of_watts_and_strogatz():
    """Mean links of 200 graphs of networkx; four standard errors are 0.06."""
    drawn = [
        nx.to_numpy_array(nx.watts_strogatz_graph(30, 4, 0.2, seed=seed))
        for seed in range(200)
    ]
    mean = np.mean(drawn, axis=0)
    prior = small_world(30, neighbours=4, rewiring=0.2)
    prior.fill_diagonal_(0)
    apart = (torch.arange(30)[:, None] - torch.arange(30)).abs()
    near = torch.minimum(apart, 30 - apart) <= 2
    near.fill_diagonal_(False)
    far = ~near & ~torch.eye(30, dtype=torch.bool)
    for group in (near, far):
        assert prior[group].mean() == pytest.approx(
            mean[group.numpy()].mean(), abs=0.06
        )
    assert prior.sum() == pytest.approx(mean.sum(), rel=1e-6)


@pytest.mark.parametrize("name", ["planted-partition", "scale-free", "erdos-renyi"])
def test_a_relabelled_prior_is_found_again(name):
    prior = graphon(name, 60)
    order = torch.randperm(60)
    links = prior[order][:, order]
    assert graph_loss(links, prior, match(links, prior)) < 1e-12
    if name != "erdos-renyi":
        assert graph_loss(links, prior, torch.arange(60)) > 1e-4


@given(count=st.integers(11, 330), seed=st.integers(0, 99))
def test_a_relabelled_planted_prior_is_found_whatever_the_start(count, seed):
    """Also where blocks differ in size, and from the start that training has."""
    prior = graphon("planted-partition", count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    links = prior[order][:, order]
    found = match(links, prior, start=torch.arange(count))
    assert graph_loss(links, prior, found) < 1e-12
    assert sorted(found.tolist()) == list(range(count))


def test_matching_goes_on_from_where_it_was():
    """A labelling that is right is kept, though rows alone would lose it."""
    prior = graphon("ring-of-cliques", 40)
    order = torch.randperm(40)
    links = prior[order][:, order]
    right = order.argsort()
    assert graph_loss(links, prior, match(links, prior, start=right)) < 1e-12


@pytest.mark.parametrize("prior", ["planted-partition", "scale-free"])
def test_a_smaller_circuit_can_be_regularised(prior):
    model = AttentiveCircuit(replace(presets.tiny(), prior=prior))
    model.regulariser()
    smaller = drop_modules(model, 5)
    loss = smaller.regulariser()
    loss.backward()
    assert torch.isfinite(loss)
    assert sorted(smaller.labels.tolist()) == list(range(5))


def test_the_diagonal_counts_only_if_asked_for():
    links, prior, order = torch.eye(4), torch.zeros(4, 4), torch.arange(4)
    assert graph_loss(links, prior, order) == 0
    assert graph_loss(links, prior, order, diagonal=True) == 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": "code", "code": 8}, "set code=32"),
        ({"kept": 17}, r"`kept` must lie in \[0, modules=16\]"),
        ({"readers": 3}, '`readers` is for `wiring="relay"` alone'),
        ({"wiring": "relay"}, '`readers` is for `wiring="relay"` alone'),
        ({"bandwidth": 0.0}, "`bandwidth` must be positive"),
        ({"module_dropout": 1.5}, r"must lie in \[0, 1\]"),
        ({"modules": 0}, "`modules` must be at least 1"),
    ],
)
def test_bad_circuits(change, message):
    with pytest.raises(ValueError, match=message):
        replace(presets.tiny(), **change)


def test_bad_surgery():
    model = AttentiveCircuit(presets.tiny())
    with pytest.raises(ValueError, match=r"`keep` must lie in \[1, 16\]"):
        drop_modules(model, 17)
    conditional = AttentiveCircuit(replace(presets.tiny(), generator="conditional"))
    with pytest.raises(ValueError, match='drops modules by "importance", got "random"'):
        drop_modules(conditional, 3, order="random")
    with pytest.raises(ValueError, match="There is no prior 'ring'"):
        graphon("ring", 4)
