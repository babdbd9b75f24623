"""Neuronal Attention Circuit: a query-key pair relaxes to a logit."""

from nacs.neuronal.attention import NeuronalAttention, StreamState
from nacs.neuronal.config import NeuronalConfig, NeuronalModelConfig
from nacs.neuronal.dynamics import euler, exact, steady
from nacs.neuronal.frozen import freeze
from nacs.neuronal.model import NeuronalMixer, neuronal_model
from nacs.neuronal.wiring import Wiring, ncp

__all__ = [
    "NeuronalAttention",
    "NeuronalConfig",
    "NeuronalMixer",
    "NeuronalModelConfig",
    "StreamState",
    "Wiring",
    "euler",
    "exact",
    "freeze",
    "ncp",
    "neuronal_model",
    "steady",
]
