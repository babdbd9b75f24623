"""Both layers inside a plain PyTorch model: does an irregular series rise or fall?"""

import torch
from torch import nn
from torch.nn import functional as F

from nacs.attentive import SKMDPA, Links, Modules
from nacs.neuronal import NeuronalAttention, NeuronalConfig


class Model(nn.Module):
    """Observations hear each other (neuronal), then eight modules ask them (SKMDPA)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        config = NeuronalConfig(width=width, heads=4, horizon="elapsed")
        self.hear = NeuronalAttention(config)
        self.askers = nn.Parameter(torch.randn(8, width))
        self.signatures = nn.Parameter(torch.randn(8, 16))
        self.told = nn.Linear(width, 16)  # a signature for every observation
        self.ask = SKMDPA(width, heads=4, head_width=8, links=Links(0.5))
        self.head = nn.Linear(width, 2)

    def forward(self, values: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(values)  # (batch, time, width)
        tokens = tokens + self.hear(tokens, query_times=times)[0]
        askers = self.askers.expand(len(tokens), -1, -1)
        signatures = self.signatures.expand(len(tokens), -1, -1)
        receivers = Modules(signatures, None, askers)
        senders = Modules(self.told(tokens), None, tokens)
        return self.head(self.ask(receivers, senders).mean(1))  # (batch, 2)


def series(count: int, length: int = 20) -> tuple[torch.Tensor, ...]:
    """Values (count, length, 1), times (count, length) and whether they rise."""
    times, rises = torch.rand(count, length).cumsum(1), torch.randint(2, (count,))
    slope = 0.3 * (2 * rises - 1)[:, None] * times
    return (slope + torch.randn(count, length)).unsqueeze(-1), times, rises


if __name__ == "__main__":
    torch.manual_seed(0)
    model = Model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        values, times, rises = series(64)
        loss = F.cross_entropy(model(values, times), rises)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    values, times, rises = series(500)
    right = model.eval()(values, times).argmax(-1) == rises
    print(f"accuracy {right.double().mean():.2f}")
