"""Models as people write them: each equals autograd under `bp`, or is refused before the first step."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.ao.quantization import DeQuantStub, FakeQuantize, QuantStub
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth, stochastic_depth

import credit
from tests.support.compare import Net, X, equals_autograd, net, refusal


def layers(*between: nn.Module) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), *(between or (nn.ReLU(),)), nn.Linear(6, 4)).double()


class Reverse(torch.autograd.Function):
    """Gradient reversal, whose forward is the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return -grads[0]


class Halve(torch.autograd.Function):
    """The identity with half the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] / 2


reverse = Reverse.apply


@torch.fx.wrap
def halved(x: Tensor) -> Tensor:
    out: Tensor = Halve.apply(x)
    return out


class LoraLinear(nn.Linear):
    """A linear layer with a low-rank term of its own."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__(size, out)
        self.down, self.up = nn.Linear(size, 2, bias=False), nn.Linear(2, out, bias=False)
        self.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self.up(self.down(x))


def _frozen(model: Any) -> None:
    model.a.requires_grad_(False)


def _without_gradients(model: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = torch.relu(model.a(x))
    out: Tensor = model.c(h)
    return out


def _switched_off(model: Any, x: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    h = torch.relu(model.a(x))
    torch.set_grad_enabled(True)
    out: Tensor = model.c(h)
    return out


def _adapter(model: Any) -> None:
    _frozen(model)
    model.down, model.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 6, bias=False)


def _average(model: Any) -> None:
    model.average = copy.deepcopy(model.a).requires_grad_(False)


EQUAL: dict[str, Callable[[], nn.Module]] = {
    "tied weights": lambda: net(
        lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x))))), lambda m: setattr(m, "b", _tied(m.a))
    ),
    "a module used twice": lambda: net(lambda m, x: m.c(torch.relu(m.a(torch.relu(m.a(x)))))),
    "checkpoint without reentry": lambda: net(
        lambda m, x: m.c(checkpoint(lambda t: torch.relu(m.a(t)), x, use_reentrant=False))
    ),
    "frozen backbone under no_grad": lambda: net(_without_gradients, _frozen),
    "frozen backbone, gradients switched off": lambda: net(_switched_off, _frozen),
    "a branch detached beside one that is not": lambda: net(
        lambda m, x: (lambda h: m.c(h * h.detach()))(torch.tanh(m.a(x)))
    ),
    "straight-through rounding": lambda: net(
        lambda m, x: (lambda h: m.c(h + (h * 2 - h).detach()))(torch.tanh(m.a(x)))
    ),
    "shared ReLU": lambda: (lambda relu: layers(relu, nn.Linear(6, 6), relu))(nn.ReLU()),
    "adapter beside a frozen layer": lambda: net(lambda m, x: m.c(torch.relu(m.a(x) + m.up(m.down(x)))), _adapter),
    "a convolution of one's own": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), DoubledConv(1, 4, (2, 3)), nn.Flatten()
    ).double(),
    "adapter in a layer's subclass": lambda: nn.Sequential(LoraLinear(6, 6), nn.ReLU(), LoraLinear(6, 4)).double(),
    "F.linear": lambda: net(lambda m, x: F.linear(torch.relu(F.linear(x, m.a.weight, m.a.bias)), m.c.weight, m.c.bias)),
    "weights scaled in forward": lambda: net(lambda m, x: m.c(torch.relu(F.linear(x, m.a.weight * 0.5, m.a.bias)))),
    "timm's stochastic depth, off": lambda: layers(DropPath(0.0), nn.ReLU()),
    "torchvision's stochastic depth, off": lambda: layers(StochasticDepth(0.0, "row"), nn.ReLU()),
    "quantization stubs": lambda: nn.Sequential(QuantStub(), layers(), DeQuantStub()),
    "average kept in a submodule": lambda: net(lambda m, x: m.c(torch.relu(m.a(x))), _average),
    "a buffer read": lambda: net(
        lambda m, x: m.c(torch.relu(m.a(x)) * m.scale), lambda m: m.register_buffer("scale", torch.rand(6))
    ),
    "a lazy layer after its dry run": lambda: _after_a_dry_run(),
    "dropout off": lambda: layers(nn.Dropout(0.0), nn.ReLU()),
    "batch norm": lambda: layers(nn.BatchNorm1d(6), nn.ReLU()),
    "weight norm": lambda: layers(weight_norm(nn.Linear(6, 6))),
    "a whole model in eval mode": lambda: _moved(layers(nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))).eval(),
}


def _tied(layer: nn.Linear) -> nn.Linear:
    other = nn.Linear(6, 6)
    other.weight = layer.weight
    return other


def _after_a_dry_run() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 4))
    model(X.float())
    return model.double()


def _moved(model: nn.Module) -> nn.Module:
    model(X)
    return model


@pytest.mark.parametrize("name", EQUAL)
def test_equal_to_autograd(name: str) -> None:
    equals_autograd(EQUAL[name]())


def test_a_custom_function_that_is_wrapped_is_differentiated_by_autograd() -> None:
    equals_autograd(net(lambda m, x: m.c(halved(torch.relu(m.a(x))))), local_autograd=True)


