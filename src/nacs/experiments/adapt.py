"""A trained model adapted to a few labelled samples.

model, samples  →  features before the last layer  →  a new last layer (linear probe)
model with it   →  some steps on all weights       →  a new model (fine-tuning)
"""

import copy
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nacs.data.base import Split
from nacs.errors import UserError
from nacs.evaluation import moved, predict
from nacs.optim import learning_rate, parameter_groups

__all__ = ["features", "last_layer", "probe", "tuned", "with_last"]

LAST = "to_logits"
"""What the models call their last layer."""


def tuned(
    model: nn.Module,
    split: Split,
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    weight_decay: float = 0.05,
) -> nn.Module:
    """A copy of a classifier after some steps of AdamW on all its weights.

    Cross-entropy alone: no augmentation, and no prior on a circuit's graph. The rate
    rises for a tenth of the steps and falls as a cosine to 0.

    Args:
        model: Stays as it is.
        split: Samples with their classes.
        steps: How many; 0 gives a plain copy.
        batch: Samples a step, no more than there are; all are drawn equally often.
        rate: The highest.
        seed: Of the batches and of the model's own noise.
        weight_decay: Not on what `parameter_groups` spares.

    Returns:
        The new model, in evaluation mode.

    Raises:
        UserError: If targets are no classes, there are no samples, or the loss is not
            finite.
    """
    if split.targets.dtype.kind not in "iu" or not len(split):
        raise UserError(
            f"expected samples with integer classes, got {len(split)} with targets of "
            f"{split.targets.dtype}."
        )
    model = copy.deepcopy(model).train()
    groups = parameter_groups(model, weight_decay=weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=rate, fused=True)
    like = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step, chosen in enumerate(_batches(len(split), steps, batch)):
            now = learning_rate(
                step + 1, epochs=steps + 1, peak=rate, warmup_epochs=steps / 10
            )
            for group in optimiser.param_groups:
                group["lr"] = now
            part = moved(split.batch(chosen), like)
            logits = model(part.inputs, part.keep, part.context, part.context_keep)
            loss = F.cross_entropy(logits, part.targets)
            if not torch.isfinite(loss):
                raise UserError(
                    f"the loss is {loss.item()} in step {step + 1} of {steps}; lower "
                    f"the rate ({rate})."
                )
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
    return model.eval()


def _batches(count: int, steps: int, batch: int) -> Int[Tensor, "steps batch"]:
    """Samples of every step: one permutation of all after another."""
    batch = min(batch, count)
    rounds = -(-steps * batch // count)
    orders = [torch.randperm(count) for _ in range(rounds)]
    drawn = torch.cat(orders) if orders else torch.empty(0, dtype=torch.long)
    return drawn[: steps * batch].view(steps, batch)


def last_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """The name and the layer that turns a model's features into logits.

    Raises:
        UserError: If the model has none.
    """
    for name, part in model.named_modules():
        if name.rpartition(".")[2] == LAST and isinstance(part, nn.Linear):
            return name, part
    raise UserError(
        f"expected a model whose last layer is a linear `{LAST}`, got "
        f"{type(model).__name__}."
    )


def with_last(model: nn.Module, layer: nn.Linear) -> nn.Module:
    """A copy of a model with another last layer, for as many classes as that has."""
    model, layer = copy.deepcopy(model), copy.deepcopy(layer)
    name, old = last_layer(model)
    model.get_submodule(name.rpartition(".")[0]).register_module(
        LAST, layer.to(old.weight)
    )
    config = getattr(model, "config", None)
    if config is not None:
        model.config = replace(config, classes=layer.out_features)
    return model


def features(
    model: nn.Module, split: Split, *, batch: int = 256
) -> Float[Tensor, "samples width"]:
    """What the last layer is given of every sample, in evaluation."""
    rows: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        rows.append(given[0].float().cpu())

    handle = last_layer(model)[1].register_forward_pre_hook(keep)
    try:
        predict(model, split, batch=batch)
    finally:
        handle.remove()
    return torch.cat(rows)


def probe(
    known: Float[Tensor, "samples width"],
    targets: Int[Tensor, " samples"],
    *,
    classes: int,
    decay: float,
    like: Float[Tensor, "others width"],
) -> nn.Linear:
    """The last layer that multinomial logistic regression finds.

    Minimises the mean cross-entropy + decay / 2 · |W|², W on features standardised by
    those of other samples, whose scales are folded into the layer that is returned.

    Args:
        known: Features of the samples.
        targets: Their classes.
        classes: How many there are.
        decay: Above 0, so that there is one solution.
        like: Features of the samples of pre-training, whose mean and deviation are
            taken: a few samples would not tell theirs.
    """
    mean, deviation = like.mean(0), like.std(0).clamp(min=1e-6)
    scaled = ((known - mean) / deviation).double()
    weight = scaled.new_zeros(classes, known.shape[1]).requires_grad_()
    bias = scaled.new_zeros(classes).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=200, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        error = F.cross_entropy(F.linear(scaled, weight, bias), targets)
        error = error + decay / 2 * weight.square().sum()
        error.backward()
        return error

    optimiser.step(loss)  # pyright: ignore[reportArgumentType]
    layer = nn.Linear(known.shape[1], classes, dtype=known.dtype, device=known.device)
    with torch.no_grad():
        layer.weight.copy_(weight / deviation)
        layer.bias.copy_(bias - (weight / deviation) @ mean.double())
    return layer
