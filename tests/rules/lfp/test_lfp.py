"""Properties of layer-wise feedback propagation: its identity with a gradient, conservation, BatchNorm, what stays frozen."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.models.activations import Step
from credit.rules import Mapped
from tests.rules.lfp.test_lfp_twins import Branches, close, convs, numbers, parts_of
from tests.support import nets, twins_lfp

# ------------------------------------------------------------ LFP-epsilon is |w| times a gradient


class Secant(torch.autograd.Function):
    """An activation whose derivative is replaced by value / (z + sign(z) epsilon)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, value: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(z, value)
        ctx.epsilon = epsilon
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        z, value = ctx.saved_tensors
        return gradient * value / (z + torch.where(z < 0, -1, 1).to(z.dtype) * ctx.epsilon), None, None


class WithSecants(nn.Module):
    """An activation as before, its derivative the secant."""

    def __init__(self, act: nn.Module, epsilon: float) -> None:
        super().__init__()
        self.act, self.epsilon = act, epsilon

    def forward(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            value = self.act(z)
        out: Tensor = Secant.apply(z, value, self.epsilon)
        return out


def secants(model: nn.Module, epsilon: float = 0.0) -> nn.Module:
    """A copy of a network in which every activation has its secant for a derivative, stabilised by epsilon."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, tuple(nets.ACTIVATIONS.values())) and not isinstance(child, nn.Identity):
                setattr(module, name, WithSecants(child, epsilon))
    return model


NETWORKS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "mlp relu": lambda: (nets.mlp("relu"), (7,)),
    "mlp tanh": lambda: (nets.mlp("tanh"), (7,)),
    "mlp sigmoid": lambda: (nets.mlp("sigmoid"), (7,)),
    "max-pool relu": lambda: (convs("relu", "max"), (2, 6, 5)),
    "avg-pool tanh": lambda: (convs("tanh", "avg"), (2, 6, 5)),
    "residual relu": lambda: (nets.Residual("relu", norm=False), (2, 5, 7)),
}


@pytest.mark.parametrize(("epsilon", "least"), [(1e-6, 1e-4), (1e-13, 1e-9)])
@pytest.mark.parametrize("network", NETWORKS)
def test_epsilon_is_the_size_of_the_weights_times_a_gradient_through_secants(
    network: str, epsilon: float, least: float
) -> None:
    model, shape = NETWORKS[network]()
    x, y = nets.batch(model, shape)
    twin = secants(model)
    logits = twin(x)
    F.binary_cross_entropy_with_logits(logits, F.one_hot(y, nets.CLASSES).double(), reduction="sum").div(
        len(x)
    ).backward()
    credit.rule("lfp_epsilon", model, epsilon=epsilon, clip_unit=None).step(x, y)
    for (name, p), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None and other.grad is not None
        expected = p.detach().abs() * other.grad
        assert float((p.grad - expected).norm() / expected.norm()) < least, name


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "step"])
def test_with_epsilon_in_the_secants_and_at_the_logits_it_is_exact(activation: str, epsilon: float) -> None:
    model = convs(activation, "max")
    x, y = nets.batch(model, (2, 6, 5))
    twin = secants(model, epsilon)
    logits = twin(x)
    o = logits.detach()
    feedback = (F.one_hot(y, nets.CLASSES) - o.sigmoid()) * o / (o + torch.where(o < 0, -1, 1).double() * epsilon)
    logits.backward(-feedback / len(x))
    credit.rule("lfp_epsilon", model, epsilon=epsilon, clip_unit=None).step(x, y)
    for (name, p), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None and other.grad is not None
        close(p.grad, p.detach().abs() * other.grad, name)


def test_on_relus_the_gradient_is_the_ordinary_one() -> None:
    model = convs("relu", "max")
    x, y = nets.batch(model, (2, 6, 5))
    twin = copy.deepcopy(model)
    F.binary_cross_entropy_with_logits(twin(x), F.one_hot(y, nets.CLASSES).double(), reduction="sum").div(
        len(x)
    ).backward()
    credit.rule("lfp_epsilon", model, epsilon=1e-14).step(x, y)
    for p, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert other.grad is not None
        torch.testing.assert_close(p.grad, p.detach().abs() * other.grad, rtol=1e-9, atol=1e-13)


# ------------------------------------------------------------ conservation and bounds


def feedback_in_and_out(name: str, model: nn.Module, shape: tuple[int, ...], **options: Any) -> tuple[Tensor, Tensor]:
    """What reaches the input and what the output is told, a row a sample."""
    x, y = nets.batch(model, shape)
    rule = credit.rule(name, model, **options)
    rule.keep_input_signal = True
    step = rule.step(x, y)
    assert step.input_signal is not None
    out = torch.from_numpy(twins_lfp.sigmoid_feedback(step.logits.numpy(), y.numpy()))
    return step.input_signal.flatten(1), out


@pytest.mark.parametrize("activation", ["relu", "tanh", "step"])
def test_lfp_0_conserves_feedback_without_biases(activation: str) -> None:
    came, went = feedback_in_and_out("lfp_0", convs(activation, "max", bias=False), (2, 6, 5))
    torch.testing.assert_close(came.sum(1), went.sum(1), rtol=1e-9, atol=1e-11)
    came, went = feedback_in_and_out("lfp_0", convs(activation, "max"), (2, 6, 5))
    assert float((came.sum(1) - went.sum(1)).abs().max()) > 1e-3  # biases keep their share


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_zpm_cannot_make_feedback_larger_and_alphabeta_can_by_its_factors_alone(activation: str) -> None:
    came, went = feedback_in_and_out("lfp_zpm", convs(activation, "max"), (2, 6, 5))
    assert bool((came.abs().sum(1) <= went.abs().sum(1)).all()) and bool((came.abs().sum(1) > 0).all())
    came, went = feedback_in_and_out("lfp_alphabeta", convs(activation, "max"), (2, 6, 5))
    assert bool((came.abs().sum(1) <= 3**3 * went.abs().sum(1)).all())  # alpha + beta in each of three layers


def test_a_sum_that_is_exactly_zero() -> None:
    """z = 0 of contributions that cancel: zero, alpha-beta and z+z- give nothing, epsilon takes sign(0) for +1."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Identity(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([[2.0, 2.0], [1.0, -0.5]]))
        model.get_parameter("2.weight").copy_(torch.tensor([[1.0, 1.0], [0.5, -2.0]]))
    x, y = torch.tensor([[1.0, -1.0]], dtype=torch.float64), torch.tensor([1])
    for name, word in (("lfp_0", "zero"), ("lfp_epsilon", "epsilon"), ("lfp_alphabeta", "alphabeta"), ("lfp_zpm", "zpm"),
                       ("lfp_gamma", "gamma")):  # fmt: skip
        rule = credit.rule(name, copy.deepcopy(model))
        rule.keep_input_signal = True
        step = rule.step(x, y)
        _, updates, reached = twins_lfp.step(
            parts_of(model, (2,)), x.numpy(), y.numpy(), twins_lfp.Settings(relevance=word)
        )
        assert step.input_signal is not None and step.input_signal.isfinite().all()
        close(step.input_signal, reached, name)
        for key, update in updates.items():
            grad = rule.model.get_parameter(key).grad
            assert grad is not None
            close(-grad, update, f"{name} {key}")


# ------------------------------------------------------------ BatchNorm


def normed(activation: str = "relu") -> nn.Sequential:
    act = nets.ACTIVATIONS[activation]
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), act(), nn.Flatten(), nn.Linear(36, 4, bias=False), nn.BatchNorm1d(4), act(),
        nn.Linear(4, nets.CLASSES),
    ).double()  # fmt: skip
    nets._randomize(model, 9, 1.5)
    return model