def _statistics(model: Any) -> None:
    _mean(model)
    model.register_buffer("var", torch.ones(6))


def test_functions_that_move_buffers_move_them_once_under_local_autograd() -> None:
    def run(model: Any, x: Tensor) -> Any:
        return model.c(F.batch_norm(model.a(x), model.mean, model.var, training=True))

    equals_autograd(net(run, _statistics), local_autograd=True)


@torch.fx.wrap
def shifted(x: Tensor, mean: Tensor) -> Tensor:
    return x - mean.mul_(0.5)


def test_a_function_that_changes_its_input_is_refused_under_local_autograd() -> None:
    said = refusal(net(lambda m, x: m.c(shifted(m.a(x), m.mean)), _mean), local_autograd=True)
    assert "'shifted' changes one of its inputs in place" in said and "returns a new tensor" in said


def test_random_functions_under_local_autograd_are_refused_at_the_first_step() -> None:
    said = refusal(net(lambda m, x: m.c(F.rrelu(m.a(x), training=True))), local_autograd=True)
    assert "does not compute what the module does" in said and "random numbers" in said


def hooked(kind: str, at: int | None) -> nn.Module:
    model = layers()
    target: nn.Module = model if at is None else model[at]
    hooks: dict[str, Callable[[], Any]] = {
        "forward pre-hook": lambda: target.register_forward_pre_hook(lambda module, given: (given[0] + 1,)),
        "forward hook": lambda: target.register_forward_hook(lambda module, given, out: 3 * out),
        "backward hook": lambda: target.register_full_backward_hook(lambda module, into, out: None),
        "backward pre-hook": lambda: target.register_full_backward_pre_hook(lambda module, out: None),
    }
    hooks[kind]()
    return model


@pytest.mark.parametrize("kind", ["forward hook", "forward pre-hook", "backward hook", "backward pre-hook"])
@pytest.mark.parametrize("at", [0, 1, None])
def test_hooks_are_refused_by_module_and_kind(kind: str, at: int | None) -> None:
    said = refusal(hooked(kind, at))
    where = "Sequential has" if at is None else f"'{at}' ({'Linear' if at == 0 else 'ReLU'}) in Sequential has"
    assert f"{where} a {kind} (hooked.<locals>.<lambda>" in said and "remove()" in said


def test_hooks_on_parameters_and_on_all_modules_are_refused() -> None:
    model = layers()
    model[0].weight.register_hook(lambda grad: -grad)
    assert "parameter '0.weight' of Sequential has a gradient hook" in refusal(model)
    handle = nn.modules.module.register_module_forward_hook(lambda module, given, out: 2 * out)
    try:
        assert "global forward hook" in refusal(layers())
    finally:
        handle.remove()


