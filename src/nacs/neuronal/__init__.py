"""Neuronal Attention Circuit: a query-key pair relaxes to a logit."""

from nacs.neuronal.attention import NeuronalAttention, StreamState
from nacs.neuronal.config import NeuronalConfig, NeuronalModelConfig
from nacs.neuronal.dynamics import euler, exact, steady
from nacs.neuronal.model import ModelState, NeuronalModel
from nacs.neuronal.wiring import Wiring, ncp

__all__ = [
    "ModelState",
    "NeuronalAttention",
    "NeuronalConfig",
    "NeuronalModel",
    "NeuronalModelConfig",
    "StreamState",
    "Wiring",
    "euler",
    "exact",
    "ncp",
    "steady",
]
