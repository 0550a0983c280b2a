"""The same step compiled, mapped over seeds, and in bfloat16."""

import copy
from importlib import import_module
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import credit
from credit.core.errors import UserError
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.models import build
from credit.rules.backward.rule import BackwardRule
from credit.rules.base import Rule
from credit.rules.replicas import Mapped

# torch's compiler and its bundled libraries warn about themselves
pytestmark = pytest.mark.filterwarnings("ignore")


class Dense(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))


class Convolutional(nn.Module):
    def __init__(self, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1), norm(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, groups=2), norm(6)
        self.drop, self.pool, self.fc = nn.Dropout2d(0.3), nn.MaxPool2d(2), nn.Linear(6 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)) + x)
        out: Tensor = self.fc(self.pool(self.drop(x)).flatten(1))
        return out


def dense() -> tuple[nn.Module, Tensor]:
    return Dense(), torch.randn(5, 6)


def convolutional() -> tuple[nn.Module, Tensor]:
    return Convolutional(), torch.randn(5, 3, 6, 6)


NETS: dict[str, Any] = {"mlp": dense, "conv": convolutional}


def made(net: str, seed: int, **settings: Any) -> tuple[Rule, nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    model, x = NETS[net]()
    torch.manual_seed(9)
    y = torch.randint(4, (len(x),))
    x = torch.randn_like(x)
    return credit.rule("bp", model, seed=seed, **settings), model, x, y


def compiled_equals_eager(net: str, backend: str, tolerance: float) -> None:
    eager, model, x, y = made(net, 1)
    compiled, twin, _, _ = made(net, 1, compile=backend)
    close: dict[str, float] = {"rtol": tolerance, "atol": tolerance}
    for _ in range(2):  # a second step: other masks, moved statistics
        a, b = eager.step(x, y), compiled.step(x, y)
        torch.testing.assert_close(a.logits, b.logits, **close)  # type: ignore[arg-type]  # both are floats
        torch.testing.assert_close(a.loss, b.loss, **close)  # type: ignore[arg-type]
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, **close)  # type: ignore[arg-type]
        for left, right in zip(model.buffers(), twin.buffers(), strict=True):
            torch.testing.assert_close(left, right, **close)  # type: ignore[arg-type]


@pytest.mark.parametrize("net", NETS)
def test_traced_by_the_compiler_in_one_graph_it_is_the_eager_step(net: str) -> None:
    compiled_equals_eager(net, "aot_eager", 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["inductor", "reduce-overhead"])
@pytest.mark.parametrize("net", NETS)
def test_compiled_to_machine_code_it_is_the_eager_step(net: str, backend: str) -> None:
    compiled_equals_eager(net, backend, 1e-5)