def _autocast(model: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        h = torch.relu(model.a(x))
    out: Tensor = model.c(h)
    return out


def _counted(model: Any, x: Tensor) -> Tensor:
    model.calls += 1
    out: Tensor = model.c(torch.relu(model.a(x)))
    return out


def _listed(model: Any, x: Tensor) -> Tensor:
    h = torch.relu(model.a(x))
    model.seen.append(h)
    out: Tensor = model.c(h)
    return out


def _running(model: Any, x: Tensor) -> Tensor:
    model.mean.mul_(0.9).add_(x.mean(0) * 0.1)
    out: Tensor = model.c(torch.relu(model.a(x - model.mean)))
    return out


def _running_anew(model: Any, x: Tensor) -> Tensor:
    model.mean = model.mean * 0.9 + x.mean(0) * 0.1
    out: Tensor = model.c(torch.relu(model.a(x)))
    return out


def _plain(model: Any, x: Tensor) -> Tensor:
    out: Tensor = model.c(torch.relu(model.a(x)))
    return out


def _kept(model: Any, x: Tensor) -> Tensor:
    model.features = torch.relu(model.a(x))
    out: Tensor = model.c(model.features)
    return out


def _mean(model: Any) -> None:
    model.register_buffer("mean", torch.zeros(6))


def _fake_quantized(model: Any) -> None:
    model.quantize = FakeQuantize()


def _drawn(draw: Callable[[Any], float]) -> Callable[[], nn.Module]:
    def init(model: Any) -> None:
        model.generator = np.random.default_rng(0)

    return lambda: net(lambda m, x: m.c(torch.relu(m.a(x)) * draw(m)), init)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "custom function, name kept": (
        lambda: net(lambda m, x: m.c(reverse(m.a(x)))), ("Reverse.apply", "custom autograd function", "torch.fx.wrap"),
    ),
    "custom function": (lambda: net(lambda m, x: m.c(Halve.apply(m.a(x)))), ("Halve.apply", "test_public_models.py, line")),
    "checkpoint with reentry": (
        lambda: net(lambda m, x: m.c(checkpoint(m.a, x, use_reentrant=True))), ("use_reentrant=False",),
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(6), nn.Linear(6, 4)).double(), ("'0' (LazyLinear)", "model(x[:2])")),
    "compiled": (lambda: _compiled(layers()), ("torch.compile", "_orig_mod", "compile=True")),
    "compiled in place": (lambda: _compiled_in_place(layers()), ("module.compile()",)),
    "a compiled layer": (lambda: layers(_compiled(nn.Linear(6, 6))), ("'1' (OptimizedModule) in Sequential",)),
    "a trained backbone under no_grad": (lambda: net(_without_gradients), ("a.weight, a.bias", "torch.no_grad()", "'a'")),
    "a trained backbone, gradients off": (lambda: net(_switched_off), ("a.weight, a.bias", "linear 'a'")),
    "a buffer changed in place": (lambda: net(_running, _mean), ("'mean'", "in place")),
    "a buffer assigned": (lambda: net(_running_anew, _mean), ("assigns or changes 'mean'",)),
    "a counter": (lambda: net(_counted, lambda m: setattr(m, "calls", 0)), ("assigns or changes 'calls'",)),
    "a list": (lambda: net(_listed, lambda m: setattr(m, "seen", [])), ("assigns or changes 'seen'",)),
    "a new attribute": (
        lambda: net(_kept), ("changes 'features'",),
    ),
    "dict outputs": (lambda: net(lambda m, x: {"logits": m.c(m.a(x))}), ("returns dict", "one tensor of logits")),
    "autocast": (lambda: net(_autocast), ("torch.autocast('cpu')", "precision='bf16'", "line")),
    "DataParallel": (lambda: nn.DataParallel(layers()), ("model.module",)),
    "TorchScript": (lambda: torch.jit.trace(layers(), X), ("TorchScript", "nn.Module")),
    "averaged model": (lambda: torch.optim.swa_utils.AveragedModel(layers()), ("AveragedModel", "averaged")),
    "fake quantization": (lambda: net(lambda m, x: m.c(m.quantize(m.a(x))), _fake_quantized), ("FakeQuantize",)),
    "Python's random": (_drawn(lambda m: random.random()), ("Python's random module", "fix them for ever")),
    "NumPy's random": (_drawn(lambda m: float(np.random.rand())), ("numpy.random",)),
    "torchvision's stochastic depth as a function": (
        lambda: net(lambda m, x: m.c(stochastic_depth(m.a(x), 0.5, "row"))), ("bernoulli", "torchvision's StochasticDepth"),
    ),
    "a generator": (_drawn(lambda m: float(m.generator.random())), ("generator of its own",)),
    "torch's random": (_drawn(lambda m: float(torch.rand(()))), ("the global generator",)),
    "forward replaced on the model": (lambda: _replaced(layers()), ("Sequential.forward was replaced", "subclass")),
    "forward replaced on a layer": (lambda: _replaced(layers(), 0), ("'0' (Linear)", "no rule has a row")),
    "stochastic depth by hand": (
        lambda: net(lambda m, x: m.c(m.a(x) if random.random() < 0.5 else x)), ("Python's random module",),
    ),
}  # fmt: skip


class DoubledConv(nn.Conv2d):
    """A convolution that computes something else in the method that forward calls."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return 2 * super()._conv_forward(input, weight, bias)


def _replaced(model: Any, at: int | None = None) -> Any:
    target = model if at is None else model[at]
    forward = target.forward
    target.forward = lambda x: forward(x) + 1
    return model


def _compiled(model: nn.Module) -> Any:
    return torch.compile(model)


def _compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile()
    return model


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace_method. is deprecated:FutureWarning")
def test_refused_before_the_first_step(name: str) -> None:
    make, words = REFUSED[name]
    said = refusal(make())
    for word in words:
        assert word in said, said


def test_tracing_leaves_model_and_generators_as_they_were() -> None:
    model = net(_listed, lambda m: setattr(m, "seen", ["kept"]))
    model.register_buffer("mean", torch.zeros(6))
    before, state = dict(vars(model)), (random.getstate(), torch.get_rng_state())
    assert "'seen'" in refusal(model)
    assert dict(vars(model)) == before and model.seen == ["kept"] and list(model.state_dict())
    drawing = _drawn(lambda m: random.random() + float(torch.rand(())))()
    refusal(drawing)
    assert random.getstate() == state[0] and torch.equal(torch.get_rng_state(), state[1])


def test_a_model_whose_outputs_are_not_the_plans_is_refused_at_its_first_step() -> None:
    class Switched(Net):
        calls = 0

        def forward(self, x: Tensor) -> Any:
            type(self).calls += 1
            return _plain(self, x) + type(self).calls

    said = refusal(Switched(_plain).double())
    assert "does not compute what the module does" in said and "100% of the samples" in said


def test_a_step_under_autocast_is_refused() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert "torch.autocast" in refusal(layers())


def test_a_rule_may_be_made_and_stepped_where_gradients_are_off() -> None:
    with torch.no_grad():
        model = layers()
        equal = copy.deepcopy(model)
        credit.rule("bp", model, precision="float64").step(X, torch.zeros(8, dtype=torch.int64))
    F.cross_entropy(equal(X), torch.zeros(8, dtype=torch.int64)).backward()
    torch.testing.assert_close(model[0].weight.grad, equal[0].weight.grad, rtol=1e-9, atol=1e-12)
