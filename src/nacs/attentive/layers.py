"""The executor's three layers: read-in, propagator, read-out.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, section 2.1.
    https://arxiv.org/abs/2210.08031
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nacs.attentive.attention import SKMDPA, merge_heads, split_heads
from nacs.attentive.circuit import Modules
from nacs.attentive.modulated import LayerScale, ModFC, ModFFN
from nacs.attentive.sparse import EdgeList

__all__ = [
    "Form",
    "Propagator",
    "ReadIn",
    "ReadInAttention",
    "ReadOut",
    "confidence_weights",
]

Form = Literal["auto", "folded", "plain"]


class ReadInAttention(nn.Module):
    """Every module attends to the tokens with keys and values of its own.

        q_u = ModFC(θ_u, c_u)   k_uj = ModFC(x_j, c_u)   v_uj = ModFC(x_j, c_u)  (eq 4)
        y_u = ModFC(Σ_j softmax_j(q_u · k_uj / √d) v_uj, c_u)                    (eq 5)

    The *plain* form builds all U × N keys and values. The *folded* form never does:
    q_u · k_uj = (m_u ⊙ W_kᵀ q_u) · x_j + const(u), softmax ignores the constant, and
    Σ_j a_uj v_uj = W_v (m_u ⊙ Σ_j a_uj x_j) + b_v, so the tokens themselves are the
    keys and the values. Both give the same numbers; "auto" takes the cheaper.

    Args:
        width: Width of the modules' states.
        token_width: Width of the tokens.
        heads: Number of attention heads.
        head_width: Width of one head.
        code_features: Width of the codes; 0 for no modulation.
        form: "auto", "folded" or "plain".
        shared_keys: Whether all modules share unmodulated keys and values, which the
            paper names as a cheaper variant (appendix F).
        bias: Whether queries, keys and values have a bias.
        residual: Whether the modules' states are added to the output.
        layer_scale: Start of a learned factor per channel; None for no such factor.
    """

    fixed_queries: Tensor | None

    def __init__(
        self,
        width: int,
        token_width: int,
        *,
        heads: int,
        head_width: int,
        code_features: int = 0,
        form: Form = "auto",
        shared_keys: bool = False,
        bias: bool = False,
        residual: bool = True,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.head_width, self.form = heads, head_width, form
        self.residual, self.bias = residual, bias
        self.register_buffer("fixed_queries", None)
        self.receiver_norm = nn.LayerNorm(width)
        self.token_norm = nn.LayerNorm(token_width)
        wide, heard = heads * head_width, 0 if shared_keys else code_features
        self.query = ModFC(width, wide, code_features=code_features, bias=bias)
        self.key = ModFC(token_width, wide, code_features=heard, bias=bias)
        self.value = ModFC(token_width, wide, code_features=heard, bias=bias)
        self.out = ModFC(wide, width, code_features=code_features)
        self.layer_scale = (
            nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        )

    def forward(
        self,
        modules: Modules,
        tokens: Float[Tensor, "batch tokens token_width"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch modules width"]:
        """Read the tokens; those where `keep` is False are not there."""
        tokens = self.token_norm(tokens)
        if keep is not None:  # whatever the padding holds must not reach 0 · NaN
            tokens = torch.where(keep.unsqueeze(-1), tokens, 0)
        if self.fixed_queries is not None:
            heard = self.folded(self.fixed_queries, tokens, modules.codes, keep)
        else:
            queries = self.query(self.receiver_norm(modules.states), modules.codes)
            if self.is_plain_cheaper(modules, tokens):
                heard = self.plain(queries, tokens, modules.codes, keep)
            else:
                asked = self.folded_queries(queries, modules.codes)
                heard = self.folded(asked, tokens, modules.codes, keep)
        out = self.layer_scale(self.out(heard, modules.codes))
        return modules.states + out if self.residual else out

    def is_plain_cheaper(self, modules: Modules, tokens: Tensor) -> bool:
        """Compare the multiply-adds of the two forms, unless one was asked for."""
        if self.form != "auto":
            return self.form == "plain"
        if torch.compiler.is_exporting():  # a program of any length has one form
            return False
        count, width = tokens.shape[-2:]
        receivers, wide = modules.states.shape[-2], self.heads * self.head_width
        shared = self.key.code_to_scale is None
        projected = count if shared else receivers * count
        plain = 2 * projected * width * wide + 2 * receivers * count * wide
        folded = 2 * receivers * width * (wide + self.heads * count)
        return plain < folded

    def plain(
        self,
        queries: Float[Tensor, "*#batch modules channels"],
        tokens: Float[Tensor, "batch tokens token_width"],
        codes: Float[Tensor, "*#batch modules code"] | None,
        keep: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch modules channels"]:
        """The read-in as eqs 4 and 5 write it: the reference.

        Keys that all modules share are no more than a Perceiver's, for torch's own.
        """
        codes = None if codes is None else codes.unsqueeze(-3)
        each = tokens.unsqueeze(-2)  # batch tokens 1 token_width
        keys, values = self.key(each, codes), self.value(each, codes)
        if keys.shape[-2] == 1:
            q = split_heads(queries, self.heads).expand(len(tokens), -1, -1, -1)
            k, v = (split_heads(x.squeeze(-2), self.heads) for x in (keys, values))
            mask = None if keep is None else keep[:, None, None]
            return merge_heads(F.scaled_dot_product_attention(q, k, v, mask))
        keys, values = (x.unflatten(-1, (self.heads, -1)) for x in (keys, values))
        queries = queries.unflatten(-1, (self.heads, -1))
        logits = torch.einsum("...uhd,...nuhd->...hun", queries, keys)
        logits = logits / math.sqrt(self.head_width)
        if keep is not None:
            empty = ~keep.any(-1, keepdim=True)
            logits = logits.masked_fill(~(keep | empty)[:, None, None], -math.inf)
        weights = logits.softmax(-1)
        if keep is not None:
            weights = weights * keep[:, None, None]
        return torch.einsum("...hun,...nuhd->...uhd", weights, values).flatten(-2)

    def fix(self, modules: Modules) -> None:
        """Compute for good what the modules decide, in the folded form."""
        queries = self.query(self.receiver_norm(modules.states), modules.codes)
        self.fixed_queries = self.folded_queries(queries, modules.codes)
        for layer in (self.query, self.key, self.value, self.out):
            layer.fix(modules.codes)

    def folded(
        self,
        asked: Float[Tensor, "*#batch asked token_width"],
        tokens: Float[Tensor, "batch tokens token_width"],
        codes: Float[Tensor, "*#batch modules code"] | None,
        keep: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch modules channels"]:
        """The same numbers from O(U d² + U N d) multiply-adds.

        Args:
            asked: From `folded_queries`, heads before modules.
            tokens: Normalised.
            codes: The modules'.
            keep: False where a token is not there.
        """
        asked = asked.expand(tokens.shape[0], *asked.shape[-2:])
        # The flash kernel on the processor needs a head axis.
        pooled = F.scaled_dot_product_attention(
            asked.unsqueeze(1),
            tokens.unsqueeze(1),
            tokens.unsqueeze(1),
            None if keep is None else keep[:, None, None],
            scale=1 / math.sqrt(self.head_width),
        ).squeeze(1)
        pooled = pooled.unflatten(-2, (self.heads, -1))  # batch heads modules token
        scale = self.value.scale(codes)
        if scale is not None:
            pooled = pooled * scale.unsqueeze(-3)
        weight = self.value.linear.weight.unflatten(0, (self.heads, -1))
        heard = merge_heads(pooled @ weight.mT)
        if not self.bias:
            return heard
        alive = 1 if keep is None else keep.any(-1)[:, None, None]
        return heard + self.value.linear.bias * alive

    def folded_queries(
        self,
        queries: Float[Tensor, "*#batch modules channels"],
        codes: Float[Tensor, "*#batch modules code"] | None,
    ) -> Float[Tensor, "*batch asked token_width"]:
        """m_u ⊙ W_kᵀ q_u for every head and module: queries that address tokens."""
        weight = self.key.linear.weight.unflatten(0, (self.heads, -1))
        asked = split_heads(queries, self.heads) @ weight
        scale = self.key.scale(codes)
        return (asked if scale is None else asked * scale.unsqueeze(-3)).flatten(-3, -2)


class ReadIn(nn.Module):
    """Read-in attention, then every module computes (ModFFN)."""

    def __init__(self, attention: ReadInAttention, ffn: ModFFN) -> None:
        super().__init__()
        self.attention, self.ffn = attention, ffn

    def fix(self, modules: Modules) -> None:
        """See `ReadInAttention.fix`."""
        self.attention.fix(modules)
        self.ffn.fix(modules.codes)

    def forward(
        self,
        modules: Modules,
        tokens: Float[Tensor, "batch tokens token_width"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch modules width"]:
        """The modules' states after reading the tokens."""
        return self.ffn(self.attention(modules, tokens, keep), modules.codes)


