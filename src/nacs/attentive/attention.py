"""Messages between modules: attention gated by a sampled graph.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, eq 3.
    https://arxiv.org/abs/2210.08031
"""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nacs.attentive.circuit import Modules
from nacs.attentive.gated import gated_attention
from nacs.attentive.links import Links
from nacs.attentive.modulated import LayerScale, ModFC
from nacs.attentive.sparse import (
    EdgeList,
    block_attention,
    edge_attention,
    listed,
    skipped_blocks,
)

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["SKMDPA", "attention_weights", "merge_heads", "split_heads"]


def split_heads(
    states: Float[Tensor, "*batch modules channels"], heads: int
) -> Float[Tensor, "*batch heads modules head_width"]:
    """Channels to heads, head-major."""
    return states.unflatten(-1, (heads, -1)).transpose(-3, -2)


def merge_heads(
    states: Float[Tensor, "*batch heads modules head_width"],
) -> Float[Tensor, "*batch modules channels"]:
    """The inverse of `split_heads`."""
    return states.transpose(-3, -2).flatten(-2)


def attention_weights(
    queries: Float[Tensor, "*#batch heads receivers head_width"],
    keys: Float[Tensor, "*#batch heads senders head_width"],
    log_kernel: Float[Tensor, "*#batch #receivers senders"] | None,
) -> Float[Tensor, "*batch heads receivers senders"]:
    """W of eq 3, in plain steps: the reference for the fused path, and for pictures.

    A receiver that nobody may talk to gets weights of zero, not NaN.
    """
    logits = queries @ keys.mT / math.sqrt(queries.shape[-1])
    if log_kernel is not None:
        logits = logits + log_kernel.unsqueeze(-3)
    dead = (logits == -math.inf).all(-1, keepdim=True)
    return logits.masked_fill(dead, 0).softmax(-1).masked_fill(dead, 0)


