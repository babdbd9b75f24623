"""Attentive and neuronal circuits in PyTorch.

`nacs.attentive` has Neural Attentive Circuits (Rahaman et al., 2022). torch is imported
by the parts, not here, so that the command line starts quickly.
"""

__all__ = ["__version__"]

__version__ = "0.1.0.dev0"
