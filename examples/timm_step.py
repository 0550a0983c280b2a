"""The step of timm's training script: its optimizer, schedule, loss scaler, clipping and average of weights."""

import timm
import torch
from digits import sets
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3, NativeScaler
from torch.utils.data import DataLoader

import credit


def main(epochs: int = 10) -> float:
    """Train a small vision transformer on the digits and return the test accuracy of the averaged weights."""
    train, test = sets()
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=8, patch_size=2, in_chans=1, embed_dim=32, depth=2, num_heads=2, num_classes=10
    )
    net = credit.wrap(model, "usf")
    optimizer = create_optimizer_v2(net, opt="adamw", lr=3e-3, weight_decay=0.05)
    schedule = CosineLRScheduler(optimizer, t_initial=epochs, warmup_t=1, warmup_lr_init=1e-4)
    average, scaler = ModelEmaV3(net, decay=0.98), NativeScaler(device="cpu")
    loader = DataLoader(train, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(0))
    for epoch in range(epochs):
        net.train()
        schedule.step(epoch)
        for x, y in loader:
            loss = net(x.view(-1, 1, 8, 8), y)
            scaler(loss, optimizer, clip_grad=5.0, clip_mode="norm", parameters=net.parameters(), need_update=True)
            optimizer.zero_grad()
            average.update(net)
    x, y = test.tensors
    with torch.inference_mode():
        right = average.module.eval()(x.view(-1, 1, 8, 8)).argmax(1) == y
    return right.double().mean().item()


if __name__ == "__main__":
    print(f"accuracy {main():.1%}")
