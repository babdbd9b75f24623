"""Graphons, matching, graph losses and signature fitting equal the released code.

Source: github.com/mweiss17/NeuralAttentiveCircuits@41ae372, recorded 2026-11-23;
tolerances are those of data/README.md (graphons and fits are float32).
"""

import pytest
import torch
from torch.testing import assert_close

from cases import load
from nacs.attentive.links import cosine_distance, link_probabilities
from nacs.attentive.priors import (
    erdos_renyi,
    fit_signatures,
    graph_loss,
    match,
    planted_partition,
    repulsion_loss,
    ring_of_cliques,
    scale_free,
    signature_distribution_loss,
)

NAMES = ["sbm", "ring", "scalefree", "erdos"]


def target_of(name, meta, modules):
    if name == "erdos":
        return erdos_renyi(modules, probability=meta["p"])
    if name == "scalefree":
        return scale_free(modules)
    sizes = {"blocks": meta["num_clusters"], "inside": meta["p_in"]}
    sizes["outside"] = meta["p_out"]
    if name == "sbm":
        return planted_partition(modules, **sizes)
    return ring_of_cliques(modules, closed=False, **sizes)


@pytest.mark.parametrize("size", ["U20", "U320"])
@pytest.mark.parametrize("name", NAMES)
def test_regulariser(size, name):
    shared, case = load("regularisers", size), load("regularisers", f"{size}.{name}")
    s = shared["s"].requires_grad_()
    target = case["graphon"].double()
    assert_close(target_of(name, case.meta, len(s)), target, atol=1e-7, rtol=0)
    links = link_probabilities(cosine_distance(s, s), shared["epsilon"])
    order = match(links, target, rounds=1)
    assert sorted(order.tolist()) == list(range(len(s)))
    if name == "scalefree":
        assert order.tolist() == case["assignment"].tolist()
    placed = links[order]
    cost = ((target - placed) ** 2).mean(1).sum()
    assert_close(cost, case["cost_total"], atol=1e-10, rtol=0)
    if "P" in shared:
        assert_close(links, shared["P"], atol=1e-10, rtol=0)
    # Equal costs leave the labels of equal columns open, and with them the loss.
    order = case["assignment"]
    loss = graph_loss(links, target, order, diagonal=True)
    assert_close(loss, case["loss"], atol=1e-10, rtol=0)
    (gradient,) = torch.autograd.grad(loss, s, retain_graph=True)
    assert_close(gradient, case["ds"], atol=1e-10, rtol=0)
    if "P_matched" in case:
        assert_close(links[order][:, order], case["P_matched"], atol=1e-10, rtol=0)
        kl = graph_loss(links, target, order, kind="kl", diagonal=True)
        assert_close(kl, case["loss_kl"], atol=1e-9, rtol=0)
        clipped = graph_loss(
            links, target, order, diagonal=True, clip=case.meta["clip"]
        )
        assert_close(clipped, case["loss_clip"], atol=1e-10, rtol=0)


def test_regulariser_at_half_the_bandwidth():
    case = load("regularisers", "bandwidth_half.sbm")
    s, target = case["s"].requires_grad_(), case["graphon"].double()
    links = link_probabilities(cosine_distance(s, s), case["epsilon"])
    loss = graph_loss(links, target, match(links, target, rounds=1), diagonal=True)
    assert_close(loss, case["loss"], atol=1e-10, rtol=0)
    (gradient,) = torch.autograd.grad(loss, s)
    assert_close(gradient, case["ds"], atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["hinge_0.4", "hinge_0.6"])
def test_repulsion(name):
    case = load("regularisers", name)
    groups = [case[key].requires_grad_() for key in ("s_in", "s_p", "s_o")]
    loss = repulsion_loss(torch.cat(groups), hinge=case.meta["hinge"])
    assert_close(loss, case["loss"], atol=1e-10, rtol=0)
    loss.backward()
    for group, key in zip(groups, ("ds_in", "ds_p", "ds_o"), strict=True):
        assert_close(group.grad, case[key], atol=1e-10, rtol=0)


def test_signature_distribution():
    case = load("regularisers", "signature_distribution")
    ends = [case["s_in"], case["s_o"]]
    now = torch.cat([ends[0], case["s_p"], ends[1]])
    then = torch.cat([ends[0], case["s_p_init"], ends[1]])
    loss = signature_distribution_loss(now, then)
    assert_close(loss, case["loss"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["barabasi", "planted", "ring", "erdos"])
def test_fitted_signatures(name):
    case = load("graph_init", name)
    for steps in (1, 2, 25, 200):
        fitted = fit_signatures(
            case["A"],
            case["s_init"],
            truncation=case["truncation"].item(),
            steps=steps,
        )
        tolerance = 1e-5 if steps <= 25 else 1e-3
        assert_close(fitted, case[f"s_after_{steps}"], atol=tolerance, rtol=0)


@pytest.mark.parametrize("make", [planted_partition, scale_free])
def test_a_relabelled_prior_is_recovered(make):
    torch.manual_seed(1)
    prior = make(60)
    order = torch.randperm(60)
    links = prior[order][:, order]
    assert graph_loss(links, prior, match(links, prior)) < 1e-4
    assert graph_loss(links, prior, torch.arange(60)) > 1e-3
