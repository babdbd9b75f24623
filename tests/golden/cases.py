"""Read recorded cases and put their weights into our layers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nacs.attentive.attention import SKMDPA
from nacs.attentive.layers import ReadInAttention
from nacs.attentive.links import Links
from nacs.attentive.modulated import LayerScale, ModFC, ModFFN

DATA = Path(__file__).parent / "data"


class Case(dict[str, Tensor]):
    """The arrays of one case as tensors, its settings as `meta`."""

    meta: dict[str, Any]

    def under(self, prefix: str) -> "Case":
        """The arrays below `prefix.`, with the prefix gone."""
        prefix += "."
        part = Case(
            {
                k.removeprefix(prefix): v
                for k, v in self.items()
                if k[: len(prefix)] == prefix
            }
        )
        part.meta = self.meta
        return part


def load(file: str, case: str) -> Case:
    with np.load(DATA / f"{file}.npz") as arrays:
        names = [name for name in arrays.files if name.startswith(f"{case}/")]
        found = {n.split("/", 1)[1]: arrays[n] for n in names}
    meta = json.loads(str(found.pop("meta")))
    loaded = Case({name: torch.from_numpy(np.array(v)) for name, v in found.items()})
    loaded.meta = meta
    return loaded


def fill(parameter: Tensor | None, value: Tensor) -> None:
    assert parameter is not None
    assert parameter.shape == value.shape, (parameter.shape, value.shape)
    with torch.no_grad():
        parameter.copy_(value)


def fill_norm(norm: nn.LayerNorm, case: Case) -> None:
    fill(norm.weight, case["gamma"])
    fill(norm.bias, case["beta"])


def fill_fc(layer: ModFC, case: Case) -> None:
    fill(layer.linear.weight, case["W"])
    assert ("b" in case) == (layer.linear.bias is not None)
    if "b" in case:
        fill(layer.linear.bias, case["b"])
    if "W_c" in case:
        assert layer.code_to_scale is not None
        fill(layer.code_to_scale.weight, case["W_c"])
        fill(layer.gain, case["alpha"])


def fill_scale(layer: nn.Module, case: Case) -> None:
    if "lscale" in case:
        assert isinstance(layer, LayerScale)
        fill(layer.factors, case["lscale"])


def fill_ffn(layer: ModFFN, case: Case) -> None:
    fill_norm(layer.norm, case.under("ln"))
    fill_fc(layer.expand, case.under("fc1"))
    fill_fc(layer.contract, case.under("fc2"))
    fill_scale(layer.layer_scale, case)


def fill_attention(layer: SKMDPA, case: Case) -> None:
    fill_norm(layer.receiver_norm, case.under("ln_recv"))
    if layer.sender_norm is not None:
        fill_norm(layer.sender_norm, case.under("ln_send"))
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
        fill_fc(getattr(layer, ours), case.under(theirs))
    fill_scale(layer.layer_scale, case)
    if layer.links is not None:
        fill(layer.links.bandwidth, case["epsilon"])


def fill_read_in(layer: ReadInAttention, case: Case) -> None:
    fill_norm(layer.receiver_norm, case.under("ln_recv"))
    fill_norm(layer.token_norm, case.under("ln_send"))
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
        fill_fc(getattr(layer, ours), case.under(theirs))
    fill_scale(layer.layer_scale, case)


def attention_of(case: Case, *, sender_width: int | None) -> SKMDPA:
    """An SKMDPA with this case's sizes, options and weights."""
    width, code = case["q.W_c"].shape
    meta = case.meta
    layer = SKMDPA(
        width,
        sender_width=sender_width,
        heads=meta["heads"],
        head_width=meta["head_dim"],
        code_features=code,
        links=Links(1.0, truncation=meta["truncation"])
        if meta.get("masked", True)
        else None,
        residual=meta["residual"],
        bias="q.b" in case,
        layer_scale=1.0 if meta["layer_scale"] else None,
    )
    fill_attention(layer, case)
    return layer.eval()


def ffn_of(case: Case, **options: Any) -> ModFFN:
    code, width = case["fc1.W_c"].shape[1], len(case["ln.gamma"])
    hidden = case["fc2.W"].shape[1]
    layer = ModFFN(width, hidden, code_features=code, **options)
    fill_ffn(layer, case)
    return layer
