"""What an optimizer's update is like, measured on a few numbers: what it keeps, and whether it works number by number."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from credit.core.config.schema import OptimizerConfig, RunConfig
from credit.core.errors import UserError
from credit.rules.base import Rule
from credit.training.optimization.build import build_optimizer, set_learning_rate

STEP = "step"
"""An optimizer's state that is one number for all elements of a parameter, by torch's convention."""
_SHAPES = ((40,), (130, 129), (33, 32, 3, 3))
"""Large enough for optimizers that factor the moments of large matrices alone (Adafactor: from 16 to 128 numbers a side)."""
_REPLICAS = 3
_STEPS = 6
_TOLERANCE = 1e-4
_FAILURES = (ValueError, TypeError, RuntimeError, AssertionError, IndexError, AttributeError)


@dataclass(frozen=True)
class Traits:
    """What is measured of an optimizer.

    Attributes:
        slots: numbers it keeps for each number of a parameter, at most.
        elementwise: whether stacked parameters move as each does by itself, so that replicas can be trained in one pass.
        follows: whether the learning rate of a later step is read.
        resumes: whether it goes on from its ``state_dict`` bit for bit.
        failure: why it cannot make a step on dense updates; empty if it can.
    """

    slots: float = 4.0
    elementwise: bool = False
    follows: bool = True
    resumes: bool = True
    failure: str = ""


KNOWN = {"sgd": Traits(1, True), "adam": Traits(2, True), "adamw": Traits(2, True)}
"""What `measured` gives for the usual optimizers, whatever their settings."""
_found: dict[str, Traits] = {}


def traits(cfg: OptimizerConfig) -> Traits:
    """Return what is measured of an optimizer; about 0.2 s, once for each of its settings.

    Raises:
        UserError: it cannot be made.
    """
    if cfg.kind in KNOWN:
        return KNOWN[cfg.kind]
    key = repr(cfg)
    if key not in _found:
        _found[key] = measured(cfg)
    return _found[key]


def check_optimizer(cfg: RunConfig, model: nn.Module, rule: Rule) -> None:
    """Refuse an optimizer that cannot be made for a network, cannot step, or does not read a schedule's learning rates.

    Raises:
        UserError: naming the option and what to write instead.
    """
    build_optimizer(cfg.optimizer, model.parameters(), rule.parameters(), rule.feedback_settings)
    if cfg.optimizer.kind in KNOWN:
        return
    found = traits(cfg.optimizer)
    if found.failure:
        raise UserError(f"{_name(cfg.optimizer)} cannot make a step: {found.failure}; choose another optimizer")
    if not found.follows and cfg.schedule.kind != "constant":
        raise UserError(
            f"{_name(cfg.optimizer)} reads the learning rate at its first step alone, so that schedule={cfg.schedule.kind} would "
            "change nothing: write schedule=constant"
        )
    if not found.resumes:
        raise UserError(
            f"{_name(cfg.optimizer)} does not go on from a checkpoint as it would have without: its state is not all in its "
            "state_dict. Choose another, or an option that makes it deterministic (kron: optimizer.options={deterministic:true})"
        )


def not_in_one_pass(cfg: OptimizerConfig) -> str | None:
    """Return why replicas cannot be trained in one pass with an optimizer; None if they can."""
    if traits(cfg).elementwise:
        return None
    return (
        f"{_name(cfg)} does not update number by number (it takes norms, factors or counts over whole parameters), so that stacked "
        "replicas would not move as each does by itself"
    )


def _name(cfg: OptimizerConfig) -> str:
    name = getattr(cfg, "name", None)
    return f"optimizer={cfg.kind}" + (f" optimizer.name={name}" if name else "")


def measured(cfg: OptimizerConfig) -> Traits:
    """Return the traits of an optimizer, measured anew; see `traits`."""
    failure = ""
    for shapes in (_SHAPES, [shape for shape in _SHAPES if len(shape) == 2]):  # some take matrices alone
        try:
            alone = [_Trial(cfg, _drawn(shapes, seed), seed) for seed in range(_REPLICAS)]
            for trial in alone:
                trial.run()
        except UserError:
            raise
        except _FAILURES as error:
            failure = str(error).splitlines()[0] if str(error) else type(error).__name__
        else:
            return Traits(alone[0].slots(), _stacks(cfg, alone), alone[0].follows(), alone[0].resumes())
    return Traits(failure=failure)


class _Trial:
    """An optimizer on parameters that start at `values`; `seed` is that of the updates."""

    def __init__(self, cfg: OptimizerConfig, values: Sequence[Tensor], seed: int = 0) -> None:
        self.seed = seed
        self.cfg, self.start = cfg, [value.clone() for value in values]
        self.parameters = [nn.Parameter(value.clone()) for value in values]
        self.optimizer = self.made(self.parameters)
        self.settings = self._settings()
        self.updates: list[list[Tensor]] = []

    def made(self, parameters: Sequence[nn.Parameter]) -> Optimizer:
        return build_optimizer(self.cfg, parameters, [])

    def run(self, updates: Sequence[Sequence[Tensor]] = ()) -> None:
        """Make the steps of `updates`, by default of drawn ones."""
        shapes = [value.shape for value in self.start]
        for update in updates or [_drawn(shapes, 100 * (1 + self.seed) + step) for step in range(_STEPS)]:
            self.updates.append(list(update))
            _step(self.optimizer, self.parameters, update, self.cfg.lr)

    def moved(self) -> list[Tensor]:
        return [one.detach() - start for one, start in zip(self.parameters, self.start, strict=True)]

    def state(self) -> list[dict[str, Any]]:
        return [self.optimizer.state.get(one, {}) for one in self.parameters]

    def slots(self) -> float:
        kept = (
            sum(value.numel() for value in state.values() if isinstance(value, Tensor) and value.numel() > 1)
            / one.numel()
            for one, state in zip(self.parameters, self.state(), strict=True)
        )
        return max(1.0, *kept)

    def stackable(self) -> bool:
        """Whether the state is the parameters' numbers and a step's count alone, and the groups' settings stand still."""
        shaped = all(
            key == STEP or (isinstance(value, Tensor) and value.shape == one.shape) or value is None
            for one, state in zip(self.parameters, self.state(), strict=True)
            for key, value in state.items()
        )
        return shaped and self._settings() == self.settings

    def follows(self) -> bool:
        ends = [self._again(rate) for rate in (self.cfg.lr, self.cfg.lr / 2)]
        return not all(torch.equal(one, other) for one, other in zip(*ends, strict=True))

    def resumes(self) -> bool:
        there, again = self._again(self.cfg.lr, copied=True), self._again(self.cfg.lr)
        return all(torch.equal(one, other) for one, other in zip(there, again, strict=True))

    def _again(self, rate: float, copied: bool = False) -> list[Tensor]:
        """Return the parameters after further steps, of a copy of this optimizer or of one that resumes from its state."""
        if copied:
            optimizer = copy.deepcopy(self.optimizer)
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
        else:
            parameters = [nn.Parameter(one.detach().clone()) for one in self.parameters]
            optimizer = self.made(parameters)
            optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        for update in self.updates:
            _step(optimizer, parameters, update, rate)
        return [one.detach() for one in parameters]

    def _settings(self) -> list[dict[str, Any]]:
        return [
            {key: copy.deepcopy(value) for key, value in group.items() if key not in ("params", "lr")}
            for group in self.optimizer.param_groups
        ]


