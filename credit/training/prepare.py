"""Everything that can be wrong with a run and can be known before data is loaded and before a folder is made."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from credit.core.config.schema import RunConfig, TrainerConfig
from credit.core.errors import UserError
from credit.data import Spec, describe
from credit.diagnostics import find
from credit.models import build
from credit.rules.api import build as build_rule
from credit.rules.base import Rule
from credit.runs.folder import check_same_config, run_folder
from credit.runs.outcome import check_resumable
from credit.training.schedules import warmup_steps
from credit.training.threads import Threads, choose_threads
from credit.training.warm import warm_rule


@dataclass
class Prepared:
    """A run whose parts fit together: the network on its device, and the rule traced on it."""

    cfg: RunConfig
    model: nn.Module
    rule: Rule
    device: torch.device
    spec: Spec
    steps_per_epoch: int
    total_steps: int
    warm: Rule | None = None  # of the first trainer.warm_steps steps

    @cached_property
    def threads(self) -> Threads:
        """The CPU threads that the run computes on."""
        return choose_threads(
            self.cfg.trainer.threads, self.rule, _example(self.model, self.spec), self.cfg.data.batch_size
        )


def prepare(cfg: RunConfig) -> Prepared:
    """Build the run's network and rule on the described data, and check that they, and the settings, fit together.

    Nothing is loaded and nothing is written.

    Raises:
        UserError: what was given, why it cannot work, what to write instead.
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
    model = build(cfg.arch, spec.shape, spec.classes, seed=cfg.seed)
    _check_normalisation(model, cfg, spec)
    model.to(device, torch.float64 if cfg.trainer.precision == "float64" else torch.float32).train()
    example = _example(model, spec)
    warm = warm_rule(cfg, model, example, total)
    rule = _rule(cfg, model, example)
    for name in cfg.trainer.measure:
        find(name).check(rule)
    return Prepared(cfg, model, rule, device, spec, steps_per_epoch, total, warm)


def _example(model: nn.Module, spec: Spec) -> torch.Tensor:
    first = next(model.parameters())
    return torch.zeros(2, *spec.shape, device=first.device, dtype=first.dtype)


def resolve_device(name: str) -> torch.device:
    """Return the device that ``trainer.device`` names; ``auto`` is the first GPU, else the CPU.

    Raises:
        UserError: a GPU is asked for that is not there.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if present else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= present:
        there = f"its GPUs are {', '.join(f'cuda:{i}' for i in range(present))}" if present else "it has no usable GPU"
        raise UserError(f"trainer.device={name}: this machine has no such device ({there}); write trainer.device=auto")
    return device


def total_steps(cfg: TrainerConfig, steps_per_epoch: int) -> int:
    """Return how many steps a run makes; `credit.core.config.check` has seen to it that one of `epochs` and `steps` is given."""
    if cfg.steps is not None:
        return cfg.steps
    assert cfg.epochs is not None
    return max(1, round(cfg.epochs * steps_per_epoch))


def _check_normalisation(model: nn.Module, cfg: RunConfig, spec: Spec) -> None:
    """Batch statistics of one example are that example: its normalised value is zero, or undefined."""
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


def _rule(cfg: RunConfig, model: nn.Module, example: torch.Tensor) -> Rule:
    trainer = cfg.trainer
    return build_rule(
        cfg.rule, model, seed=cfg.seed, example=example, compile=trainer.compile, precision=trainer.precision
    )