class Propagator(nn.Module):
    """One round of messages between modules (SKMDPA), then each computes (ModFFN)."""

    def __init__(self, attention: SKMDPA, ffn: ModFFN) -> None:
        super().__init__()
        self.attention, self.ffn = attention, ffn

    def fix(
        self,
        receivers: Modules,
        senders: Modules,
        edges: Bool[Tensor, "receivers senders"] | None,
        *,
        sparse: bool = True,
    ) -> None:
        """See `SKMDPA.fix`."""
        self.attention.fix(receivers, senders, edges, sparse=sparse)
        self.ffn.fix(receivers.codes)

    def forward(
        self,
        receivers: Modules,
        senders: Modules,
        edges: Bool[Tensor, "*#batch #receivers senders"] | None = None,
        along: EdgeList | None = None,
    ) -> Float[Tensor, "batch receivers width"]:
        """The receivers' states after one layer; see `SKMDPA.forward`."""
        heard = self.attention(receivers, senders, edges, along)
        return self.ffn(heard, receivers.codes)


def confidence_weights(
    confidences: Float[Tensor, "*batch outputs"],
    *,
    temperature: float = 1.0,
    exponential: Float[Tensor, "*batch outputs"] | None = None,
    hard: bool = False,
) -> Float[Tensor, "*batch outputs"]:
    """Softmax of the read-outs' confidences, or a Gumbel softmax of them.

    Args:
        confidences: One unbounded score per read-out module.
        temperature: Divides the scores; the paper has 1.
        exponential: Exp(1) draws E; −log E is then the Gumbel noise.
        hard: One-hot of the largest instead, with the gradient of the soft weights.
    """
    if exponential is not None:
        confidences = confidences - exponential.log()
    soft = (confidences / temperature).softmax(-1)
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return one_hot - soft.detach() + soft


