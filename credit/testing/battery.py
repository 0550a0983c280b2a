"""The battery: trials that every rule, a user's too, has to pass.

A trial is a function of a `Case` that raises AssertionError if the rule is wrong, or `RefusalError` if the rule refuses the
trial, which is no failure. The trials detect errors that do not show in the loss: updates that are zero, that depend on the order
of the batch, or that differ when compiled.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.rules import api
from credit.rules.base import Rule

BATCH, CLASSES = 24, 4


class RefusalError(Exception):
    """The rule refused a trial with a `UserError`, which is no failure."""


def mlp() -> nn.Module:
    """Return a multi-layer perceptron with three layers and ReLU, for inputs (B, 12)."""
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, CLASSES))


class Residual(nn.Module):
    """A residual block: ReLU of the input plus a 3x3 convolution with BatchNorm, on (B, 6, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the input's shape (B, 6, H, W)."""
        return self.act(x + self.norm(self.conv(x)))


def convnet() -> nn.Module:
    """Return a network of a convolution, BatchNorm, a residual block, pooling and a linear head, for images (B, 2, 6, 6)."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), Residual(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(54, CLASSES),
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (12,)),
    "conv+bn": (convnet, (2, 6, 6)),
}


@dataclass
class Case:
    """One rule on one small network.

    Attributes:
        name: the rule's name.
        net: a key of `NETS`.
        options: options that override those of the rule's YAML file.
    """

    name: str
    net: str
    options: dict[str, Any] = field(default_factory=dict)

    def model(self, seed: int = 0) -> nn.Module:
        """Return a new network, initialized with ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return NETS[self.net][0]()

    def rule(self, model: nn.Module, seed: int = 0, **settings: Any) -> Rule:
        """Return the rule on a model.

        Args:
            model: a network of `model`.
            seed: seed of the rule.
            settings: further arguments of `credit.rules.api.rule`.

        Raises:
            RefusalError: the rule cannot be used on the model; with the rule's message.
        """
        example = self.batch(size=2)[0].to(next(model.parameters()).dtype)
        try:
            return api.rule(self.name, model, seed=seed, example=example, **settings, **self.options)
        except UserError as refusal:
            raise RefusalError(str(refusal)) from refusal

    def batch(self, seed: int = 0, size: int = BATCH) -> tuple[Tensor, Tensor]:
        """Return inputs (size, ...) in `CLASSES` separable clusters, and their labels (size,)."""
        shape = NETS[self.net][1]
        source = torch.Generator().manual_seed(99)
        centres = torch.randn(CLASSES, *shape, generator=source)
        source = torch.Generator().manual_seed(seed)
        y = torch.arange(size) % CLASSES
        return centres[y] + 0.3 * torch.randn(size, *shape, generator=source), y


def _grads(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float, what: str) -> None:
    assert a.keys() == b.keys(), f"{what}: updates of {sorted(a.keys() ^ b.keys())} are on one side only"
    # A bias before BatchNorm has no effect: its update is rounding, and is compared relative to the other updates.
    largest = max(float(value.abs().max()) for value in a.values())
    for name in a:
        scale = max(float(a[name].abs().max()), 1e-4 * largest)
        gap = float((a[name] - b[name]).abs().max())
        assert gap <= tolerance * scale, f"{what}: the update of {name} differs by {gap:.2g} at scale {scale:.2g}"


def _pure(rule: Rule, x: Tensor, y: Tensor) -> tuple[Any, tuple[Any, ...]]:
    try:
        return rule.functional(x, y)
    except UserError as refusal:
        raise RefusalError(str(refusal)) from refusal


def loss_falls(case: Case) -> None:
    """Test that the accuracy on separable clusters is above 0.6 after 150 steps."""
    model = case.model()
    rule = case.rule(model)
    optimizer = torch.optim.Adam([*model.parameters(), *rule.parameters()], lr=3e-3)
    for at in range(150):
        x, y = case.batch(seed=at)
        rule.step(x, y)
        optimizer.step()
    model.eval()
    x, y = case.batch(seed=1000, size=200)
    accuracy = float((model(x).argmax(1) == y).double().mean())
    assert accuracy > 0.6, f"accuracy {accuracy:.2f} after 150 steps, chance is {1 / CLASSES:.2f}"


def no_dead_layer(case: Case) -> None:
    """Test that every trainable parameter gets an update of its shape, and that no weight's update is all zero."""
    model = case.model()
    case.rule(model).step(*case.batch())
    for name, p in model.named_parameters():
        assert p.grad is not None, f"{name} received no update"
        assert p.grad.shape == p.shape, f"{name}: update of shape {tuple(p.grad.shape)}, parameter {tuple(p.shape)}"
        assert p.dim() < 2 or bool(p.grad.any()), f"the update of {name} is zero everywhere"


def finite_on_extremes(case: Case) -> None:
    """Test that updates are finite for inputs of zeros, inputs of +-1e4 and, without BatchNorm, a batch of one."""
    x, y = case.batch()
    trials = {"zeros": (torch.zeros_like(x), y), "1e4": (x.sign() * 1e4, y)}
    if case.net == "mlp":
        trials["batch 1"] = (x[:1], y[:1])
    for what, (inputs, labels) in trials.items():
        model = case.model()
        case.rule(model).step(inputs, labels)
        for name, grad in _grads(model).items():
            assert bool(torch.isfinite(grad).all()), f"the update of {name} is not finite on {what}"


def deterministic(case: Case) -> None:
    """Test that the updates of two runs with equal seeds are bit-equal at the third step."""
    both = []
    for _ in range(2):
        model = case.model()
        rule = case.rule(model, seed=5)
        for at in range(3):
            rule.step(*case.batch(seed=at))
        both.append(_grads(model))
    _close(both[0], both[1], 0.0, "two runs of one seed")


def state_round_trips(case: Case) -> None:
    """Test that a new rule and network make the same step after loading the state of others."""
    model = case.model()
    rule = case.rule(model, seed=5)
    for at in range(2):
        rule.step(*case.batch(seed=at))
    stream = io.BytesIO()
    torch.save({"model": model.state_dict(), "rule": rule.state_dict()}, stream)
    rule.step(*case.batch(seed=2))
    saved = torch.load(io.BytesIO(stream.getvalue()), weights_only=True)
    twin = case.model(seed=1)
    twin.load_state_dict(saved["model"])
    other = case.rule(twin, seed=5)
    other.load_state_dict(saved["rule"])
    other.step(*case.batch(seed=2))
    _close(_grads(model), _grads(twin), 0.0, "the step after loading")


def order_free(case: Case) -> None:
    """Test that a permutation of the batch permutes the logits and does not change the update.

    Random numbers that the step draws for each sample (with the batch as their first dimension) are permuted too.
    """
    x, y = case.batch()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    results = []
    for inputs, labels, at in ((x, y, None), (x[order], y[order], order)):
        rule = case.rule(case.model().double(), precision="float64")
        function, (*arguments, draws) = _pure(rule, inputs.double(), labels)
        if not draws:
            done = rule.updates(inputs.double(), labels)
            results.append((done.logits, done.updates))
            continue
        if at is not None:
            draws = {name: drawn[at] if drawn.shape[:1] == at.shape else drawn for name, drawn in draws.items()}
        with torch.no_grad():
            logits, _, updates, *_ = function(*arguments, draws)
        results.append((logits, updates))
    (logits, plain), (permuted, moved) = results
    _close({"logits": logits[order]}, {"logits": permuted}, 1e-9, "a permuted batch")
    _close(plain, moved, 1e-9, "a permuted batch")


def evaluation_is_pure(case: Case) -> None:
    """Test that an evaluation between two steps does not change the second one, and that ``Rule.updates`` changes no state."""
    x, y = case.batch()
    plain, watched = case.model(), case.model()
    a, b = case.rule(plain), case.rule(watched)
    a.step(x, y)
    b.step(x, y)
    watched.eval()(x)
    watched.train()
    before = {name: value.clone() for name, value in watched.state_dict().items()}
    b.updates(x, y)
    for name, value in watched.state_dict().items():
        assert torch.equal(value, before[name]), f"asking for updates changed {name}"
    a.step(x, y)
    b.step(x, y)
    _close(_grads(plain), _grads(watched), 0.0, "a step after evaluation")


def compiled_equals_eager(case: Case, backend: str = "aot_eager") -> None:
    """Test that a step can be compiled as one graph, and that its updates equal those of an eager step, to rounding.

    Args:
        case: the rule and its network.
        backend: backend of ``torch.compile``.
    """
    x, y = case.batch()
    eager, compiled = case.model().double(), case.model().double()
    a = case.rule(eager, precision="float64")
    b = case.rule(compiled, precision="float64", compile=backend)
    for _ in range(2):
        a.step(x.double(), y)
        b.step(x.double(), y)
        _close(_grads(eager), _grads(compiled), 1e-11, "compiled against eager")


def mapped_equals_loop(case: Case) -> None:
    """Test that a step of two seeds mapped with `torch.func.vmap` gives each seed's own updates, to rounding."""
    calls, loops = [], []
    function: Any = None
    for seed in (0, 1):
        model = case.model(seed).double()
        rule = case.rule(model, seed=seed, precision="float64")
        x, y = case.batch(seed)
        function, arguments = _pure(rule, x.double(), y)
        calls.append(arguments)
        loops.append(rule.updates(x.double(), y).updates)
    stacked = torch.utils._pytree.tree_map(lambda *parts: torch.stack(parts), *calls)
    with torch.no_grad():
        updates = torch.func.vmap(function)(*stacked)[2]
    for at, single in enumerate(loops):
        _close(single, {name: value[at] for name, value in updates.items()}, 1e-9, f"seed {at} of a mapped step")


def refuses_unknown_options(case: Case) -> None:
    """Test that an unknown option is refused with a message that names it."""
    try:
        api.rule(case.name, case.model(), an_option_nobody_has=1)
    except UserError as error:
        assert "an_option_nobody_has" in str(error), f"the message does not name the option: {error}"
    else:
        raise AssertionError("an unknown option was accepted in silence")


TRIALS: dict[str, Callable[[Case], None]] = {
    "learns": loss_falls,
    "alive": no_dead_layer,
    "finite": finite_on_extremes,
    "seeded": deterministic,
    "state": state_round_trips,
    "order": order_free,
    "pure": evaluation_is_pure,
    "compiled": compiled_equals_eager,
    "mapped": mapped_equals_loop,
    "refuses": refuses_unknown_options,
}


def attempt(trial: str, case: Case) -> tuple[str, str]:
    """Run one trial.

    Args:
        trial: a key of `TRIALS`.
        case: the rule and its network.

    Returns:
        ``pass``, ``fail`` or ``refused``, and the error's or the refusal's message (empty for ``pass``).
    """
    try:
        TRIALS[trial](case)
    except RefusalError as refusal:
        return "refused", str(refusal)
    except AssertionError as found:
        return "fail", str(found)
    except Exception as error:  # a user's rule may raise any exception; the table reports it
        return "fail", f"{type(error).__name__}: {error}"
    return "pass", ""