class SKMDPA(nn.Module):
    """Stochastic kernel modulated dot-product attention between two groups of modules.

        W_i←j = softmax_j(A_ij + log K̂_ij),   K̂_ij = K_ij / (δ + Σ_j K_ij)    (eq 3)

    The denominator does not depend on j, so the softmax cancels it: log K_ij is added
    as it is, one mask for all heads. With `links=None` and no codes this is the plain
    pre-normed attention of a Perceiver IO.

    Queries and the output projection are modulated by the receiver's code, keys and
    values by the sender's, as in the released code (the paper does not say).

    References:
        Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, section 2, "SKMDPA".

    Args:
        width: Width of the receivers' states.
        sender_width: Width of the senders' states; None when one LayerNorm serves
            both because receivers and senders are the same kind of module.
        heads: Number of attention heads.
        head_width: Width of one head.
        code_features: Width of the codes; 0 for no modulation.
        links: The kernel; None lets everybody hear everybody.
        residual: Whether the receivers' states are added to the output.
        bias: Whether queries, keys and values have a bias.
        layer_scale: Start of a learned factor per channel; None for no such factor.
    """

    fixed_queries: Tensor | None
    fixed_kernel: Tensor | None
    fixed_receivers: Tensor | None
    fixed_senders: Tensor | None
    fixed_starts: Tensor | None

    def __init__(
        self,
        width: int,
        *,
        sender_width: int | None = None,
        heads: int,
        head_width: int,
        code_features: int = 0,
        links: Links | None = None,
        residual: bool = True,
        bias: bool = False,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.residual, self.links = heads, residual, links
        for name in ("queries", "kernel", *EdgeList._fields):
            self.register_buffer(f"fixed_{name}", None)
        self.fixed_blocks: BlockMask | None = None
        self.receiver_norm = nn.LayerNorm(width)
        self.sender_norm = None if sender_width is None else nn.LayerNorm(sender_width)
        wide, heard = heads * head_width, sender_width or width
        self.query = ModFC(width, wide, code_features=code_features, bias=bias)
        self.key = ModFC(heard, wide, code_features=code_features, bias=bias)
        self.value = ModFC(heard, wide, code_features=code_features, bias=bias)
        self.out = ModFC(wide, width, code_features=code_features)
        self.layer_scale = (
            nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        )

    def project(
        self, receivers: Modules, senders: Modules
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (*batch heads modules head_width)."""
        heard = self.receiver_norm if self.sender_norm is None else self.sender_norm
        sent = heard(senders.states)
        queries = self.fixed_queries
        if queries is None:
            queries = self.query(self.receiver_norm(receivers.states), receivers.codes)
        keys = self.key(sent, senders.codes)
        values = self.value(sent, senders.codes)
        q, k, v = (split_heads(each, self.heads) for each in (queries, keys, values))
        return q, k, v

    def log_kernel(
        self,
        receivers: Modules,
        senders: Modules,
        samples: int,
        edges: Bool[Tensor, "*#batch #receivers senders"] | None = None,
    ) -> Float[Tensor, "*batch receivers senders"] | None:
        """What is added to the logits: log K, −∞ where `edges` is False."""
        if self.fixed_kernel is not None:
            return self.fixed_kernel
        mask = None
        if self.links and receivers.signatures is not None:
            assert senders.signatures is not None
            mask = self.links(receivers.signatures, senders.signatures, samples)
        if edges is None:
            return mask
        if mask is None:
            mask = torch.zeros((), dtype=receivers.states.dtype, device=edges.device)
        return mask.masked_fill(~edges, -math.inf)

    def fix(
        self,
        receivers: Modules,
        senders: Modules,
        edges: Bool[Tensor, "receivers senders"] | None = None,
        *,
        states: bool = False,
        sparse: bool = True,
    ) -> None:
        """Compute for good what codes and signatures decide.

        Args:
            receivers: Without a batch axis.
            senders: Likewise.
            edges: As in `forward`.
            states: Whether the receivers' states are fixed as well, so the queries are.
            sparse: Whether few edges are kept as a list or as blocks, where that is
                faster.
        """
        kernel = self.log_kernel(receivers, senders, 1, edges)
        along = None
        if kernel is not None and sparse:
            along = listed(kernel.isfinite(), kernel)
        if kernel is not None and along is not None:
            for name, values in along._asdict().items():
                setattr(self, f"fixed_{name}", values)
            kernel = kernel[along.receivers, along.senders.long()].unsqueeze(0)
        elif kernel is not None and sparse:
            self.fixed_blocks = skipped_blocks(kernel.isfinite())
        self.fixed_kernel = kernel
        for layer in (self.query, self.out):
            layer.fix(receivers.codes)
        for layer in (self.key, self.value):
            layer.fix(senders.codes)
        if states:
            asking = self.receiver_norm(receivers.states)
            self.fixed_queries = self.query(asking, None)

    @property
    def fixed_edges(self) -> EdgeList | None:
        """The edges of a fixed graph, if they are kept as a list."""
        receivers, senders = self.fixed_receivers, self.fixed_senders
        starts = self.fixed_starts
        if receivers is None or senders is None or starts is None:
            return None
        return EdgeList(receivers, senders, starts)

    def forward(
        self,
        receivers: Modules,
        senders: Modules,
        edges: Bool[Tensor, "*#batch #receivers senders"] | None = None,
        along: EdgeList | None = None,
    ) -> Float[Tensor, "batch receivers width"]:
        """One round of messages; returns the receivers' new states.

        Args:
            receivers: Who hears.
            senders: Who is heard.
            edges: False where nobody may be heard.
            along: The same edges as a list, where that is faster; see `sparse.listed`.
        """
        queries, keys, values = self.project(receivers, senders)
        batch = torch.broadcast_shapes(queries.shape[:-3], keys.shape[:-3])
        queries, keys, values = (
            each.expand(*batch, *each.shape[-3:]) for each in (queries, keys, values)
        )
        along = self.fixed_edges or along
        if along is not None:
            kernel = self._kernel_along(receivers, senders, math.prod(batch), along)
            messages = edge_attention(queries, keys, values, along, kernel)
        elif self.fixed_blocks is not None and self.fixed_kernel is not None:
            kernel = self.fixed_kernel.to(queries.dtype)
            messages = block_attention(queries, keys, values, kernel, self.fixed_blocks)
        else:
            mask = self.log_kernel(receivers, senders, math.prod(batch), edges)
            messages = gated_attention(queries, keys, values, mask)
        out = self.layer_scale(self.out(merge_heads(messages), receivers.codes))
        return receivers.states + out if self.residual else out

    def _kernel_along(
        self, receivers: Modules, senders: Modules, samples: int, along: EdgeList
    ) -> Float[Tensor, "#batch edges"] | None:
        """Log K of the edges of a list."""
        if self.fixed_kernel is not None:
            return self.fixed_kernel
        if not self.links or receivers.signatures is None:
            return None
        assert senders.signatures is not None
        return self.links.on_edges(
            receivers.signatures, senders.signatures, samples, along
        )
