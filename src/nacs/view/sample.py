"""What a circuit does with one sample: whom it looks at, who speaks, who decides."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nacs.attentive import AttentiveCircuit
from nacs.attentive.attention import attention_weights
from nacs.attentive.layers import ReadIn, ReadInAttention, ReadOut, confidence_weights
from nacs.data.base import Dataset
from nacs.errors import UserError
from nacs.evaluation import moved
from nacs.view.numbers import as_bytes, rounded

__all__ = ["answer_of", "check_sample", "picture", "sample_part"]


def check_sample(dataset: Dataset, index: int) -> None:
    """Raise UserError unless the test split has a sample of this number."""
    if not 0 <= index < len(dataset.test):
        raise UserError(
            f"sample must lie in [0, {len(dataset.test) - 1}], the test split, "
            f"got {index}."
        )


@torch.no_grad()
def sample_part(model: nn.Module, dataset: Dataset, index: int) -> dict[str, Any]:
    """The sample itself, the answer, and for an attentive circuit what led to it.

    Args:
        model: In evaluation mode.
        dataset: Whose test split the sample is of.
        index: Which.

    Raises:
        UserError: If there is no such sample.
    """
    check_sample(dataset, index)
    batch = moved(dataset.test.batch([index]), next(model.parameters()))
    seen: dict[str, Any] = {}
    hooks = _listen(model, seen) if isinstance(model, AttentiveCircuit) else []
    try:
        answer = model(batch.inputs, batch.keep, batch.context, batch.context_keep)
    finally:
        for hook in hooks:
            hook.remove()
    shown = {"index": index, "id": str(dataset.test.ids[index])}
    shown |= picture(dataset, index) | answer_of(dataset, index, answer)
    return shown | _led(seen)


def answer_of(dataset: Dataset, index: int, answer: Tensor) -> dict[str, Any]:
    """What the model says and what is right."""
    if dataset.classes:
        target = int(dataset.test.targets[index])
        return {"probabilities": rounded(answer[0].softmax(-1).cpu()), "target": target}
    said = dataset.test.unscaled(answer.float().cpu()).flatten()[:64]
    right = np.ravel(dataset.test.targets[index])[:64]
    return {"said": rounded(said), "target": rounded(right)}


def picture(dataset: Dataset, index: int) -> dict[str, Any]:
    """The sample as the page draws it: pixels, curves, text or points."""
    raw = np.asarray(dataset.test.inputs[index])[: dataset.test.limit]
    if dataset.kind == "image":
        most = 255.0 if raw.dtype == np.uint8 else max(float(raw.max()), 1e-9)
        pixels = {"shape": list(raw.shape), "pixels": as_bytes(raw, most)}
        return {"kind": "image", **pixels}
    if dataset.kind == "series":
        values = np.where(np.isfinite(raw), raw, np.nan)[:2048, :9].astype(object)
        values[np.isnan(values.astype(float))] = None
        return {"kind": "series", "rows": values.tolist()}
    if dataset.kind == "bytes":
        return {"kind": "bytes", "text": _letters(bytes(raw.astype(np.uint8)[:2048]))}
    if dataset.kind == "points":
        return {"kind": "points", "points": rounded(raw[:2048, :3], 3)}
    return {"kind": dataset.kind}


def _letters(text: bytes) -> list[str]:
    """What every byte shows: a letter its first, nothing its others."""
    shown: list[str] = []
    for letter in text.decode("utf-8", "surrogateescape"):
        count = len(letter.encode("utf-8", "surrogateescape"))
        lone = "\udc80" <= letter <= "\udcff"  # no UTF-8: as it is in Latin-1
        shown += [chr(ord(letter) - 0xDC00) if lone else letter, *[""] * (count - 1)]
    return shown


def _listen(model: AttentiveCircuit, seen: dict[str, Any]) -> list[Any]:
    """Keep what read-in, propagators and read-out are given and give."""

    def reading(part: nn.Module, given: tuple[Any, ...]) -> None:
        assert isinstance(part, ReadIn)
        seen["reading"] = _reading(part.attention, *given)

    def sent(_: nn.Module, given: tuple[Any, ...], states: Tensor) -> None:
        change = (states - given[0].states).norm(dim=-1)
        seen.setdefault("flow", []).append(change[0].cpu())

    def polled(part: nn.Module, given: tuple[Any, ...]) -> None:
        assert isinstance(part, ReadOut)
        seen.update(_polled(part, *given))

    return [
        model.read_in.register_forward_pre_hook(reading),
        *(each.register_forward_hook(sent) for each in model.propagators),
        model.read_out.register_forward_pre_hook(polled),
    ]


def _reading(
    attention: ReadInAttention, modules: Any, tokens: Tensor, keep: Tensor | None
) -> Tensor:
    """Read-in attention (modules, tokens), the mean of the heads."""
    queries = attention.query(attention.receiver_norm(modules.states), modules.codes)
    asked = attention.folded_queries(queries, modules.codes)
    asked = asked[0] if asked.ndim == 3 else asked
    logits = asked @ attention.token_norm(tokens)[0].mT / attention.head_width**0.5
    if keep is not None:
        logits = logits[:, keep[0]]
    return logits.softmax(-1).unflatten(0, (attention.heads, -1)).mean(0).cpu()


def _polled(part: ReadOut, outputs: Any, senders: Any) -> dict[str, Any]:
    """The read-outs' confidences, and whom they listen to (read-outs, senders)."""
    queries, keys, _ = part.attention.project(outputs, senders)
    kernel = part.attention.log_kernel(outputs, senders, 1)
    weights = attention_weights(queries, keys, kernel)
    heard = weights.reshape(-1, *weights.shape[-3:])[0].mean(0)
    if part.confidence is None:
        return {"heard": heard.cpu(), "confidences": [1.0]}
    scores = part.confidence(part.poll(outputs, senders)).squeeze(-1)
    return {"heard": heard.cpu(), "confidences": confidence_weights(scores)[0].cpu()}


def _led(seen: dict[str, Any]) -> dict[str, Any]:
    if not seen:
        return {}
    reading: Tensor = seen["reading"].float()
    peaks = reading.max(-1, keepdim=True).values.clamp(min=1e-12)
    return {
        "tokens": reading.shape[-1],
        "attention": as_bytes((reading / peaks).numpy()),
        "peaks": rounded(peaks.squeeze(-1), 6),
        "flow": rounded(torch.stack(seen["flow"])) if "flow" in seen else [],
        "confidences": rounded(seen["confidences"], 6),
        "heard": rounded(seen["heard"].mean(0), 6),
    }
