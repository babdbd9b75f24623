"""What training 10⁴ and 10⁶ modules needs: computed, from stated assumptions.

Three ways to divide a step over devices: data parallel (samples), fully sharded
(samples, and a part of every weight each) and by modules (every device keeps the codes,
states and moments of its own and works on all samples).
"""

from typing import NamedTuple

from scaling_costs import Sizes, flops, kept, parameters

NUMBER = 4  # bytes; float32 all through


class Device(NamedTuple):
    """What is assumed of a device and its links."""

    memory: float = 80e9
    usable: float = 0.9
    rate: float = 156e12
    attained: float = 0.4
    near: float = 300e9
    """Bytes a second that a device receives from others of its node."""
    far: float = 25e9
    """The same from other nodes."""
    node: int = 8
    slack: float = 2.0
    """Peak of the activations over what autograd keeps: the largest measured."""


class Need(NamedTuple):
    """Per device and step."""

    weights: float
    activations: float
    received: float
    computing: float
    exchanging: float
    samples: int

    @property
    def memory(self):
        """Bytes."""
        return self.weights + self.activations

    @property
    def pace(self):
        """Samples a second, where computing does not hide exchanging."""
        return self.samples / (self.computing + self.exchanging)


def table_4(modules, degree=0, batch=1):
    """The paper's widths with more modules; `degree` edges each, 0 for all pairs.

    Log P is taken to be computed along edges alone, which the library does not do yet.
    """
    share = degree / modules if degree else 1.0
    widths = {"width": 384, "code": 384, "signature": 64, "heads": 6, "wide": 384}
    return Sizes(
        modules=modules,
        tokens=64,
        layers=8,
        hidden=1536,
        edge=64,
        outputs=64,
        classes=200,
        batch=batch,
        edges=share,
        all_links=False,
        **widths,
    )


def heard(z, devices, remote):
    """Modules of other devices of which a device needs keys and values in every layer.

    All pairs: all of them. Edges: those that at least one own module hears, in a random
    graph, or in one of which a share `remote` of the edges crosses devices.
    """
    others = z.modules * (1 - 1 / devices)
    if z.edges == 1 or devices == 1:
        return others
    share = 1 - 1 / devices if remote is None else remote
    # As many draws with replacement from the others hit this many of them.
    return others * (1 - (1 - 1 / others) ** (share * z.pairs / devices))


def data_parallel(z, devices, device):
    """One replica of all weights a device; ring all-reduce of the gradients."""
    total = sum(parameters(z))
    received = 2 * NUMBER * total * (devices - 1) / devices
    return _need(z, 4 * NUMBER * total, 1, received, devices, device)


def fully_sharded(z, devices, device):
    """A part of the weights a device: gathered twice, gradients scattered once."""
    total = sum(parameters(z))
    received = 3 * NUMBER * total * (devices - 1) / devices
    # One layer's weights are whole while they are used; those of modules all along.
    own, shared = parameters(z)
    here = 4 * NUMBER * total / devices + NUMBER * (own + shared / z.layers)
    return _need(z, here, 1, received, devices, device)


def by_modules(z, devices, device, remote=None):
    """Own modules a device, weights that all share on every one.

    Keys and values come in every layer and are kept for the way back, where as many
    gradients go out and are summed; signatures do so once. The tokens come in once and
    their gradients are summed, and so are those of shared weights. The read-outs' sums
    over modules are too few to count.
    """
    own, shared = parameters(z)
    around = (devices - 1) / devices
    rows = NUMBER * heard(z, devices, remote)
    messages = rows * z.layers * 2 * z.batch * z.wide
    received = 2 * messages + 2 * rows * z.signature
    received += 2 * NUMBER * shared * around
    received += 3 * NUMBER * z.batch * z.tokens * z.width * around
    here = 4 * NUMBER * (own / devices + shared)
    need = _need(z, here, devices, received, devices, device)
    return need._replace(activations=need.activations + messages)


def _need(z, weights, share, received, devices, device):
    bandwidth = device.near if devices <= device.node else device.far
    return Need(
        weights,
        device.slack * NUMBER * kept(z) / share,
        received,
        flops(z) / share / (device.rate * device.attained),
        received / bandwidth,
        z.batch * (devices if share == 1 else 1),
    )


PLANS = {
    "data parallel": data_parallel,
    "fully sharded": fully_sharded,
    "by modules, random graph": by_modules,
    "by modules, 10 % of edges cross": lambda z, n, d: by_modules(z, n, d, 0.1),
}


def least_devices(plan, z, device, most=2**20):
    """The least power of two of devices into whose memory a step fits; None if none."""
    count = 1
    while count <= most:
        if PLANS[plan](z, count, device).memory <= device.usable * device.memory:
            return count
        count *= 2
    return None
