"""Wiring diagrams of neural circuit policies: which neuron may hear which.

    sensory → inter → command (recurrent) → motor

The graph is drawn by `ncps.wirings`, the field's library, and handed on as one small
signed matrix between each two groups: 1 excites, −1 inhibits, 0 is no synapse.

References:
    Lechner et al., Neural circuit policies enabling auditable autonomy, 2020.
    https://doi.org/10.1038/s42256-020-00237-3
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nacs.errors import UserError

__all__ = ["Wiring", "ncp"]

Synapses = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Wiring:
    """Synapses between the groups of a circuit; rows are senders."""

    sensory: Synapses
    """(sensory, inter)."""

    inter: Synapses
    """(inter, command)."""

    command: Synapses
    """(command, command), the recurrent synapses."""

    motor: Synapses
    """(command, motor)."""

    @property
    def synapses(self) -> int:
        """How many synapses there are."""
        groups = (self.sensory, self.inter, self.command, self.motor)
        return sum(int(np.count_nonzero(group)) for group in groups)


@lru_cache(maxsize=64)
def ncp(
    sensory: int, inter: int, command: int, motor: int, *, sparsity: float, seed: int
) -> Wiring:
    """Draw a circuit as `ncps.wirings.AutoNCP` does, with groups of chosen sizes.

    Every sender has ⌊(1 − sparsity) · receivers⌋ synapses, at least one; a neuron that
    nobody would hear or reach is tied in. At sparsity 0 the layers are dense.

    Args:
        sensory: Sensory neurons, the inputs.
        inter: Inter neurons.
        command: Command neurons; ⌊2 (1 − sparsity) · command⌋ synapses among them.
        motor: Motor neurons, the outputs.
        sparsity: Share of the possible synapses that are left out, in [0, 1).
        seed: Of the draw.

    Raises:
        UserError: If ncps is not installed.
    """
    try:
        from ncps.wirings import NCP  # pyright: ignore
    except ImportError as error:
        raise UserError(
            "`ncps` is not installed: pip install 'nacs[neuronal]'."
        ) from error
    density = 1.0 - sparsity
    drawn = NCP(
        inter_neurons=inter,
        command_neurons=command,
        motor_neurons=motor,
        sensory_fanout=max(int(inter * density), 1),
        inter_fanout=max(int(command * density), 1),
        recurrent_command_synapses=max(int(command * density * 2), 1),
        motor_fanin=max(int(command * density), 1),
        seed=seed,
    )
    drawn.build(sensory)  # a second call would add synapses
    among = np.asarray(drawn.adjacency_matrix).astype(np.int8)
    heard = np.asarray(drawn.sensory_adjacency_matrix).astype(np.int8)
    # ncps counts motor neurons first, then command, then inter neurons.
    motors, commands = slice(0, motor), slice(motor, motor + command)
    inters = slice(motor + command, None)
    return Wiring(
        sensory=heard[:, inters],
        inter=among[inters, commands],
        command=among[commands, commands],
        motor=among[commands, motors],
    )
