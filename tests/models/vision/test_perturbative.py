"""Perturbative layers and the residual network of them: by hand, against autograd, beside its convolutional twin."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import credit
from credit.engine.ops.activations import Activate
from credit.engine.plan import Plan
from credit.models import build
from credit.models.vision.perturbative import Distribution, Perturbation, PerturbativeBlock
from credit.rules.replicas import Mapped

CIFAR, IMAGENET = (3, 32, 32), (3, 224, 224)


def network(shape: tuple[int, ...] = (2, 9, 11), classes: int = 5, seed: int = 0, **options: Any) -> nn.Module:
    return build({"kind": "perturbative_resnet", "masks": 4, **options}, shape, classes, seed=seed)


def batch(shape: tuple[int, ...], n: int = 6) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(n) % 5


def layers_of(model: nn.Module) -> list[Perturbation]:
    return [module for module in model.modules() if isinstance(module, Perturbation)]


def test_a_layer_combines_rectified_noisy_maps() -> None:
    torch.manual_seed(0)
    layer = Perturbation(3, 2, (4, 5), level=0.7).double().eval()
    mean, var, scale, shift = (torch.rand(3, dtype=torch.float64) + 0.5 for _ in range(4))
    layer.norm.load_state_dict({"running_mean": mean, "running_var": var, "weight": scale, "bias": shift}, strict=False)
    x = torch.randn(6, 3, 4, 5, dtype=torch.float64)
    y = torch.zeros(6, 2, 4, 5, dtype=torch.float64)
    for m in range(3):
        rectified = (x[:, m] + layer.noise[m]).clamp(min=0)
        normalised = (rectified - mean[m]) / (var[m] + layer.norm.eps).sqrt() * scale[m] + shift[m]
        for c in range(2):
            y[:, c] += layer.conv.weight[c, m, 0, 0] * normalised
    y += layer.conv.get_parameter("bias").reshape(2, 1, 1)
    torch.testing.assert_close(layer(x), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("distribution", "spread"), [("uniform", 0.2 / 3**0.5), ("gaussian", 0.2)])
def test_noise_has_the_spread_its_name_says(distribution: Distribution, spread: float) -> None:
    torch.manual_seed(0)
    noise = Perturbation(40, 2, (30, 30), distribution=distribution, level=0.2).noise
    assert noise.shape == (40, 30, 30) and abs(float(noise.mean())) < 4 * spread / noise.numel() ** 0.5
    assert float(noise.std()) == pytest.approx(spread, rel=0.02)
    assert (float(noise.abs().max()) <= 0.2) == (distribution == "uniform")


def test_noise_is_fixed_saved_and_drawn_from_the_seed() -> None:
    model, again, other = (network(seed=seed).double() for seed in (1, 1, 2))
    names = [name for name, _ in model.named_buffers() if name.endswith(".noise")]
    assert (
        len(names) == 16
        and set(names) <= set(model.state_dict())
        and not set(names) & {n for n, _ in model.named_parameters()}
    )
    assert all(torch.equal(model.get_buffer(name), again.get_buffer(name)) for name in names)
    assert not any(torch.equal(model.get_buffer(name), other.get_buffer(name)) for name in names)
    assert len({float(layer.noise.flatten()[0]) for layer in layers_of(model)}) == 16  # each layer's own
    x, y = batch((2, 9, 11))
    rule = credit.rule("bp", model)
    rule.step(x, y)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(torch.equal(model.get_buffer(name), again.get_buffer(name)) for name in names)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(x), model.eval()(x))


def test_without_noise_a_layer_is_a_pointwise_network() -> None:
    model = network(noise_level=0.0)
    assert len(layers_of(model)) == 16 and not any(layer.noise.any() for layer in layers_of(model))


@pytest.mark.parametrize(
    "options",
    [{}, {"layers": "conv"}, {"distribution": "gaussian", "stem": "imagenet", "depth": 10}, {"activation": "tanh"}],
    ids=str,
)
def test_backprop_of_the_plan_is_autograds(options: dict[str, Any]) -> None:
    shape = (2, 32, 35) if options.get("stem") == "imagenet" else (2, 9, 11)
    model = network(shape, **options).double()
    x, y = batch(shape)
    F.cross_entropy(model(x), y).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    credit.rule("bp", model).step(x, y)
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-9, atol=1e-12 * largest)
        # What a layer adds to whole maps, the norm above takes away again; everything else learns.
        dead = ".layer" in name and name.endswith(".bias")
        assert bool((expected[name].abs() > 1e-9 * largest).any()) != dead, name


@pytest.mark.slow
def test_replicas_in_one_step_keep_their_own_noise() -> None:
    alone, together = ([network(depth=10, seed=seed).double() for seed in (0, 1)] for _ in range(2))
    x = torch.randn(2, 6, 2, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.arange(12).reshape(2, 6) % 5
    for model, images, labels in zip(alone, x, y, strict=True):
        credit.rule("bp", model).step(images, labels)
    both = Mapped([credit.rule("bp", model) for model in together])
    both.step(x, y)
    for at, (model, replica) in enumerate(zip(alone, together, strict=True)):
        both.show_updates(at)
        for name, p in model.named_parameters():
            torch.testing.assert_close(replica.get_parameter(name).grad, p.grad, rtol=1e-9, atol=1e-11)


def test_nodes_are_activations_with_names_that_say_where_they_are() -> None:
    nodes = [op.name for op in Plan(network(depth=10)).ops if isinstance(op, Activate)]
    assert nodes[:5] == ["stem.act", *(f"stage1_block1.{at}" for at in ("layer1.act", "act1", "layer2.act", "act"))]
    assert len(nodes) == 1 + 4 * 4 and nodes[-1] == "stage4_block1.act"
    twins = [op.name for op in Plan(network(depth=10, layers="conv")).ops if isinstance(op, Activate)]
    assert twins == [name for name in nodes if ".layer" not in name]


@pytest.mark.parametrize(
    ("shape", "options", "sizes"),
    [
        (CIFAR, {}, [32, 16, 8, 4]),
        ((1, 28, 28), {}, [28, 14, 7, 4]),
        (CIFAR, {"stem": "imagenet"}, [8, 4, 2, 1]),
        ((3, 63, 63), {}, [63, 32, 16, 8]),
        ((3, 64, 64), {}, [16, 8, 4, 2]),
        ((3, 64, 64), {"stem": "cifar"}, [64, 32, 16, 8]),
        (IMAGENET, {}, [56, 28, 14, 7]),
    ],
)
def test_stages_halve_and_the_stem_follows_the_image(
    shape: tuple[int, ...], options: dict[str, Any], sizes: list[int]
) -> None:
    model = network(shape, **options)
    seconds = [model.get_submodule(f"stage{stage}_block2.layer2") for stage in range(1, 5)]
    noise = [layer.get_buffer("noise") for layer in seconds]
    assert [tuple(maps.shape) for maps in noise] == [(4 * 2**n, size, size) for n, size in enumerate(sizes)]
    assert model.eval()(torch.randn(1, *shape)).shape == (1, 5)


@pytest.mark.parametrize(
    ("shape", "classes", "masks", "perturbative", "conv", "noise"),
    [
        (CIFAR, 10, 160, 8_771_690, 69_775_530, 1_372_160),
        (CIFAR, 10, 32, 361_706, 2_797_610, 274_432),
        (IMAGENET, 1000, 256, 24_449_768, 180_645_096, 6_723_584),
    ],
)
def test_sizes_beside_the_convolutional_twin(
    shape: tuple[int, ...], classes: int, masks: int, perturbative: int, conv: int, noise: int
) -> None:
    with torch.device("meta"):
        ours, twin = (network(shape, classes, masks=masks, layers=layers) for layers in ("perturbative", "conv"))
    assert [sum(p.numel() for p in model.parameters()) for model in (ours, twin)] == [perturbative, conv]
    assert sum(layer.noise.numel() for layer in layers_of(ours)) == noise and not layers_of(twin)
    names = [
        [name for name, module in model.named_modules() if isinstance(module, PerturbativeBlock)]
        for model in (ours, twin)
    ]
    assert names[0] == names[1] and len(names[0]) == 8


@pytest.mark.slow
def test_it_learns_digits_by_backprop() -> None:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    pixels = torch.tensor((x - x.mean()) / x.std(), dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(y)
    model = network((1, 8, 8), 10, masks=16, depth=10)
    rule = credit.rule("bp", model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(0)
    for _ in range(60):
        at = torch.randint(0, 1500, (64,), generator=draw)
        rule.step(pixels[at], labels[at])
        optimizer.step()
    accuracy = (model.eval()(pixels[1500:]).argmax(1) == labels[1500:]).float().mean()
    assert accuracy > 0.8
