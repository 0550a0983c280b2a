"""The Trainer of transformers: next-token prediction by any rule.

Rules trace their network. Many models of transformers branch on the shapes of their inputs (GPT-2, Llama, BERT, ViT, ResNet), and
`credit.wrap` refuses them with the line at fault; a module of plain layers, such as this GPT, is traced.
"""

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

import credit
from credit.models import build

CONTEXT, TOKENS = 16, 10


class LanguageModel(nn.Module):
    """A small GPT with the inputs and outputs that the Trainer expects; ``loss`` is that of `credit.wrap`.

    Args:
        rule: name of the rule.
        options: the rule's options.
    """

    def __init__(self, rule: str, **options: Any) -> None:
        super().__init__()
        model = build({"kind": "gpt", "width": 32, "heads": 2, "layers": 1}, (CONTEXT,), TOKENS, seed=0)
        self.net = credit.wrap(model, rule, task="tokens", **options)

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss, of which the Trainer calls ``backward``, and the logits (B, T, V)."""
        if self.training:
            return {"loss": self.net(input_ids, labels)}
        with torch.no_grad():
            return {"loss": self.net(input_ids, labels), "logits": self.net(input_ids)}


def sequences(count: int, seed: int) -> list[dict[str, Tensor]]:
    """Return sequences that count in steps of 1, 2 or 3 modulo 10: tokens (T,) and the tokens that follow them (T,)."""
    source = torch.Generator().manual_seed(seed)
    first, step = torch.randint(0, 10, (count, 1), generator=source), torch.randint(1, 4, (count, 1), generator=source)
    rows = (first + step * torch.arange(CONTEXT + 1)) % 10
    return [{"input_ids": row[:-1], "labels": row[1:]} for row in rows]


def main(epochs: int = 8, rule: str = "dfa") -> float:
    """Train and return the loss on other sequences, in nats a token; that of uniform predictions is 2.3."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=16, learning_rate=3e-3, use_cpu=True, seed=0,
            gradient_accumulation_steps=2, max_grad_norm=1.0, report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            LanguageModel(rule), arguments, train_dataset=sequences(512, 0), eval_dataset=sequences(128, 1)
        )
        trainer.train()
        return float(trainer.evaluate()["eval_loss"])


if __name__ == "__main__":
    print(f"loss {main():.3f} nats a token")
