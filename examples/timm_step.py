"""The step of timm's training script: its optimizer, schedule, accumulation, loss scaler, clipping and average of weights."""

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
    optimizer = create_optimizer_v2(net, opt="adamw", lr=1e-2, weight_decay=0.05)
    average, scaler = ModelEmaV3(net, decay=0.98), NativeScaler(device="cpu")
    order = torch.Generator().manual_seed(0)
    loader = DataLoader(train, batch_size=32, shuffle=True, drop_last=True, generator=order)
    total, updates = epochs * len(loader) // 2, 0
    schedule = CosineLRScheduler(optimizer, total, warmup_t=total // 10, warmup_lr_init=1e-4, t_in_epochs=False)
    schedule.step_update(updates)
    for _ in range(epochs):
        net.train()
        for at, (x, y) in enumerate(loader, 1):
            loss, need_update = net(x.view(-1, 1, 8, 8), y) / 2, at % 2 == 0
            scaler(loss, optimizer, 5.0, clip_mode="norm", parameters=net.parameters(), need_update=need_update)
            if need_update:
                updates += 1
                optimizer.zero_grad()
                average.update(net, step=updates)
                schedule.step_update(updates)
    x, y = test.tensors
    with torch.inference_mode():
        right = average.module.eval()(x.view(-1, 1, 8, 8)).argmax(1) == y
    return right.double().mean().item()


if __name__ == "__main__":
    print(f"accuracy {main():.1%}")
