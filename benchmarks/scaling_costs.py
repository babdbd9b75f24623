"""What a training step of an attentive circuit costs, as formulas in its sizes.

U modules, O read-outs, N tokens, B samples, d width, c code, s signature, w the width
of all heads, h hidden, e the width of the one head of read-in and read-out. Each term
names the class it comes from. Only the folded read-in and one graph for all samples.
"""

from typing import NamedTuple

from nacs.attentive.modulated import FEWEST


class Sizes(NamedTuple):
    """Of a circuit, its input, and the share of the pairs that are edges."""

    modules: int
    tokens: int
    width: int
    layers: int
    code: int
    signature: int
    heads: int
    wide: int
    hidden: int
    edge: int
    outputs: int = 16
    classes: int = 10
    batch: int = 1
    edges: float = 1.0
    all_links: bool = True
    """Whether log P of all pairs is computed where there are edges, as it is today."""

    @staticmethod
    def of_width(*, width, **others):
        """The sizes measured here, which grow with the width."""
        shape = {"code": width, "signature": 32, "heads": width // 32, "edge": 32}
        return Sizes(width=width, wide=width, hidden=2 * width, **shape, **others)

    @property
    def pairs(self):
        """Pairs of modules that send messages."""
        return self.edges * self.modules**2


def attention_flops(z):
    """SKMDPA of all propagators: queries times keys, weights times values; thrice."""
    return 6 * z.layers * 2 * z.batch * z.pairs * z.wide


def flops(z):
    """Of a step: two a multiply-add, and the way back has twice those of the way in."""
    u, o, d, c, s, w, _, e = _letters(z)
    b, n = z.batch, z.tokens
    generator = (u + o) * (c * d + d * d)  # initial_state
    read_in = 2 * u * d * e + u * c * (3 * d + e)  # query and key folded; scales
    read_in += b * u * (2 * n * d + 2 * d * e)  # folded; value, out
    ffns = (1 + z.layers) * _ffn(z, u) + _ffn(z, o)  # ModFFN
    layer = 4 * b * u * d * w + u * c * (3 * d + w)  # SKMDPA: ModFCs and their scales
    layer += (u * u if z.all_links else z.pairs) * s  # Links
    read_out = o * d * e + b * (2 * u * d * e + 2 * o * u * e + o * e * d)  # SKMDPA
    read_out += c * (o * (d + e) + 2 * u * d) + o * u * s
    read_out += b * (2 * o * d + d * z.classes)  # ReadOut.pool
    return (
        6 * (generator + read_in + ffns + z.layers * layer + read_out)
    ) + attention_flops(z)


def kept(z):
    """Numbers that autograd keeps for the way back; those of a few read-outs aside.

    Without `b` in front: of the codes and signatures alone, once for all samples.
    """
    u, o, d, _, s, w, h, e = _letters(z)
    b = z.batch
    # SKMDPA, ModFFN: states, norms and products; two of every scale (ModFC).
    ffn = b * u * h * (3 if 2 * b * u * h >= FEWEST else 5)  # nacs.native.modulate
    layer = b * u * (9 * d + 5 * w) + ffn + 2 * u * (4 * d + w + h) + 2 * u * s
    if z.edges < 1:  # Links.on_edges, nacs.native.edges; senders as int64
        layer += (5 + 3 * b) * z.pairs
    else:  # sample_log_kernel, gated_attention
        layer += (3 + 3 * b) * z.pairs
    # UnconditionalGenerator, ReadIn with its ModFFN, keys and values of ReadOut.
    rest = b * (u * (9 * d + 4 * e) + 2 * z.tokens * d) + ffn
    rest += u * (19 * d + 3 * e + 2 * h + s) + 3 * (1 + b) * o * u
    return rest + z.layers * layer + (3 * z.pairs if z.edges < 1 else 0)


def parameters(z):
    """Those of every module, and those all modules share; the tokenizer's aside."""
    u, o, d, c, s, w, h, e = _letters(z)
    own = (u + o) * (c + s)  # Descriptors
    ffn = 2 * d + _mod_fc(z, d, 2 * h) + _mod_fc(z, h, d)
    read_in = 4 * d + 3 * _mod_fc(z, d, e, 0) + _mod_fc(z, e, d) + ffn
    layer = 2 * d + 3 * _mod_fc(z, d, w, 0) + _mod_fc(z, w, d) + ffn
    read_out = read_in + d + 1 + (d + 1) * z.classes
    shared = c * d + d + d * d + d + read_in + z.layers * layer + read_out
    return own, shared


def _letters(z):
    shape = (z.modules, z.outputs, z.width, z.code, z.signature)
    return (*shape, z.wide, z.hidden, z.edge)


def _ffn(z, count):
    return count * (3 * z.batch * z.width * z.hidden + z.code * (z.width + z.hidden))


def _mod_fc(z, into, out, bias=1):
    """ModFC: W, b, W_c and α."""
    return into * out + bias * out + z.code * into + 1
