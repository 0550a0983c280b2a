"""Prepare a run: build its network and its rule, and check them and its settings before data is loaded or a folder created."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from credit.core.config.schema import RunConfig, TrainerConfig
from credit.core.config.validate import check_device
from credit.core.errors import UserError
from credit.data import Spec, describe
from credit.data.mixing import task_of_steps
from credit.diagnostics import check as check_diagnostic
from credit.diagnostics.base import LABELS
from credit.models import build
from credit.rules.api import build as build_rule
from credit.rules.backward.losses import check_weights
from credit.rules.base import Rule
from credit.runs.folder import check_same_config, run_folder
from credit.runs.outcome import check_resumable
from credit.tasks.base import Task, of
from credit.training.adversarial import attack
from credit.training.optimization.probe import check_optimizer
from credit.training.schedules import warmup_steps
from credit.training.state.origin import Origin, origin_of
from credit.training.threads import Threads, choose_threads
from credit.training.warm import warm_rule


@dataclass
class Prepared:
    """A run whose components were built and checked.

    Attributes:
        cfg: the run's configuration.
        model: the network, on its device, in train mode.
        rule: the rule, with its plan of the network.
        device: the run's device.
        spec: shapes and sizes of the data set.
        steps_per_epoch, total_steps: numbers of steps in an epoch and in the run.
        warm: the rule of the first ``trainer.warm_steps`` steps; None without a warm start.
        origin: the finished run that the run begins with; None without one.
    """

    cfg: RunConfig
    model: nn.Module
    rule: Rule
    device: torch.device
    spec: Spec
    steps_per_epoch: int
    total_steps: int
    warm: Rule | None = None
    origin: Origin | None = None

    @property
    def rules(self) -> list[Rule]:
        """The rules that make steps."""
        return [self.rule] if self.warm is None else [self.rule, self.warm]

    @cached_property
    def threads(self) -> Threads:
        """The CPU threads of the run."""
        return choose_threads(
            self.cfg.trainer.threads,
            self.rule,
            example_of(self.model, self.spec.shape, self.rule.task),
            self.cfg.data.batch_size,
        )


def prepare(cfg: RunConfig) -> Prepared:
    """Build a run's network and rule for the shapes of its data, and check that they fit together with the settings.

    No data is loaded and no file is written.

    Raises:
        UserError: the run cannot be trained as configured; the message gives the option, the reason and a valid alternative.
    """
    check_same_config(run_folder(cfg), cfg)
    check_resumable(run_folder(cfg), cfg)
    device = resolve_device(cfg.trainer.device)
    spec = describe(cfg.data, cfg.noise)
    size, batch = spec.train_size, cfg.data.batch_size
    steps_per_epoch = size // batch if cfg.data.drop_last else math.ceil(size / batch)
    total = total_steps(cfg.trainer, steps_per_epoch)
    if warmup_steps(cfg.schedule, steps_per_epoch) >= total:
        raise UserError(
            f"schedule.warmup_epochs={cfg.schedule.warmup_epochs:g} is the whole run ({total / steps_per_epoch:g} "
            f"epochs): the learning rate would never come down. Shorten the warm-up or train longer."
        )
    model = build(cfg.arch, spec.shape, spec.outputs, seed=cfg.seed)
    _check_normalisation(model, cfg, spec)
    model.to(device, torch.float64 if cfg.trainer.precision == "float64" else torch.float32).train()
    example = example_of(model, spec.shape, of(spec.task))
    task = task_of_steps(cfg.data, spec.task, spec.shape)
    origin = origin_of(cfg, total)
    warm = warm_rule(cfg, model, example, total, task)
    rule = _rule(cfg, model, example, task)
    check_optimizer(cfg, model, rule)
    for one in filter(None, (rule, warm)):
        attack(one, cfg.trainer)
    for name in cfg.trainer.measure:
        check_diagnostic(name, rule)
    _check_task(cfg, rule, spec.outputs)
    return Prepared(cfg, model, rule, device, spec, steps_per_epoch, total, warm, origin)


def example_of(model: nn.Module, shape: tuple[int, ...], task: Task) -> torch.Tensor:
    """Return two inputs of zeros (2, *shape) on the network's device, of its type; of tokens int64."""
    first = next(model.parameters())
    return torch.zeros(2, *shape, device=first.device, dtype=torch.int64 if task.positions else first.dtype)


