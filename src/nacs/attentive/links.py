"""From signatures to links: who may hear whom, and how likely.

    P_ij = exp(−d(s_i, s_j) / ε),   d = 1 − cosine similarity       (eq 2)
    K_ij ~ Concrete(P_ij, τ)                                         (eq 2)

i receives, j sends. Everything stays in log space: P_ii = 1 has an infinite logit, and
the logarithm of a K that underflows has no gradient.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, section 2, "SKMDPA".
    https://arxiv.org/abs/2210.08031
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nacs.attentive.config import Evaluation
from nacs.attentive.sparse import EdgeList

__all__ = [
    "Links",
    "cosine_distance",
    "importance",
    "link_log_probabilities",
    "link_probabilities",
    "sample_log_kernel",
    "strongest_edges",
    "threshold_log_kernel",
]


def cosine_distance(
    receivers: Float[Tensor, "*batch receivers signature"],
    senders: Float[Tensor, "*batch senders signature"],
) -> Float[Tensor, "*batch receivers senders"]:
    """1 − cosine similarity of every pair, in [0, 2]; a zero signature is at 1."""
    receivers = F.normalize(receivers, dim=-1, eps=1e-12)
    senders = F.normalize(senders, dim=-1, eps=1e-12)
    return 1 - receivers @ senders.mT


def link_log_probabilities(
    distance: Float[Tensor, "*batch receivers senders"],
    bandwidth: Float[Tensor, ""] | float,
    *,
    truncation: float | None = None,
    self_links: bool = True,
) -> Float[Tensor, "*batch receivers senders"]:
    """Log P = −d/ε (eq 2), −∞ where there can be no link.

    Args:
        distance: Of receiver i (row) and sender j (column), in [0, 2].
        bandwidth: ε > 0. At ε = 1 no link is weaker than e⁻², so the graph is dense.
        truncation: Largest distance at which a link exists; None for no limit.
        self_links: Whether a module hears itself; False needs as many rows as columns.
    """
    log_p = distance / -bandwidth
    if truncation is not None:
        log_p = log_p.masked_fill(distance > truncation, -math.inf)
    if not self_links:
        eye = torch.eye(distance.shape[-1], dtype=torch.bool, device=distance.device)
        log_p = log_p.masked_fill(eye, -math.inf)
    return log_p


def link_probabilities(
    distance: Float[Tensor, "*batch receivers senders"],
    bandwidth: Float[Tensor, ""] | float,
    *,
    truncation: float | None = None,
    straight_through: bool = False,
) -> Float[Tensor, "*batch receivers senders"]:
    """P of eq 2; `straight_through` lets a truncated link keep the gradient of its P.

    Args:
        distance: Of receiver i (row) and sender j (column), in [0, 2].
        bandwidth: ε > 0.
        truncation: Largest distance at which a link exists; None for no limit.
        straight_through: Otherwise a truncated link gets no gradient and stays gone.
    """
    if not straight_through:
        return link_log_probabilities(distance, bandwidth, truncation=truncation).exp()
    whole = link_log_probabilities(distance, bandwidth).exp()
    if truncation is None:
        return whole
    return whole - whole.detach() * (distance > truncation)


def sample_log_kernel(
    log_p: Float[Tensor, "*batch receivers senders"],
    uniform: Float[Tensor, "*samples receivers senders"],
    temperature: float,
) -> Float[Tensor, "*samples receivers senders"]:
    """Log K of a binary Concrete K (Maddison et al. 2017) by reparameterisation.

        log K = logsigmoid((logit P + logit u) / τ)

    P and u are kept e away from 0 and 1, e the precision of the dtype, so a link that
    is impossible or certain is sampled like one of probability e or 1 − e, and has no
    gradient.

    Args:
        log_p: From `link_log_probabilities`.
        uniform: Draws from [0, 1), one per link and sample.
        temperature: τ > 0. At 0 every K would be 0 or 1.
    """
    tiny = torch.finfo(log_p.dtype).eps
    # log(1 − P) through expm1: 1 − exp(log P) cancels to 0 for close signatures.
    log_p = log_p.clamp(math.log(tiny), -tiny)
    logit_p = log_p - torch.log(-torch.expm1(log_p))
    logit_u = torch.logit(uniform, eps=tiny)  # with τ below, one pass each
    scaled = torch.add(logit_p / temperature, logit_u, alpha=1 / temperature)
    return F.logsigmoid(scaled)


def threshold_log_kernel(
    log_p: Float[Tensor, "*batch receivers senders"],
) -> Float[Tensor, "*batch receivers senders"]:
    """Log K with K = 1 where P ≥ ½ and 0 elsewhere."""
    return torch.zeros_like(log_p).masked_fill(log_p < math.log(0.5), -math.inf)


def importance(
    links: Float[Tensor, "*batch modules modules"],
) -> Float[Tensor, "*batch modules"]:
    """q_i = Σ_j P_ij (eq 10): how strongly module i is connected."""
    return links.sum(-1)


def strongest_edges(
    links: Float[Tensor, "*batch modules modules"], removed: float
) -> Bool[Tensor, "*batch modules modules"]:
    """True where an edge survives when the weakest are eliminated (appendix F).

    An edge is an unordered pair of two modules and goes in both directions; the
    diagonal always stays. Exactly round(`removed` · pairs) edges go.

    Raises:
        ValueError: If `removed` is not in [0, 1].
    """
    if not 0 <= removed <= 1:
        raise ValueError(
            f"`removed` must lie in [0, 1], got {removed}; it is the share of edges "
            "that are eliminated, for example 0.9."
        )
    size = links.shape[-1]
    row, column = torch.tril_indices(size, size, -1, device=links.device)
    weakest = links[..., row, column].argsort(dim=-1, stable=True)
    weakest = weakest[..., : round(removed * len(row))]
    kept = torch.ones_like(links, dtype=torch.bool).flatten(-2)
    kept = kept.scatter(-1, row[weakest] * size + column[weakest], value=False)
    kept = kept.scatter(-1, column[weakest] * size + row[weakest], value=False)
    return kept.view(links.shape)


class Links(nn.Module):
    """The stochastic kernel between two groups of modules, as a logarithm.

    In training K is sampled, one per sample of the batch, and shared by all heads. In
    evaluation it is deterministic, as the released code has it and unlike the text of
    the paper, unless `evaluation` says otherwise.

    References:
        Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, eq 2.

    Args:
        bandwidth: ε > 0, in units of cosine distance.
        temperature: τ > 0 of the Concrete distribution.
        learnable_bandwidth: Whether ε is trained.
        truncation: Largest distance at which a link exists; None for no limit.
        evaluation: "expected" (log K = log P), "threshold" (P < ½ is no link) or
            "sample" (as in training).
    """

    def __init__(
        self,
        bandwidth: float,
        *,
        temperature: float = 0.5,
        learnable_bandwidth: bool = False,
        truncation: float | None = None,
        evaluation: Evaluation = "expected",
    ) -> None:
        super().__init__()
        width = torch.tensor(float(bandwidth))
        if learnable_bandwidth:
            self.bandwidth = nn.Parameter(width)
        else:
            self.register_buffer("bandwidth", width)
        self.temperature = temperature
        self.truncation = truncation
        self.evaluation = evaluation

    def log_probabilities(
        self,
        receivers: Float[Tensor, "*batch receivers signature"],
        senders: Float[Tensor, "*batch senders signature"],
    ) -> Float[Tensor, "*batch receivers senders"]:
        """Log P of every pair, in float32 or better whatever autocast says."""
        # The meta device, on which models are counted, knows no autocast.
        device = "cpu" if receivers.is_meta else receivers.device.type
        exact = torch.promote_types(receivers.dtype, torch.float32)
        with torch.autocast(device, enabled=False):
            distance = cosine_distance(receivers.to(exact), senders.to(exact))
        return link_log_probabilities(
            distance, self.bandwidth, truncation=self.truncation
        )

    def forward(
        self,
        receivers: Float[Tensor, "*#batch receivers signature"],
        senders: Float[Tensor, "*#batch senders signature"],
        samples: int,
    ) -> Float[Tensor, "*batch receivers senders"]:
        """Log K; with a leading axis of `samples` where it is sampled."""
        return self._log_kernel(self.log_probabilities(receivers, senders), samples)

    def on_edges(
        self,
        receivers: Float[Tensor, "receivers signature"],
        senders: Float[Tensor, "senders signature"],
        samples: int,
        edges: EdgeList,
    ) -> Float[Tensor, "#samples edges"]:
        """Log K of the edges of a list alone: no other is sampled.

        Where edges are so few that copying their signatures costs less than the product
        of all pairs, no other has a distance either.
        """
        to, come = edges.receivers, edges.senders.long()
        if 3 * len(to) * receivers.shape[-1] < len(receivers) * len(senders):
            ends = receivers[to].unsqueeze(-2), senders[come].unsqueeze(-2)
            log_p = self.log_probabilities(*ends).flatten().unsqueeze(0)
        else:
            log_p = self.log_probabilities(receivers, senders)[to, come].unsqueeze(0)
        log_k = self._log_kernel(log_p, samples)
        return log_k if log_k.ndim == 2 else log_k.squeeze(1)

    def _log_kernel(
        self, log_p: Float[Tensor, "*batch receivers senders"], samples: int
    ) -> Float[Tensor, "*samples receivers senders"]:
        if self.training or self.evaluation == "sample":
            shape = (samples, *log_p.shape[-2:])
            uniform = torch.rand(shape, dtype=log_p.dtype, device=log_p.device)
            return sample_log_kernel(log_p, uniform, self.temperature)
        if self.evaluation == "threshold":
            return threshold_log_kernel(log_p)
        return log_p
