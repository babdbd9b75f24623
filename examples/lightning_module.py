"""Both layers in Lightning: the model of plain_pytorch.py, trained by a Trainer."""

import lightning
import torch
from plain_pytorch import Model, series
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Rising(lightning.LightningModule):
    """Training and test steps around a module that knows nothing of Lightning."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        values, times, rises = batch
        return F.cross_entropy(self.model(values, times), rises)

    def test_step(self, batch: list[torch.Tensor]) -> None:
        values, times, rises = batch
        right = self.model(values, times).argmax(-1) == rises
        self.log("accuracy", right.float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


if __name__ == "__main__":
    lightning.seed_everything(0, verbose=False)
    train, test = TensorDataset(*series(3840)), TensorDataset(*series(500))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False
    )
    model = Rising()
    trainer.fit(model, DataLoader(train, 64))
    trainer.test(model, DataLoader(test, 500))
