"""PyTorch Lightning: the module returns the loss of `credit.wrap`, and Lightning's own loop does the rest."""

import lightning
import torch
from digits import accuracy, network, sets
from torch import Tensor
from torch.utils.data import DataLoader

import credit


class Digits(lightning.LightningModule):
    """A network that a rule trains.

    Args:
        rule: name of the rule.
        options: the rule's options.
    """

    def __init__(self, rule: str = "fa", **options: object) -> None:
        super().__init__()
        self.net = credit.wrap(network(), rule, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, 10)."""
        out: Tensor = self.net(x)
        return out

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss, whose gradients are the rule's updates."""
        loss: Tensor = self.net(*batch)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the network, and of the rule's own parameters."""
        return torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)


def main(epochs: int = 5) -> float:
    """Train and return the test accuracy."""
    train, test = sets()
    module = Digits()
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accumulate_grad_batches=2, gradient_clip_val=5.0,
    )  # fmt: skip
    loader = DataLoader(train, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(0))
    trainer.fit(module, loader)
    return accuracy(module, test)


if __name__ == "__main__":
    print(f"accuracy {main():.1%}")
