"""Everything about a run that moves: what a checkpoint holds and a resume puts back, bit for bit."""

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
from credit.diagnostics.networks import float_dtype
from credit.rules.base import Rule
from credit.runs.made_from import made_from
from credit.training.evaluate import Running, with_fresh_statistics
from credit.training.monitors import large_loss
from credit.training.optimization import averaged, build_optimizer
from credit.training.prepare import Prepared, total_steps
from credit.training.state.fingerprint import check_checkpoint, fingerprint
from credit.training.threads import Threads
from credit.training.warm import warm_notes


@dataclass
class Training:
    """One run under way. `step` counts steps done; everything random is a function of it and the seed.

    `rule` is the run's, `warm` that of a warm start (None without one), `acting` that of the next step. `stopped`
    says why the run was given up (`credit.training.monitors.stopping.collapse`), `large_loss` is the largest
    training loss where it was
    large (`credit.training.monitors.large_loss`). `made_from` is `credit.runs.made_from.made_from`'s
    record, `resumed` what differed where the run went on from a checkpoint (`credit.training.state.fingerprint`), `together` the
    seeds of the pass that it is trained in, itself among them. `kept` is what the last checkpoint held for each
    diagnostic, `keepers` give it anew (`credit.diagnostics.Diagnostic.state_dict`).
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
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    keepers: dict[str, Callable[[], dict[str, Tensor]]] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the last step is done, or was given up."""
        return self.step >= self.total_steps or self.stopped is not None

    @property
    def acting(self) -> Rule:
        """The rule of the next step: the warm start's in its first steps, the run's own from there on."""
        return self.rule if self.warm is None or self.step >= self.warm_steps else self.warm

    @property
    def warm_steps(self) -> int:
        """Steps that a warm start makes; 0 without one."""
        return self.cfg.trainer.warm_steps or 0

    @property
    def notes(self) -> list[str]:
        """What a user must know of the run's rules on this network."""
        weights = getattr(self.model, "weights_note", None)  # of a network that began with pretrained ones
        own = [*self.data.notes, *self.rule.notes, *([large_loss.words(self.large_loss)] if self.large_loss else [])]
        return [*([weights] if weights else []), *warm_notes(self.cfg, self.warm), *own]

    def see_loss(self, loss: float, step: int) -> bool:
        """Remember a training loss where it is large; say whether it is the first such one."""
        known = self.large_loss is not None
        classes, epoch = len(self.data.names), step / self.steps_per_epoch
        self.large_loss = large_loss.larger(self.large_loss, loss, classes, step, epoch)
        return self.large_loss is not None and not known

    @property
    def epoch(self) -> float:
        """Epochs done; a whole number where the epoch is."""
        whole, rest = divmod(self.step, self.steps_per_epoch)
        return self.step / self.steps_per_epoch if rest else whole

    @property
    def evaluated_model(self) -> nn.Module:
        """The network that evaluations see: the averaged one where there is one."""
        if self.average is None:
            return self.model
        inner: nn.Module = self.average.module
        return inner

    def evaluated(self) -> nn.Module:
        """Return the network as evaluations see it: averaged where it is, BatchNorm's statistics anew where they are asked for.

        The statistics are those of the first steps' batches, the same ones at every evaluation.
        """
        count = self.cfg.trainer.bn_batches
        if not count or self.rule.freezes_norms:
            return self.evaluated_model
        dtype = float_dtype(self.model)
        inputs = (self.batches.at(step).x.to(dtype) for step in range(count))
        return with_fresh_statistics(self.evaluated_model, inputs)

    def state(self, metrics_size: int) -> dict[str, Any]:
        """Return what a checkpoint holds.

        Args:
            metrics_size: bytes of metrics.jsonl that were written up to this step.
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
        """Return what this run is made of, for its checkpoints."""
        return fingerprint(self.cfg, self.made_from, self.device)

    def restore(self, state: dict[str, Any], folder: Path) -> list[str]:
        """Go on from what `state` returned; return descriptions of differences that are no reason to stop.

        Args:
            state: a checkpoint's content.
            folder: where it lies, for messages.

        Raises:
            UserError: it is of another run, or the data or the code is not what the run was trained with so far.
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
    """Return a run at step 0."""
    cfg, model = prepared.cfg, prepared.model
    batches = Batches(data, cfg.data, seed=cfg.seed)
    return Training(
        cfg=cfg,
        model=model,
        rule=prepared.rule,
        device=prepared.device,
        data=data,
        batches=batches,
        steps_per_epoch=batches.steps_per_epoch,
        total_steps=total_steps(cfg.trainer, batches.steps_per_epoch),
        optimizer=build_optimizer(
            cfg.optimizer, model.parameters(), prepared.rule.parameters(), prepared.rule.own_settings
        ),
        average=averaged(model, cfg.trainer.ema),
        running=Running(prepared.device),
        threads=prepared.threads,
        untrained=parameters_digest(model),
        warm=prepared.warm,
        made_from=made_from(cfg),
    )


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of every parameter and buffer: equal digests are bit-identical networks."""
    return _digest(model.state_dict())


def parameters_digest(model: nn.Module) -> str:
    """Return the SHA-256 (hex) of the parameters alone, without buffers, which change where nothing learns too."""
    return _digest(dict(model.named_parameters()))


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
