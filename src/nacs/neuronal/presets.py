"""Complete configurations: ours, the paper's, and the variants of its tables."""

from collections.abc import Callable
from dataclasses import replace

from nacs.neuronal.config import NeuronalConfig, NeuronalModelConfig
from nacs.tokenizers import TokenizerConfig

__all__ = ["PRESETS", "VARIANTS", "elapsed", "paper", "small", "tiny", "variant"]


def tiny() -> NeuronalModelConfig:
    """One layer of 32 channels, for tests: trains in seconds."""
    return NeuronalModelConfig(
        tokenizer=TokenizerConfig(kind="series", width=32),
        attention=NeuronalConfig(width=32, heads=2, inter=16, command=8),
        layers=1,
        hidden=64,
    )


def small() -> NeuronalModelConfig:
    """Two layers of 64 channels and 4 heads: our default."""
    return NeuronalModelConfig()


def elapsed() -> NeuronalModelConfig:
    """`small` for irregular series: 32 keys, logits that relax with the age of a key.

    The best of ours on most real series that we tried (docs/LOG.md). Tokens that have
    no time of their own are taken to be in order, one step apart.
    """
    attention = NeuronalConfig(horizon="elapsed", top_k=32)
    return replace(small(), attention=attention)


def paper_attention(width: int = 64, heads: int = 4) -> NeuronalConfig:
    """The layer as the paper's text has it, in its sizes.

    Sensory gates are circuits, the backbone has d + ⌊d / 0.6⌋ units of which d are
    motor, logits start from 0 over a gated horizon, the gate weighs the values, and
    nothing scales the logits. What only the released packages do wrong is not repeated.
    """
    units = int(width / 0.6)
    command = int(0.4 * units)
    return NeuronalConfig(
        width=width,
        heads=heads,
        gate="circuit",
        inter=units - command,
        command=command,
        motor=width,
        start="zero",
        horizon="gate",
        integration="gate",
        logit_scale=False,
    )


def paper() -> NeuronalModelConfig:
    """Two layers of the paper's attention in the model of `small`."""
    return replace(small(), attention=paper_attention())


VARIANTS: dict[str, Callable[[NeuronalConfig], NeuronalConfig]] = {
    "2k": lambda config: replace(config, top_k=2),
    "8k": lambda config: replace(config, top_k=8),
    "32k": lambda config: replace(config, top_k=32),
    "pw": lambda config: replace(config, top_k=0),
    "fc": lambda config: replace(config, sparsity=0.0),
    "02s": lambda config: replace(config, sparsity=0.2),
    "05s": lambda config: replace(config, sparsity=0.5),
    "09s": lambda config: replace(config, sparsity=0.9),
    "exact": lambda config: replace(config, solver="exact"),
    "euler": lambda config: replace(config, solver="euler"),
    "steady": lambda config: replace(config, solver="steady"),
}
"""The paper's tables: keys a query, sparsity, and solver."""


def variant(name: str, of: NeuronalModelConfig) -> NeuronalModelConfig:
    """A variant of the paper's tables of any configuration.

    Raises:
        ValueError: If there is none of that name; lists those there are.
    """
    if name not in VARIANTS:
        raise ValueError(
            f"there is no variant '{name}'; variants: {', '.join(VARIANTS)}."
        )
    return replace(of, attention=VARIANTS[name](of.attention))


def _variant(
    name: str, of: Callable[[], NeuronalModelConfig]
) -> Callable[[], NeuronalModelConfig]:
    return lambda: variant(name, of())


PRESETS: dict[str, Callable[[], NeuronalModelConfig]] = {
    "small": small,
    "elapsed": elapsed,
    "tiny": tiny,
    "paper": paper,
    **{name: _variant(name, small) for name in VARIANTS},
    **{f"paper-{name}": _variant(name, paper) for name in VARIANTS},
}
