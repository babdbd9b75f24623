"""Neural Attentive Circuits: a context writes a circuit, tokens run through it."""

from nacs.attentive.attention import SKMDPA
from nacs.attentive.circuit import CircuitDesign, Modules
from nacs.attentive.config import AttentiveConfig
from nacs.attentive.effects import effects, ranked_by_effect
from nacs.attentive.frozen import freeze
from nacs.attentive.links import Links
from nacs.attentive.model import AttentiveCircuit
from nacs.attentive.modulated import ModFC, ModFFN
from nacs.attentive.surgery import drop_modules, eliminate_edges

__all__ = [
    "SKMDPA",
    "AttentiveCircuit",
    "AttentiveConfig",
    "CircuitDesign",
    "Links",
    "ModFC",
    "ModFFN",
    "Modules",
    "drop_modules",
    "effects",
    "eliminate_edges",
    "freeze",
    "ranked_by_effect",
]