class ReadOut(nn.Module):
    """Read-out modules poll the processors; their confidences weight their answers.

    A single read-out module needs no confidence and has no parameters for one.

    Args:
        attention: From read-out modules to processors, without a residual.
        ffn: The read-outs' own computation, with a residual.
        outputs: Number of read-out modules.
        width: Width of the states.
        classes: Width of the answer: classes, or regression targets.
    """

    fixed_asked: Tensor | None

    def __init__(
        self, attention: SKMDPA, ffn: ModFFN, *, outputs: int, width: int, classes: int
    ) -> None:
        super().__init__()
        self.register_buffer("fixed_asked", None)
        self.attention, self.ffn = attention, ffn
        self.confidence = nn.Linear(width, 1) if outputs > 1 else None
        self.to_logits = nn.Linear(width, classes)

    def fix(self, outputs: Modules, senders: Modules) -> None:
        """See `SKMDPA.fix`; the read-outs' queries never change."""
        self.attention.fix(outputs, senders, states=True, sparse=False)
        self.ffn.fix(outputs.codes)
        if self.confidence is not None:
            heard = self.ffn.layer_scale(self.confidence.weight)
            self.fixed_asked = heard @ self.ffn.contract.linear.weight

    def poll(self, outputs: Modules, senders: Modules) -> Tensor:
        """The read-outs' final states (batch outputs width)."""
        return self.ffn(self.attention(outputs, senders), outputs.codes)

    def pool(self, states: Float[Tensor, "*batch outputs width"]) -> Tensor:
        """Logits (*batch classes) from the read-outs' final states."""
        if self.confidence is None:
            return self.to_logits(states.squeeze(-2))
        weights = confidence_weights(self.confidence(states).squeeze(-1))
        return self.to_logits((weights.unsqueeze(-2) @ states).squeeze(-2))

    def forward(
        self, outputs: Modules, senders: Modules
    ) -> Float[Tensor, "batch classes"]:
        """The circuit's answer."""
        if self.fixed_asked is not None and self.confidence is not None:
            return self._folded(outputs, senders, self.confidence, self.fixed_asked)
        return self.pool(self.poll(outputs, senders))

    def _folded(
        self, outputs: Modules, senders: Modules, confidence: nn.Linear, asked: Tensor
    ) -> Float[Tensor, "batch classes"]:
        """The same numbers, with the network's last linear map done once a sample.

        It is done for the weighted sum of what it takes, not for every read-out, since
        the weights sum to one. `asked` is what the confidence hears through that map,
        but for a constant, which a softmax ignores.
        """
        states = self.attention(outputs, senders)
        hidden = self.ffn.hidden(states, outputs.codes)
        scores = confidence(states) + F.linear(hidden, asked)
        weights = confidence_weights(scores.squeeze(-1)).unsqueeze(-2)
        pooled = weights @ states + self.ffn.last(weights @ hidden)
        return self.to_logits(pooled.squeeze(-2))