def _stacks(cfg: OptimizerConfig, alone: Sequence[_Trial]) -> bool:
    """Whether stacked parameters move as those of each trial do."""
    try:
        whole = _Trial(cfg, [torch.stack(parts) for parts in zip(*(one.start for one in alone), strict=True)])
        updates = zip(*(one.updates for one in alone), strict=True)
        whole.run([[torch.stack(parts) for parts in zip(*each, strict=True)] for each in updates])
    except _FAILURES:
        return False
    if not all(trial.stackable() for trial in (whole, *alone)):
        return False
    own = [torch.stack(parts) for parts in zip(*(one.moved() for one in alone), strict=True)]
    return all(
        bool((mine - other).abs().max() <= _TOLERANCE * other.abs().max())
        for mine, other in zip(whole.moved(), own, strict=True)
    )


def _step(optimizer: Optimizer, parameters: Sequence[nn.Parameter], update: Sequence[Tensor], rate: float) -> None:
    set_learning_rate(optimizer, rate)
    for parameter, value in zip(parameters, update, strict=True):
        parameter.grad = value.clone()
    optimizer.step()


def _drawn(shapes: Sequence[Sequence[int]], seed: int) -> list[Tensor]:
    """Return tensors of these shapes, of another size for each seed."""
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=source) * (0.3 + seed % 7) for shape in shapes]