def statistics(model: nn.Sequential, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation that each BatchNorm of a sequence meets on a batch."""
    found = {}
    with torch.no_grad():
        for name, layer in copy.deepcopy(model).named_children():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                over = [at for at in range(x.dim()) if at != 1]
                found[name] = (x.mean(over), (x.var(over, correction=0) + layer.eps).sqrt())
            x = layer(x)
    return found


@pytest.mark.parametrize("name", ["lfp_epsilon", "lfp_zpm", "lfp_alphabeta", "lfp_0", "lfp_gamma"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_batchnorm_folded_is_the_rule_on_the_folded_layer(name: str, activation: str) -> None:
    model = normed(activation)
    x, y = nets.batch(model, (2, 5, 6))
    folded, gains = copy.deepcopy(model), {}
    with torch.no_grad():
        for norm, (mean, deviation) in statistics(model, x).items():
            layer, batchnorm = folded.get_submodule(str(int(norm) - 1)), folded.get_submodule(norm)
            assert isinstance(layer, nn.Linear | nn.Conv2d) and isinstance(batchnorm, nn.BatchNorm1d | nn.BatchNorm2d)
            gain = batchnorm.weight / deviation
            bias = 0.0 if layer.bias is None else layer.bias
            layer.weight.mul_(gain.view(-1, *[1] * (layer.weight.dim() - 1)))
            layer.bias = nn.Parameter((bias - mean) * gain + batchnorm.bias)
            setattr(folded, norm, nn.Identity())
            gains[str(int(norm) - 1)] = gain
    own, other = credit.rule(name, model, batchnorm="folded"), credit.rule(name, folded)
    own.keep_input_signal = other.keep_input_signal = True
    one, two = own.step(x, y), other.step(x, y)
    assert one.input_signal is not None and two.input_signal is not None
    close(one.logits, two.logits, "logits")
    close(one.input_signal, two.input_signal, "the feedback at the input")
    for at, gain in gains.items():
        # The folded weight is w g, so that of what |w g| is given w gets the part with g's sign.
        weight = folded.get_parameter(f"{at}.weight").grad
        assert weight is not None and model.get_parameter(f"{at}.weight").grad is not None
        expected = weight * gain.sign().view(-1, *[1] * (weight.dim() - 1))
        close(model.get_parameter(f"{at}.weight").grad, expected, f"{at}.weight")  # type: ignore[arg-type]
    assert any(bool((gain < 0).any()) and bool((gain > 0).any()) for gain in gains.values())


class Norm(twins_lfp.Part):
    """BatchNorm in train mode as one more layer under LFP-epsilon; autograd gives its whole Jacobian."""

    def __init__(self, name: str, layer: nn.BatchNorm1d | nn.BatchNorm2d, shape: tuple[int, ...]) -> None:
        self.name, self.shape, self.eps = name, shape, layer.eps
        self.scale, self.shift = (torch.from_numpy(numbers(p)).requires_grad_() for p in (layer.weight, layer.bias))

    def forward(self, a: twins_lfp.Array) -> twins_lfp.Array:
        self.x = torch.from_numpy(a).requires_grad_()
        x = self.x.view(-1, *self.shape)
        self.y = F.batch_norm(x, None, None, self.scale, self.shift, training=True, eps=self.eps).flatten(1)
        return self.y.detach().numpy()

    def backward(self, r: twins_lfp.Array, s: twins_lfp.Settings, found: twins_lfp.Found) -> twins_lfp.Array:
        y = self.y.detach().numpy()
        q = torch.from_numpy(r / (y + twins_lfp.signed(y) * s.epsilon))
        x, scale, shift = torch.autograd.grad(self.y, (self.x, self.scale, self.shift), q)
        found.add(f"{self.name}.weight", (self.scale.detach().abs() * scale / len(r)).numpy())
        found.add(f"{self.name}.bias", (self.shift.detach().abs() * shift / len(r)).numpy())
        return (self.x.detach() * x).numpy()


@pytest.mark.parametrize("relevance", ["epsilon", "zpm"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_batchnorm_as_one_more_epsilon_layer(relevance: str, activation: str) -> None:
    model = normed(activation)
    x, y = nets.batch(model, (2, 5, 6))
    layers = dict(model.named_children())
    parts: list[twins_lfp.Part] = []
    shape: tuple[int, ...] = tuple(x.shape[1:])
    for name, layer in layers.items():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            parts.append(Norm(name, layer, shape))
        else:
            parts += parts_of(nn.Sequential(layer), shape, name)
            if isinstance(parts[-1], twins_lfp.Weights):
                parts[-1].name = name
        with torch.no_grad():
            shape = tuple(layer(torch.zeros(2, *shape, dtype=torch.float64)).shape[1:])
    rule = credit.rule(f"lfp_{relevance}", copy.deepcopy(model), batchnorm="epsilon")
    rule.keep_input_signal = True
    step = rule.step(x, y)
    logits, updates, reached = twins_lfp.step(parts, x.numpy(), y.numpy(), twins_lfp.Settings(relevance))
    close(step.logits, logits, "logits")
    assert step.input_signal is not None
    close(step.input_signal, reached, "the feedback at the input")
    found = nets.gradients(rule.model)
    assert set(found) == set(updates)
    for key, update in updates.items():
        close(-torch.from_numpy(found[key]), update, key)


# ------------------------------------------------------------ what moves, and what does not


def test_parameters_at_zero_stay_and_are_named() -> None:
    model = nets.mlp("relu")
    with torch.no_grad():
        model.get_parameter("0.bias").zero_()
        model.get_parameter("4.weight")[1] = 0
    rule = credit.rule("lfp_epsilon", model)
    (note,) = [note for note in rule.notes if note.startswith("frozen")]
    assert "0.bias are 0 everywhere" in note and "they never move; initialise them away from 0" in note
    assert "4.weight" not in note  # a part of it moves
    x, y = nets.batch(model, (7,))
    rule.step(x, y)
    bias, weight = (model.get_parameter(name).grad for name in ("0.bias", "4.weight"))
    assert bias is not None and weight is not None
    assert not bias.any() and not weight[1].any() and weight[0].any()
    assert not any(note.startswith("frozen") for note in credit.rule("lfp_epsilon", nets.mlp("relu")).notes)


def test_sum_is_the_batch_size_times_the_mean() -> None:
    one, two = convs("relu", "max"), convs("relu", "max")
    x, y = nets.batch(one, (2, 6, 5), 4)
    credit.rule("lfp_epsilon_zpm", one).step(x, y)
    credit.rule("lfp_epsilon_zpm", two, reduction="sum").step(x, y)
    for p, other in zip(one.parameters(), two.parameters(), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(other.grad, 4 * p.grad, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["lfp_epsilon", "lfp_zpm", "lfp_alphabeta"])
def test_steps_teach_a_network_of_steps(name: str) -> None:
    """Activations without derivatives: a network of Heavisides learns to tell three clouds of points apart."""
    stream = torch.Generator().manual_seed(1)
    y = torch.arange(3).repeat(80)
    x = torch.randn((240, 6), generator=stream) * 0.6 + torch.randn((3, 6), generator=stream)[y] * 1.5
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 32), Step(), nn.Linear(32, 3))
    rule = credit.rule(name, model, normalizer="max_abs")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    before = model.get_parameter("0.weight").detach().clone()
    losses = []
    for _ in range(150):
        losses.append(float(rule.step(x, y).loss))
        optimizer.step()
    with torch.no_grad():
        assert float((model(x).argmax(1) == y).float().mean()) > 0.9
    assert losses[-1] < 0.5 * losses[0] and not torch.equal(before, model.get_parameter("0.weight"))


def test_under_backprop_the_input_signal_is_each_samples_derivative() -> None:
    model = nn.Sequential(Branches(nn.Linear(7, 7), nn.Tanh()), nn.Linear(7, nets.CLASSES)).double()
    nets._randomize(model, 5)
    x, y = nets.batch(model, (7,))
    rule = credit.rule("bp", model)
    assert rule.step(x, y).input_signal is None
    rule.keep_input_signal = True
    step = rule.step(x, y)
    inputs = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(F.cross_entropy(model(inputs), y, reduction="sum"), inputs)
    torch.testing.assert_close(step.input_signal, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", ["lfp_epsilon", "lfp_zpm", "lfp_alphabeta", "lfp_gamma", "lfp_epsilon_zpm"])
def test_replicas_mapped_equal_a_loop(name: str) -> None:
    options: dict[str, Any] = {"normalizer": "max_abs", "clip_unit": 0.1}
    models = [convs("relu", "avg") for _ in range(3)]
    for at, model in enumerate(models):
        nets._randomize(model, at, 1.5)
    batches = [nets.batch(model, (2, 6, 5)) for model in models]
    loop = copy.deepcopy(models)
    for model, (x, y) in zip(loop, batches, strict=True):
        credit.rule(name, model, **options).step(x, y)
    together = Mapped([credit.rule(name, model, **options) for model in models])
    together.step(*(torch.stack(each) for each in zip(*batches, strict=True)))
    for at, model in enumerate(loop):
        together.show_updates(at)
        for (key, p), own in zip(model.named_parameters(), models[at].parameters(), strict=True):
            assert p.grad is not None and own.grad is not None
            close(own.grad, p.grad, f"{key} of replica {at}")
