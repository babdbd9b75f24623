"""Run a model over a split: predictions, loss, accuracy."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nacs.data.base import Batch, Split
from nacs.errors import UserError
from nacs.metrics import SCORES, auprc, auroc

__all__ = ["evaluate", "losses", "moved", "predict"]


def moved(batch: Batch, like: Tensor) -> Batch:
    """The batch on the device of a parameter, its floating inputs of that type."""

    def move(each: Tensor | None) -> Tensor | None:
        if each is None or not each.is_floating_point():
            return None if each is None else each.to(like.device)
        return each.to(like)

    return Batch(*map(move, batch))  # pyright: ignore[reportArgumentType]


def losses(model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
    """The loss of every sample, through which gradients flow.

    Cross-entropy in nats for classes; for numbers the mean squared error, in the unit
    of the batch's targets.
    """
    logits = model(batch.inputs, batch.keep, batch.context, batch.context_keep)
    if not batch.targets.is_floating_point():
        return F.cross_entropy(logits, batch.targets, reduction="none")
    off = logits.reshape(batch.targets.shape) - batch.targets
    return off.square().reshape(len(off), -1).mean(-1)


@torch.no_grad()
def predict(model: nn.Module, split: Split, *, batch: int = 256) -> Tensor:
    """Logits, or numbers in the unit of the targets, of every sample, in float32."""
    was_training, like = model.training, next(model.parameters())
    model.eval()
    rows: list[Tensor] = []
    for start in range(0, len(split), batch):
        chosen = range(start, min(start + batch, len(split)))
        part = moved(split.batch(chosen), like)
        logits = model(part.inputs, part.keep, part.context, part.context_keep)
        rows.append(logits.float().cpu())
    model.train(was_training)
    return split.unscaled(torch.cat(rows))


def evaluate(model: nn.Module, split: Split, *, batch: int = 256) -> dict[str, float]:
    """Loss and accuracy (classes), or loss and root mean squared error (numbers).

    The loss of numbers is in deviations of training, squared, their root mean squared
    error in the unit of the targets. Two classes also get the areas under their ROC and
    precision-recall curves.

    Raises:
        UserError: If the split is empty.
    """
    if not len(split):
        raise UserError("cannot evaluate on an empty split; give more data.")
    logits = predict(model, split, batch=batch)
    targets = torch.from_numpy(split.targets)
    if targets.is_floating_point():
        off = logits.view(targets.shape) - targets.float()
        scale = torch.as_tensor(1 if (d := split.target_deviation) is None else d)
        loss = (off / scale).square().mean().item()
        rmse = off.square().mean().sqrt().item()
        figures = {"loss": loss, "rmse": rmse, "count": len(split)}
        found = logits.view(targets.shape).numpy()
        return figures | {n: SCORES[n](found, split.targets) for n in split.scores}
    loss = F.cross_entropy(logits, targets).item()
    accuracy = (logits.argmax(-1) == targets).double().mean().item()
    figures = {"loss": loss, "accuracy": accuracy, "count": len(split)}
    if logits.shape[-1] == 2 and 0 < split.targets.sum() < len(split):
        scores = (logits[:, 1] - logits[:, 0]).numpy()
        figures |= {"auroc": auroc(scores, split.targets)}
        figures |= {"auprc": auprc(scores, split.targets)}
    return figures