def synthetic(prepared: Prepared, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a random batch of a run's shapes, on its device: inputs (size, ...) and targets."""
    spec, source = prepared.spec, torch.Generator().manual_seed(0)
    first = next(prepared.model.parameters())
    x, y = prepared.rule.task.example(spec.shape, spec.outputs, size, source)
    x, y = ((one.to(first) if one.is_floating_point() else one.to(first.device)) for one in (x, y))
    return x, y


def resolve_device(name: str, option: str = "trainer.device=") -> torch.device:
    """Return the device of a name, the value of an option; ``auto`` is the first GPU if there is one, else the CPU.

    Raises:
        UserError: no device that runs are tested on, or a GPU that the machine does not have.
    """
    check_device(name, option)
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if present else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= present:
        there = f"its GPUs are {', '.join(f'cuda:{i}' for i in range(present))}" if present else "it has no usable GPU"
        raise UserError(f"{option}{name}: this machine has no such device ({there}); write {option}auto")
    return device


def total_steps(cfg: TrainerConfig, steps_per_epoch: int) -> int:
    """Return a run's number of steps, from ``trainer.steps`` or ``trainer.epochs``; `credit.core.config.check` requires one."""
    if cfg.steps is not None:
        return cfg.steps
    assert cfg.epochs is not None
    return max(1, round(cfg.epochs * steps_per_epoch))


def _check_task(cfg: RunConfig, rule: Rule, outputs: int) -> None:
    """Refuse a network that takes other inputs than the data's, and settings that mean nothing for the task."""
    name, tokens = type(rule.model).__name__, rule.plan.takes_tokens
    if tokens != bool(rule.task.positions):
        raise UserError(
            f"arch {cfg.arch['kind']} looks its inputs up in an embedding, but data={cfg.data.kind} has numbers: use data=text, or "
            "arch=mlp"
            if tokens
            else f"data={cfg.data.kind} has tokens, which {name} takes as numbers: use arch=gpt or arch=rnn"
        )
    if rule.task.name not in LABELS and "per_class" in cfg.trainer.report:
        raise UserError(
            f"trainer.report=[per_class] reports scores of classes, and the task is {rule.task.name}: write trainer.report=[]"
        )
    if (weights := cfg.rule.get("class_weights")) is not None:
        check_weights(weights, outputs)
    if not rule.task.primary.higher and cfg.trainer.stop_when == "collapsed":
        raise UserError(
            f"trainer.stop_when=collapsed compares accuracies, and {rule.task.name} is measured by its {rule.task.primary.label}: "
            "write trainer.stop_when=no_gain"
        )


def _check_normalisation(model: nn.Module, cfg: RunConfig, spec: Spec) -> None:
    """Refuse BatchNorm with batches of one example, whose normalized value is zero or undefined."""
    batch, left = cfg.data.batch_size, spec.train_size % cfg.data.batch_size
    if cfg.rule.get("batchnorm") == "frozen":
        return
    if batch != 1 and (cfg.data.drop_last or left != 1):
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not hasattr(module, "stays_frozen"):
            if batch == 1:
                why = "data.batch_size=1: no statistics over a batch of one. Write data.batch_size=2 or more"
            else:
                why = (
                    f"the last batch of an epoch has one example ({spec.train_size} in batches of {batch}). "
                    f"Write data.drop_last=true or another data.batch_size"
                )
            raise UserError(f"arch {cfg.arch['kind']} has BatchNorm ('{name}') and {why}, or an arch without BatchNorm")


def _rule(cfg: RunConfig, model: nn.Module, example: torch.Tensor, task: str) -> Rule:
    trainer = cfg.trainer
    return build_rule(
        cfg.rule,
        model,
        seed=cfg.seed,
        example=example,
        compile=trainer.compile,
        precision=trainer.precision,
        task=task,
    )
