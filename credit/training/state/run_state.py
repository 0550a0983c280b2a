"""The state of a training run, which a checkpoint saves and a resumption restores bit for bit."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.data import Batches, Data
from credit.diagnostics.networks import as_input, float_dtype
from credit.rules.base import Rule
from credit.runs.made_from import made_from
from credit.training.evaluate import Running, with_fresh_statistics
from credit.training.monitors import large_loss
from credit.training.optimization import averaged, build_optimizer, load_optimizer
from credit.training.prepare import Prepared, total_steps
from credit.training.state.fingerprint import check_checkpoint, fingerprint
from credit.training.state.origin import Origin
from credit.training.threads import Threads
from credit.training.warm import warm_notes


@dataclass
class Training:
    """A training run. All random numbers are functions of the seed and of `step`.

    Attributes:
        step: number of steps done.
        rule: the run's rule.
        warm: the rule of a warm start; None without one.
        average: the averaged weights; None without them.
        running: loss and accuracy over the current epoch's training batches.
        untrained: digest of the initial parameters (`parameters_digest`).
        best, last: the rows of the best and of the last evaluation.
        seconds: seconds of training steps so far.
        stopped: why the run was given up (`credit.training.monitors.stopping.collapse`).
        large_loss: the largest training loss, if it was large (`credit.training.monitors.large_loss`).
        made_from: the record of code and data (`credit.runs.made_from.made_from`).
        resumed: the differences at resumptions (`credit.training.state.fingerprint`).
        together: the seeds of the run's replica batch, its own included.
        kept: the state of each diagnostic in the last checkpoint.
        origin: the finished run that this one begins with; None without one.
        keepers: functions that return the present state of each diagnostic (`credit.diagnostics.Diagnostic.state_dict`).
    """

    cfg: RunConfig
    model: nn.Module
    rule: Rule
    device: torch.device
    data: Data
    batches: Batches
    steps_per_epoch: int
    total_steps: int
    optimizer: Optimizer
    average: AveragedModel | None
    running: Running
    threads: Threads
    untrained: str
    warm: Rule | None = None
    step: int = 0
    best: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    seconds: float = 0.0
    stopped: dict[str, Any] | None = None
    made_from: dict[str, Any] = field(default_factory=dict)
    resumed: list[dict[str, Any]] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    large_loss: dict[str, Any] | None = None
    origin: Origin | None = None
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    keepers: dict[str, Callable[[], dict[str, Tensor]]] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the last step is done, or the run was given up."""
        return self.step >= self.total_steps or self.stopped is not None

    @property
    def acting(self) -> Rule:
        """The rule of the next step: the warm start's in its first steps, the run's own from there on."""
        return self.rule if self.warm is None or self.step >= self.warm_steps else self.warm

    @property
    def warm_steps(self) -> int:
        """The number of steps of a warm start; 0 without one."""
        return self.cfg.trainer.warm_steps or 0

    @property
    def notes(self) -> list[str]:
        """The notes about the run's weights, data and rules that a user should know."""
        weights = getattr(self.model, "weights_note", None)  # of a network with pretrained weights
        own = [*self.data.notes, *self.rule.notes, *([large_loss.words(self.large_loss)] if self.large_loss else [])]
        begins = [] if self.origin is None else [self.origin.note]
        return [*begins, *([weights] if weights else []), *warm_notes(self.cfg, self.warm), *own]

    def see_loss(self, loss: float, step: int) -> bool:
        """Store a training loss if it is large; return whether it is the first large one.

        Args:
            loss: a finite training loss.
            step: its step, counted from 1.
        """
        known = self.large_loss is not None
        uninformed, epoch = self.data.task.uninformed(len(self.data.names)), step / self.steps_per_epoch
        self.large_loss = large_loss.larger(self.large_loss, loss, uninformed, step, epoch)
        return self.large_loss is not None and not known

    @property
    def epoch(self) -> float:
        """The number of epochs done, an int at the end of an epoch."""
        whole, rest = divmod(self.step, self.steps_per_epoch)
        return self.step / self.steps_per_epoch if rest else whole

    @property
    def evaluated_model(self) -> nn.Module:
        """The averaged network if there is one, else the network."""
        if self.average is None:
            return self.model
        inner: nn.Module = self.average.module
        return inner

    def evaluated(self) -> nn.Module:
        """Return the network that evaluations use: with averaged weights and fresh BatchNorm statistics where the run has them.

        Fresh statistics are computed on the batches of the first ``trainer.bn_batches`` steps, the same ones at every evaluation.
        """
        return evaluated_network(self.evaluated_model, self.cfg, self.rule, self.batches)

    def state(self, metrics_size: int) -> dict[str, Any]:
        """Return the content of a checkpoint.

        Args:
            metrics_size: size of metrics.jsonl at this step, in bytes.
        """
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "rule": self.rule.state_dict(),
            "notes": list(self.rule.notes),
            "warm": None if self.warm is None else self.warm.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "running": self.running.state(),
            "best": self.best,
            "last": self.last,
            "stopped": self.stopped,
            "large_loss": self.large_loss,
            "seconds": self.seconds,
            "metrics_size": metrics_size,
            "data_digest": self.data.digest,
            "fingerprint": self.fingerprint(),
            "resumed": self.resumed,
            "together": self.together,
            "diagnostics": {name: keep() for name, keep in self.keepers.items()},
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return the run's fingerprint, for its checkpoints."""
        return fingerprint(self.cfg, self.made_from, self.device)

    def restore(self, state: dict[str, Any], folder: Path) -> list[str]:
        """Restore a state returned by `state`, and return descriptions of the permitted differences.

        Args:
            state: the content of a checkpoint.
            folder: the run's folder, for error messages.

        Raises:
            UserError: the checkpoint is of another run, or the data or the code have changed.
        """
        differences = check_checkpoint(state, self.fingerprint(), self.cfg, self.total_steps, folder)
        if state["data_digest"] != self.data.digest:
            raise UserError(
                f"the data changed since this run began (digest {state['data_digest'][:12]} then, "
                f"{self.data.digest[:12]} now): put the old files back, or write rerun=true to start anew. A run that began with "
                "another data.hold goes on with that one alone: the digest of files is not that of decoded images"
            )
        self.model.load_state_dict(state["model"])
        self.rule.load_state_dict(state["rule"])
        self.rule.notes = list(state.get("notes", self.rule.notes))
        if self.warm is not None:
            self.warm.load_state_dict(state["warm"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.running.restore(state["running"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.best, self.last = state["best"], state["last"]
        self.stopped, self.resumed = state.get("stopped"), list(state.get("resumed", []))
        self.large_loss = state.get("large_loss")
        self.kept = state.get("diagnostics", {})
        return differences


def begin(prepared: Prepared, data: Data) -> Training:
    """Return the state of a prepared run at its beginning: step 0, or the last step of the run that it continues.

    Args:
        prepared: the run's components.
        data: its data set, on its device.

    Raises:
        UserError: the run that it begins with was trained on other data, or its checkpoint is damaged.
    """
    cfg, model, origin = prepared.cfg, prepared.model, prepared.origin
    batches = Batches(data, cfg.data, seed=cfg.seed)
    state = None if origin is None else origin.state()
    if origin is not None and state is not None:
        _check_origin(origin, state, data)
        model.load_state_dict(state["model"])
        prepared.rule.load_state_dict(state["rule"])
    run = Training(
        cfg=cfg,
        model=model,
        rule=prepared.rule,
        device=prepared.device,
        data=data,
        batches=batches,
        steps_per_epoch=batches.steps_per_epoch,
        total_steps=total_steps(cfg.trainer, batches.steps_per_epoch),
        optimizer=build_optimizer(
            cfg.optimizer, model.parameters(), prepared.rule.parameters(), prepared.rule.feedback_settings
        ),
        average=averaged(model, cfg.trainer.ema),
        running=Running(prepared.device, prepared.rule.task),
        threads=prepared.threads,
        untrained=parameters_digest(model),
        warm=prepared.warm,
        made_from=made_from(cfg),
        origin=origin,
    )
    if origin is not None and state is not None:
        load_optimizer(run.optimizer, state["optimizer"])
        if run.average is not None and state["average"] is not None:
            run.average.load_state_dict(state["average"])
        run.step = origin.steps
    return run


def _check_origin(origin: Origin, state: dict[str, Any], data: Data) -> None:
    """Refuse to go on from a run of other data."""
    if origin.goes_on and state["data_digest"] != data.digest:
        raise UserError(
            f"trainer.init_from={origin.folder}: the data changed since that run (digest {state['data_digest'][:12]} then, "
            f"{data.digest[:12]} now): put the old files back, or write trainer.init_schedule=restart"
        )


def evaluated_network(model: nn.Module, cfg: RunConfig, rule: Rule, batches: Batches) -> nn.Module:
    """Return a network as evaluations use it: with fresh BatchNorm statistics if ``trainer.bn_batches`` asks for them."""
    if not cfg.trainer.bn_batches or rule.freezes_norms:
        return model
    dtype = float_dtype(model)
    return with_fresh_statistics(model, (as_input(batches.at(step).x, dtype) for step in range(cfg.trainer.bn_batches)))


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of all parameters and buffers; networks with equal digests are bit-identical."""
    return _digest(model.state_dict())


def parameters_digest(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of the parameters, without buffers, which can change without learning."""
    return _digest(dict(model.named_parameters()))


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