@pytest.mark.slow
def test_weights_and_buffers_stay_in_place_for_cuda_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU torch makes no graphs, but has decided by then which inputs a graph would copy: the batch and the masks alone."""
    inputs_of: list[tuple[int, int]] = []

    def noted(graph: Any, inputs: Any, *, static_input_idxs: Any, **settings: Any) -> Any:
        inputs_of.append((len(static_input_idxs), len(inputs)))
        raise RuntimeError("enough is known")

    monkeypatch.setattr(import_module("torch._inductor.compile_fx"), "_compile_fx_inner", noted)
    rule, model, x, y = made("conv", 1, compile="reduce-overhead")
    with torch._inductor.config.patch(force_disable_caches=True), pytest.raises(UserError, match="enough is known"):
        rule.step(x, y)
    kept = len([*model.parameters(), *model.buffers()])
    assert inputs_of == [(kept, kept + 3)]


@pytest.mark.parametrize(
    "net",
    [{"kind": "gpt", "layers": 1, "heads": 2, "width": 8}, {"kind": "rnn", "width": 8}],
    ids=lambda net: net["kind"],
)
@pytest.mark.slow
def test_networks_of_tokens_are_one_graph(net: dict[str, Any]) -> None:
    tokens = torch.arange(4 * 7).view(4, 7) % 5
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    eager, compiled = (
        credit.rule(
            "lfp_epsilon", build(net, (6,), 5, seed=0).double(), precision="float64", task="tokens", compile=how
        )
        for how in (False, "aot_eager")
    )
    expected, updates = eager.updates(x, y).updates, compiled.updates(x, y).updates
    assert expected.keys() == updates.keys()
    for name, update in expected.items():
        torch.testing.assert_close(updates[name], update, rtol=1e-12, atol=1e-12)


def graphs() -> int:
    """Return how many graphs torch has compiled."""
    return counters["stats"]["unique_graphs"]


def test_rules_do_not_share_the_limit_of_recompilations() -> None:
    with torch._dynamo.config.patch(recompile_limit=1):
        before, rules = graphs(), [made("mlp", seed, compile="eager") for seed in (1, 2)]
        for rule, _, x, y in rules * 2:
            rule.step(x, y)
        assert graphs() == before + 2
        rule, _, x, y = rules[0]
        with pytest.raises(
            UserError, match=r"rule 'bp' is compiled once for each shape .* one more than the 1 that torch"
        ):
            rule.step(x[:3], y[:3])
        rule.step(x, y)
        assert graphs() == before + 2


@pytest.mark.slow
def test_passes_of_replicas_do_not_share_the_limit_of_recompilations() -> None:
    with torch._dynamo.config.patch(recompile_limit=1):
        before, rules = graphs(), [made("mlp", seed) for seed in (1, 2)]
        x, y = (torch.stack([parts[at] for parts in ([x, y] for _, _, x, y in rules)]) for at in (0, 1))
        together = Mapped([rule for rule, *_ in rules], compiled="eager")
        for size in (5, 3, 5):
            together.step(x[:, :size], y[:, :size])
        assert graphs() == before + 2


@pytest.fixture
def breaking(registry_as_it_was: None) -> None:
    """A rule whose step depends on the value of a number, which no graph can."""

    @credit.register_rule("breaking")
    class Breaking(BackwardRule):
        def gate(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
            return signal if float(signal.sum()) > 0 else 2 * signal  # the line that breaks


BREAKS = (
    r"the step of {label} cannot be compiled as one graph by torch.compile \(backend eager\): .*data-dependent.*"
    + (r"test_compiled.py:\d+, .*the line that breaks\. Leave out trainer.compile \(compile=True\)")
)


def test_a_graph_break_is_refused(breaking: None) -> None:
    rule = credit.rule("breaking", Dense(), compile="eager")
    with pytest.raises(UserError, match=BREAKS.format(label="rule 'breaking'")):
        rule.step(torch.randn(5, 6), torch.arange(5) % 4)
    assert all(p.grad is None for p in rule.model.parameters())


def test_a_backend_that_fails_is_named() -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler found")

    torch._dynamo.register_backend(failing, "failing")
    rule = credit.rule("bp", Dense(), compile="failing")
    with pytest.raises(UserError, match=r"rule 'bp' cannot .* \(backend failing\): .*no C\+\+ compiler found"):
        rule.step(torch.randn(5, 6), torch.arange(5) % 4)


def test_unknown_backends_are_refused() -> None:
    told = "compile=inducto: torch.compile has no such backend or mode; did you mean 'inductor'. valid: .*inductor"
    with pytest.raises(UserError, match=told):
        credit.rule("bp", Dense(), compile="inducto")
    with pytest.raises(UserError, match=told):
        Mapped([credit.rule("bp", Dense())], compiled="inducto")


@pytest.mark.parametrize("net", NETS)
def test_two_seeds_in_one_mapped_step_are_two_steps(net: str) -> None:
    rules = [made(net, seed) for seed in (1, 2)]
    x, y = rules[0][2], rules[0][3]
    parts = [rule.functional(x, y) for rule, *_ in rules]

    def stack(at: int) -> dict[str, Tensor]:
        return {name: torch.stack([args[at][name] for _, args in parts]) for name in parts[0][1][at]}

    params, buffers, tensors = stack(0), stack(1), stack(4)
    step = parts[0][0]
    logits, loss, updates, *_ = torch.func.vmap(step, in_dims=(0, 0, None, None, 0))(params, buffers, x, y, tensors)
    for at, (rule, model, _, _) in enumerate(rules):
        alone = rule.step(x, y)
        torch.testing.assert_close(logits[at], alone.logits, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(loss[at], alone.loss, rtol=1e-5, atol=1e-6)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(updates[name][at], parameter.grad, rtol=1e-4, atol=1e-6)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffers[name][at], buffer, rtol=1e-5, atol=1e-6)


def transformer() -> tuple[nn.Module, Tensor]:
    model = timm.create_model("test_vit", num_classes=4, img_size=32, patch_size=8, dynamic_img_size=False)
    return model, torch.randn(6, 3, 32, 32)


def mixer() -> tuple[nn.Module, Tensor]:
    return timm.models.mlp_mixer.MlpMixer(
        num_classes=4, img_size=32, patch_size=8, num_blocks=2, embed_dim=24
    ), torch.randn(6, 3, 32, 32)


def normed() -> tuple[nn.Module, Tensor]:
    return Convolutional(lambda width: nn.GroupNorm(2, width)), torch.randn(5, 3, 6, 6)  # type: ignore[arg-type]


def convnext() -> tuple[nn.Module, Tensor]:
    return timm.create_model("test_convnext", num_classes=4), torch.randn(6, 3, 64, 64)


BLOCKS = {"conv": convolutional, "group norm": normed, "vit": transformer, "mixer": mixer, "convnext": convnext}


@pytest.mark.parametrize("block", BLOCKS)
def test_bfloat16_stays_near_float32(block: str) -> None:
    torch.manual_seed(3)
    model, x = BLOCKS[block]()
    twin = copy.deepcopy(model)
    y = torch.arange(len(x)) % 4
    exact = credit.rule("bp", model, local_autograd=True)
    rough = credit.rule("bp", twin, local_autograd=True, precision="bf16")
    a, b = exact.step(x, y), rough.step(x, y)
    assert abs(float(a.loss) - float(b.loss)) < 0.03
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None and bool(torch.isfinite(q.grad).all()), name
        assert q.dtype == torch.float32 and q.grad.shape == p.grad.shape
    left = torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])
    right = torch.cat([p.grad.flatten().float() for p in twin.parameters() if p.grad is not None])
    assert float(torch.cosine_similarity(left, right, dim=0)) > 0.99
    assert 0.95 < float(left.norm() / right.norm()) < 1.05
    # The optimizer needs gradients of the parameters' own type.
    assert {q.grad.dtype for q in twin.parameters() if q.grad is not None} == {torch.float32}
    for value, other in zip(model.buffers(), twin.buffers(), strict=True):
        if value.is_floating_point():
            torch.testing.assert_close(value, other, rtol=0.03, atol=0.03)
