"""Attentive and neuronal circuits in PyTorch.

`nacs.attentive` has Neural Attentive Circuits (Rahaman et al., 2022), `nacs.neuronal`
the Neuronal Attention Circuit (Razzaq et al., 2025), `nacs.freeze` either of them for
inference. torch is imported by the parts, not here, so that the command line starts
quickly.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nacs.frozen import freeze

__all__ = ["__version__", "freeze"]

__version__ = "0.1.0.dev0"


def __getattr__(name: str) -> Any:
    if name == "freeze":
        from nacs.frozen import freeze

        return freeze
    raise AttributeError(f"module 'nacs' has no attribute '{name}'")
