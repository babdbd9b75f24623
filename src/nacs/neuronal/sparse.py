"""Layers that obey a wiring diagram: a weight is exactly zero where no synapse is."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nacs.neuronal.config import NeuronalConfig
from nacs.neuronal.wiring import Synapses, Wiring, ncp

__all__ = ["Backbone", "MaskedLinear", "SensoryGate", "one_layer", "projection"]


class MaskedLinear(nn.Module):
    """A linear layer with weights only where the wiring has a synapse.

    Args:
        synapses: (senders, receivers), 0 where there is none.
        bias: Whether receivers have a bias.
    """

    mask: Tensor | None

    def __init__(self, synapses: Synapses, *, bias: bool = True) -> None:
        super().__init__()
        self.wired = synapses.T != 0
        mask = torch.tensor(self.wired)  # on the device of the context
        self.register_buffer("mask", mask, persistent=False)
        self.register_load_state_dict_pre_hook(_rewire)
        heard = mask.sum(-1, keepdim=True).clamp(min=1)
        weight = (2 * torch.rand(mask.shape) - 1) * math.sqrt(3) / heard.sqrt()
        self.weight = nn.Parameter(weight * mask)
        self.bias = nn.Parameter(torch.zeros(len(mask))) if bias else None

    @property
    def synapses(self) -> Float[Tensor, "receivers senders"]:
        """The weights, exactly zero where there is no synapse."""
        return self.weight if self.mask is None else self.weight * self.mask

    @torch.no_grad()
    def fix(self) -> None:
        """Keep the synapses for good: no mask from now on."""
        self.weight.copy_(self.synapses)
        self.mask = None

    def forward(
        self, states: Float[Tensor, "*batch senders"]
    ) -> Float[Tensor, "*batch receivers"]:
        """What the receivers hear."""
        return F.linear(states, self.synapses, self.bias)


def _rewire(layer: Any, state: dict[str, Tensor], prefix: str, *told: Any) -> None:
    """Write the mask anew: `to_empty` and the meta device leave it without values."""
    if layer.mask is None:
        return
    weight, assigned = state.get(f"{prefix}weight"), told[0].get(ASSIGNED, False)
    if assigned and weight is not None:
        layer.mask = torch.empty_like(layer.mask, device=weight.device)
    layer.mask.copy_(torch.from_numpy(layer.wired))


ASSIGNED = "assign_to_params_buffers"
"""What torch calls `load_state_dict(assign=True)` to its hooks."""


class SensoryGate(nn.Module):
    """A sparse projection of queries, keys or values.

    With a circuit of its own it is sensory → inter → command → motor, as in the paper;
    its rank is then at most its number of command neurons. Without (`wiring` has no
    command neurons), it is one sparse layer.

    Args:
        wiring: Of a circuit with as many motor neurons as there are channels, or the
            synapses of one layer.
    """

    def __init__(self, wiring: Wiring | Synapses) -> None:
        super().__init__()
        if isinstance(wiring, Wiring):
            self.layers = nn.Sequential(
                MaskedLinear(wiring.sensory),
                nn.SiLU(),
                MaskedLinear(wiring.inter),
                nn.SiLU(),
                MaskedLinear(wiring.motor),
            )
        else:
            self.layers = nn.Sequential(MaskedLinear(wiring))

    def forward(
        self, tokens: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch channels"]:
        """The projected tokens."""
        return self.layers(tokens)


class Backbone(nn.Module):
    """The circuit that turns a query-key pair into a drive and a rate.

        inter = silu(W_q q + W_k k),  command = silu(W inter + R silu(W inter)),
        φ = sigmoid(head_φ(motor_φ)),  ω = softplus(head_ω(motor_ω)) + 1e-6

    The first layer is linear in [q; k], so its two halves are computed once per token
    and added per pair. R holds the recurrent synapses, one step of them. Half of the
    motor neurons feed each head, so that drive and rate do not share one number.

    Args:
        wiring: With 2 · head_width sensory neurons, the queries' first.
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        half = len(wiring.sensory) // 2
        self.from_queries = MaskedLinear(wiring.sensory[:half])
        self.from_keys = MaskedLinear(wiring.sensory[half:], bias=False)
        self.command = MaskedLinear(wiring.inter)
        self.recurrent = MaskedLinear(wiring.command, bias=False)
        self.motor = MaskedLinear(wiring.motor)
        motors = wiring.motor.shape[1]
        self.drives = motors // 2
        self.drive = nn.Linear(self.drives, 1)
        self.rate = nn.Linear(motors - self.drives, 1)
        self.fixed: nn.Linear | None = None

    @torch.no_grad()
    def fix(self) -> None:
        """Fuse motor neurons and heads for good, once the synapses are fixed."""
        weight, bias = self.heads()
        self.fixed = nn.Linear(weight.shape[1], 2).to(weight)
        self.fixed.weight.copy_(weight)
        self.fixed.bias.copy_(bias)

    def forward(
        self,
        queries: Float[Tensor, "*#batch inter"],
        keys: Float[Tensor, "*#batch inter"],
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Drive and rate of pairs.

        Args:
            queries: `from_queries` of the pairs' queries.
            keys: `from_keys` of the pairs' keys.
        """
        return self.gates(self.commands(queries, keys))

    def gates(
        self, commands: Float[Tensor, "*batch command"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Drive and rate from what the command neurons do."""
        drive, rate = F.linear(commands, *self.heads()).unbind(-1)
        return torch.sigmoid(drive), F.softplus(rate) + 1e-6

    def heads(self) -> tuple[Float[Tensor, "2 command"], Float[Tensor, " 2"]]:
        """Motor neurons and heads as one layer: nothing nonlinear is between them."""
        if self.fixed is not None:
            return self.fixed.weight, self.fixed.bias
        weights, biases = self.motor.synapses, self.motor.bias
        assert biases is not None
        halves = slice(self.drives), slice(self.drives, None)
        heads = tuple(zip((self.drive, self.rate), halves, strict=True))
        weight = torch.cat([head.weight @ weights[half] for head, half in heads])
        bias = torch.cat([head(biases[half]) for head, half in heads])
        return weight, bias

    def commands(
        self,
        queries: Float[Tensor, "*#batch inter"],
        keys: Float[Tensor, "*#batch inter"],
    ) -> Float[Tensor, "*batch command"]:
        """What the command neurons do for every pair."""
        return self.stages(queries, keys)[-1]

    def stages(
        self,
        queries: Float[Tensor, "*#batch inter"],
        keys: Float[Tensor, "*#batch inter"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Inter neurons, command neurons before they heard each other, and after."""
        inter = F.silu(queries + keys)
        heard = self.command(inter)
        before = F.silu(heard)
        return inter, before, F.silu(heard + self.recurrent(before))


def projection(config: NeuronalConfig) -> nn.Module:
    """The sensory gate of queries, keys or values that a configuration asks for."""
    width = config.width
    if config.gate == "dense":
        return nn.Linear(width, width)
    if (
        config.gate == "circuit"
    ):  # the paper's: ⌈(d − 0.5) / 0.6⌉ units, d of them motor
        units = math.ceil((width - 0.5) / 0.6) - width
        command = max(int(0.4 * units), 1)
        groups = (width, units - command, command, width)
        wiring = ncp(*groups, sparsity=config.sparsity, seed=config.wiring_seed)
        return SensoryGate(wiring)
    # One layer: the synapses from sensory to inter neurons of a circuit this wide.
    wiring = ncp(width, width, 1, 1, sparsity=config.sparsity, seed=config.wiring_seed)
    return SensoryGate(wiring.sensory)


def one_layer(gate: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Weights and biases of a projection; None if it is a circuit of several layers."""
    if isinstance(gate, nn.Linear):
        return gate.weight, gate.bias
    assert isinstance(gate, SensoryGate)
    first = gate.layers[0]
    assert isinstance(first, MaskedLinear)
    assert first.bias is not None
    return (first.synapses, first.bias) if len(gate.layers) == 1 else None
