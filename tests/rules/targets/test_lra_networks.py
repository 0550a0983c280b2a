"""Local representation alignment on the networks of configs equals what autograd finds, with batch norm and pools on the way."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import credit
from tests.rules.lfp.test_lfp_twins import close
from tests.support import lra_objectives, nets
from tests.support.architectures import cifar_resnet, lenet5, mlp, perturbative_resnet
from tests.support.covering import covering
from tests.support.twins_lra import Settings


def synapse(weight: Tensor, shape: torch.Size) -> tuple[Tensor, lra_objectives.Carry]:
    """What an error synapse to a node of this shape (without the batch) does, by its weight's shape."""

    def carry(weight: Tensor, e: Tensor) -> Tensor:
        if weight.dim() == 4:
            size = weight.shape[2]
            steps = [-(-big // small) for big, small in zip(shape[1:], e.shape[2:], strict=True)]
            plain = [(small - 1) * t + 1 for small, t in zip(e.shape[2:], steps, strict=True)]
            missing = [big - small for big, small in zip(shape[1:], plain, strict=True)]
            return F.conv_transpose2d(e, weight, None, steps, size // 2, missing)
        d = e.flatten(1) @ weight.T
        return d.reshape(len(e), *shape) if d.shape[1] == shape.numel() else d[..., None, None].expand(len(e), *shape)

    return weight.detach(), carry


def check(model: nn.Module, x: Tensor, y: Tensor, s: Settings, **options: Any) -> Any:
    """Compare a rule's step with autograd's; return the rule."""
    words = ("beta", "gamma", "inner", "kappa", "p", "q", "loss", "depth")
    rule: Any = credit.rule(
        "rec_lra", model, precision="float64", **{word: getattr(s, word) for word in words}, **options
    )
    rule.keep_errors = True
    found = rule.updates(x, y)
    shapes = {name: error.shape[1:] for name, error in found.errors.items()}
    connectivity = {name: rule.error_connectivity.sources[name] for name in rule.error_connectivity.order}
    held = dict(rule.named_parameters())
    told = {(i, j): synapse(held.pop(f"error.{i}.{j}"), shapes[i]) for i, given in connectivity.items() for j in given}
    assert not held
    before = {name: value.clone() for name, value in model.named_buffers()}
    expected = lra_objectives.step(model, connectivity, told, x, y, s)
    model.load_state_dict(before, strict=False)
    close(found.logits, expected.logits, "logits")
    for name in found.errors:
        close(found.errors[name], expected.errors[name], f"error of {name}")
        close(found.targets[name], expected.targets[name], f"target of {name}")
    errors = {f"error.{i}.{j}": update for (i, j), update in expected.error_updates.items()}
    assert set(found.updates) == set(expected.updates) | set(errors)
    for name, update in (expected.updates | errors).items():
        if name.endswith(".bias") and float(update.abs().max()) < 1e-13:  # a batch norm above takes it out again
            assert float(found.updates[name].abs().max()) < 1e-13
            continue
        assert bool(update.any()), f"{name} is given nothing: the comparison says nothing"
        close(found.updates[name], update, name)
    return rule


def resnet(norm: Any = "batch", activation: str = "tanh") -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    model = cifar_resnet((3, 8, 8), 5, depth=8, width=3, norm=norm, activation=activation).double()
    return model, *nets.batch(model, (3, 8, 8), 5)


WAYS: list[tuple[dict[str, Any], str, int | None]] = [
    ({}, "local", None), ({}, "local", 1), ({}, "local", 2), ({}, "backprop", None), ({"skip_gap": 0}, "local", None),
    ({"skip_gap": 3}, "local", None), ({"synapses": "dense"}, "local", None),
    ({"error_connectivity": {"act": ["stage1_block1.act2", "output"], "stage2_block1.act1": None}}, "local", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("way", "norm", "activation"), covering(1, WAYS, ("batch", "none", "frozen"), ("tanh", "relu"), slow=3)
)
def test_residual_networks(way: tuple[dict[str, Any], str, int | None], norm: str, activation: str) -> None:
    told, inner, depth = way
    check(*resnet(norm, activation), Settings(0.5, 0.7, inner=inner, depth=depth), **told)


def test_a_residual_network_s_blocks_hear_the_output() -> None:
    rule = check(*resnet(), Settings(0.5))
    assert {key for key in dict(rule.named_parameters()) if key.endswith(".output")} == {
        "error.act.output", *(f"error.stage{k}_block1.act2.output" for k in (1, 2, 3)),
    }  # fmt: skip
    assert {key for key in dict(rule.named_parameters()) if not key.endswith(".output")} == {
        f"error.stage{k}_block1.act1.stage{k}_block1.act2" for k in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("variant", "pool", "told"),
    covering(2, ("lfp", "untied"), ("max", "average", "quadratic"),
             ({}, {"skip_gap": 0}, {"skip_gap": 3}, {"synapses": "conv"}, {"synapses": "dense"}), slow=3),
)  # fmt: skip
def test_lenet(variant: Any, pool: Any, told: dict[str, Any]) -> None:
    torch.manual_seed(1)
    model = lenet5((1, 16, 16), 5, variant=variant, pool=pool, activation="tanh").double()
    check(model, *nets.batch(model, (1, 16, 16), 2), Settings(0.5, p=1.5, q=2), **told)


@pytest.mark.parametrize("inner", ["local", "backprop"])
@pytest.mark.parametrize("layers", ["perturbative", "conv"])
def test_perturbative_networks(layers: Any, inner: str) -> None:
    torch.manual_seed(1)
    model = perturbative_resnet((3, 16, 16), 5, depth=10, masks=4, layers=layers, activation="tanh").double()
    check(model, *nets.batch(model, (3, 16, 16), 3), Settings(0.5, inner=inner))


def test_batch_norm_between_dense_layers() -> None:
    torch.manual_seed(1)
    model = mlp((6,), 5, widths=(8, 7, 6), activation="elu", norm="batch").double()
    check(model, *nets.batch(model, (6,), 6), Settings(0.5, loss="half_sse"))


def test_running_statistics_move_as_in_any_step() -> None:
    """Nodes that are found again for targets do not run the network again."""
    moved = []
    for name in ("rec_lra", "bp"):
        model, x, y = resnet()
        credit.rule(name, model, precision="float64").step(x, y)
        moved.append(dict(model.named_buffers()))
    assert all(bool(torch.equal(value, moved[1][name])) for name, value in moved[0].items())
