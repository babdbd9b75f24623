"""What the generator hands to the executor: a circuit, as a value."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["CircuitDesign", "Modules"]


class Modules(NamedTuple):
    """A group of modules, each described by three vectors.

    A leading batch axis is absent while every sample shares one circuit. `signatures`
    is None where every module hears every other, `codes` where no module is modulated.
    """

    signatures: Float[Tensor, "*batch modules signature"] | None
    codes: Float[Tensor, "*batch modules code"] | None
    states: Float[Tensor, "*batch modules width"]

    def select(self, index: Int[Tensor, "*batch kept"]) -> "Modules":
        """Keep the modules at `index`, one index for all or one per sample."""
        signatures, codes, states = self
        return Modules(
            None if signatures is None else _take(signatures, index),
            None if codes is None else _take(codes, index),
            _take(states, index),
        )

    def beside(self, others: "Modules") -> "Modules":
        """These modules followed by `others`, as one group."""
        signatures = codes = None
        if self.signatures is not None and others.signatures is not None:
            signatures = _join(self.signatures, others.signatures)
        if self.codes is not None and others.codes is not None:
            codes = _join(self.codes, others.codes)
        return Modules(signatures, codes, _join(self.states, others.states))


class CircuitDesign(NamedTuple):
    """The configuration of a circuit (paper, section 2, "Circuit Design").

    `inputs` read the tokens. In the paper they are the processors themselves; the
    released code gives them descriptors of their own. `edges` is True where a processor
    may hear a processor, None where surgery has removed nothing.
    """

    inputs: Modules
    processors: Modules
    outputs: Modules
    edges: Bool[Tensor, "*batch modules modules"] | None = None

    def select(
        self, index: Int[Tensor, "*batch kept"], *, readers: bool = False
    ) -> "CircuitDesign":
        """The same circuit with only the processors at `index`.

        Args:
            index: Who stays.
            readers: Whether the inputs are modules of their own, which all stay (the
                relay wiring), rather than the processors as they read.
        """
        return self._replace(
            inputs=self.inputs if readers else self.inputs.select(index),
            processors=self.processors.select(index),
        )


def _take(values: Tensor, index: Tensor) -> Tensor:
    if index.ndim == 1:
        return values.index_select(-2, index)
    values = values.expand(*index.shape[:-1], *values.shape[-2:])
    index = index.unsqueeze(-1).expand(*index.shape, values.shape[-1])
    return values.gather(-2, index)


def _join(mine: Tensor, theirs: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(mine.shape[:-2], theirs.shape[:-2])
    return torch.cat(
        [each.expand(*batch, *each.shape[-2:]) for each in (mine, theirs)], -2
    )
