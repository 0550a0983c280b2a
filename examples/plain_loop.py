"""A loop of one's own: gradient accumulation, autocast to bfloat16 and a gradient scaler."""

import torch
from digits import accuracy, network, sets
from torch.utils.data import DataLoader

import credit


def main(epochs: int = 5) -> float:
    """Train and return the test accuracy."""
    train, test = sets()
    net = credit.wrap(network(), "lisp_ce", normalizer="none")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # multiplies the loss, and with it the rule's updates
    loader = DataLoader(train, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(0))
    for _ in range(epochs):
        for at, (x, y) in enumerate(loader, 1):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = net(x, y) / 2
            scaler.scale(loss).backward()
            if at % 2 == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
    return accuracy(net, test)


if __name__ == "__main__":
    print(f"accuracy {main():.1%}")
