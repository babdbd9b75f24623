"""Complete configurations: the papers' sizes and ours.

The counts in the docstrings are tested against the released code's own.
"""

from collections.abc import Callable
from dataclasses import replace

from nacs.attentive.config import AttentiveConfig
from nacs.tokenizers import TokenizerConfig

__all__ = [
    "PRESETS",
    "ablation",
    "demo",
    "imagenet",
    "perceiver",
    "released",
    "small",
    "tiny",
    "tiny_imagenet",
]


def tiny_imagenet() -> AttentiveConfig:
    """Table 4, in the paper's wiring: one set of codes, θ⁰ from an MLP."""
    return AttentiveConfig(
        tokenizer=TokenizerConfig(
            kind="conv", width=256, channels=3, size=(64, 64), positions=64
        ),
        classes=200,
    )


def imagenet() -> AttentiveConfig:
    """Table 5, in the paper's wiring."""
    return AttentiveConfig(
        tokenizer=TokenizerConfig(
            kind="conv", width=320, channels=3, size=(224, 224), positions=64
        ),
        classes=1000,
        modules=960,
        width=512,
        code=512,
        heads=8,
        hidden=1024,
    )


def released(config: AttentiveConfig) -> AttentiveConfig:
    """The same sizes as the released code wires them: θ⁰ = code, own reading codes.

    `released(tiny_imagenet())` has 36,130,789 parameters and 8.147 G multiply-adds per
    sample at batch 64 with the plain read-in; `released(imagenet())` 44,085,541.
    """
    return replace(
        config, wiring="released", readers=0, states="code", code=config.width
    )


def perceiver(config: AttentiveConfig) -> AttentiveConfig:
    """Perceiver IO of the same sizes: the same executor, α = 0 and K ≡ 1.

    Latents are free parameters and one query reads the answer; nothing of it is written
    from a context. With `tiny_imagenet()` it has 23,011,240 parameters.
    """
    return replace(
        config,
        generator="unconditional",
        context=None,
        kept=0,
        edges_removed=0.0,
        wiring="paper",
        readers=0,
        states="free",
        modulated=False,
        graph="complete",
        outputs=1,
    )


def ablation(config: AttentiveConfig) -> dict[str, AttentiveConfig]:
    """The ladder of table 1: each rung differs from the one before in one thing.

    The frozen graph is drawn from the prior, as the paper's is (section 4.1), and the
    signatures are fitted to it; where they learn they start as `config` says.
    """
    latents = replace(config, modulated=False, graph="complete")
    modulated = replace(latents, modulated=True)
    frozen = replace(modulated, graph="frozen", start="prior")
    return {
        "perceiver-io": latents,
        "+modfc": modulated,
        "+sparse-graph": frozen,
        "nac": replace(modulated, graph="learned"),
    }


def small() -> AttentiveConfig:
    """A circuit that trains on two processor cores: 32 × 32 colour images."""
    return AttentiveConfig(
        tokenizer=TokenizerConfig(
            kind="conv", width=128, channels=3, size=(32, 32), positions=32
        ),
        classes=10,
        modules=128,
        outputs=16,
        width=128,
        code=128,
        signature=32,
        layers=4,
        heads=4,
        head_width=32,
        hidden=256,
        bandwidth=0.25,
    )


def demo() -> AttentiveConfig:
    """The circuit of `make demo`: 28 × 28 digits, module dropout while training."""
    return AttentiveConfig(
        tokenizer=TokenizerConfig(
            kind="conv", width=96, channels=1, size=(28, 28), positions=32, stages=1
        ),
        classes=10,
        modules=80,
        outputs=8,
        width=96,
        code=96,
        signature=32,
        layers=3,
        heads=3,
        head_width=32,
        hidden=192,
        bandwidth=0.25,
        module_dropout=0.9,
    )


def tiny() -> AttentiveConfig:
    """8 × 8 digits, for tests: trains in seconds."""
    return AttentiveConfig(
        tokenizer=TokenizerConfig(
            kind="patches", width=32, channels=1, size=(8, 8), patch=2, positions=16
        ),
        classes=10,
        modules=16,
        outputs=4,
        width=32,
        code=32,
        signature=16,
        layers=2,
        heads=2,
        head_width=16,
        hidden=64,
        bandwidth=0.25,
    )


PRESETS: dict[str, Callable[[], AttentiveConfig]] = {
    "tiny-imagenet": tiny_imagenet,
    "imagenet": imagenet,
    "small": small,
    "demo": demo,
    "tiny": tiny,
}
