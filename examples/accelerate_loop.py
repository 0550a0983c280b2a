"""Accelerate: prepare, accumulate, backward and clip as for any module."""

import torch
from accelerate import Accelerator
from digits import accuracy, network, sets
from torch.utils.data import DataLoader

import credit


def main(epochs: int = 5) -> float:
    """Train and return the test accuracy."""
    train, test = sets()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = credit.wrap(network(), "usf")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(train, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(0))
    net, optimizer, loader = accelerator.prepare(net, optimizer, loader)
    for _ in range(epochs):
        for x, y in loader:
            with accelerator.accumulate(net):
                accelerator.backward(net(x, y))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(net.parameters(), 5.0)
                optimizer.step()
                optimizer.zero_grad()
    return accuracy(accelerator.unwrap_model(net), test)


if __name__ == "__main__":
    print(f"accuracy {main():.1%}")
