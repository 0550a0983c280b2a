"""One run over several processes, started by torchrun: each computes its share of every batch, and all apply the whole's update.

    torchrun --nproc-per-node=2 $(which credit-train) rule=lisp_margin data=cifar10

Every process has the whole data set, makes the whole batch of a step with its noise and augmentation, and computes the rule's
updates on its own rows; random numbers of the step are the whole batch's, and so are BatchNorm's statistics, unless
``trainer.sync_batchnorm=false``. The updates' mean over the batch, the loss and the logits are summed in one exchange, so that
limits, optimizers, evaluations and decisions are the same everywhere. The first process records the run.
"""

import contextlib
import datetime
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.core.processes import end_with_others, first_to_fail, local_rank, rank, world_size
from credit.engine.activity import batch_norm
from credit.engine.draws import Share
from credit.rules.base import OWN, Rule
from credit.rules.outcome import Computed, InferenceDiverged
from credit.rules.traits import refuse_shares
from credit.runs.folder import run_folder
from credit.runs.identity import decisive
from credit.runs.provenance import environment
from credit.runs.user_code import package_code
from credit.training.backends.pieces import GROWTH, shares
from credit.training.monitors.finite import PATIENCE
from credit.training.prepare import Prepared, synthetic

T = TypeVar("T")


class Ranks:
    """The processes of a run.

    Args:
        sync_batchnorm: whether BatchNorm's statistics are those of all shares of a batch; else they are each share's own.

    Attributes:
        rank, size: the number of this one, from 0, and how many there are.
    """

    def __init__(self, sync_batchnorm: bool = False) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.across = self if sync_batchnorm else None

    def share(self, whole: int) -> Share:
        """Return this process's share of so many samples."""
        return shares(whole, self.size)[self.rank]

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        summed = value.clone()
        dist.all_reduce(summed)
        return summed

    def maximum(self, value: Tensor) -> Tensor:
        """Return the largest of a value (0-d) over all processes."""
        largest = value.clone()
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest

    def updates(self, rule: Rule, x: Tensor, y: Tensor) -> Computed:
        """Return what a rule's step computes on a whole batch, of which this process computes its share.

        Buffers of the model move by each process's share, and are their mean afterwards.

        Args:
            rule: of the run.
            x, y: the whole batch (B, ...) and its labels (B,), the same on all processes.

        Raises:
            UserError: a batch that the rule cannot take.
            InferenceDiverged: on any of the processes.
        """
        share, ended = self.share(len(x)), None
        looks = x.device.type == "cpu"  # elsewhere the trainer looks for divergence, from time to time
        rule.share = share
        try:
            done = rule.updates(x[share.start : share.stop], y[share.start : share.stop], OWN)
        except InferenceDiverged as end:
            if not looks:
                raise
            ended = end
        finally:
            rule.share = None
        if looks and self.maximum(torch.tensor(float(ended is not None))):
            raise next(end for end in self.gathered(ended) if end is not None)
        return self._whole(rule, done, share)

    def _whole(self, rule: Rule, done: Computed, share: Share) -> Computed:
        """Return the computed step of the whole batch: means of updates, loss and buffers, all samples' logits."""
        part = (share.stop - share.start) / share.whole
        buffers = {name: value for name, value in rule._model_buffers().items() if value.is_floating_point()}
        squares = {name: value.square() for name, value in done.signals.items() if name != GROWTH}
        means = [*done.updates.values(), done.loss, *squares.values(), *buffers.values()]
        rows = [_padded(value, share) for value in (done.logits, done.sizes) if value is not None]
        found = self._summed([*(value * part for value in means), *rows])
        count = len(done.updates)
        signals = {name: found[count + 1 + at].sqrt() for at, name in enumerate(squares)}
        if GROWTH in done.signals:
            signals[GROWTH] = self.maximum(done.signals[GROWTH])
        for at, value in enumerate(buffers.values()):
            value.copy_(found[count + 1 + len(squares) + at])
        logits, sizes = [*found[len(means) :], None][:2]
        assert logits is not None
        return Computed(logits, found[count], dict(zip(done.updates, found, strict=False)), sizes, signals)

    def _summed(self, values: list[Tensor]) -> list[Tensor]:
        """Return the sums of tensors over all processes, in one exchange."""
        dtype = torch.float64 if any(value.dtype == torch.float64 for value in values) else torch.float32
        flat = torch.cat([value.reshape(-1).to(dtype) for value in values])
        dist.all_reduce(flat)
        parts = flat.split([value.numel() for value in values])
        return [part.view(value.shape).to(value.dtype) for part, value in zip(parts, values, strict=True)]

    def gathered(self, value: T) -> list[T]:
        """Return a value of every process, by rank."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found


def _padded(value: Tensor, share: Share) -> Tensor:
    """Return the rows of a share in their places among those of the whole batch, the others zero."""
    whole = value.new_zeros(share.whole, *value.shape[1:])
    whole[share.start : share.stop] = value
    return whole


def current() -> Ranks | None:
    """Return the processes of the run that is being trained; None where there is only one."""
    return Ranks() if dist.is_available() and dist.is_initialized() else None


def shared(work: Callable[[], T]) -> T:
    """Return what a function returns on the first process, which alone calls it."""
    ranks = current()
    if ranks is None:
        return work()
    found: list[Any] = [work() if ranks.rank == 0 else None]
    dist.broadcast_object_list(found, src=0)
    return found[0]


def agreed(number: int | None, step: int, device: torch.device) -> int | None:
    """Return the largest of a number over all processes; None where none has one.

    Args:
        number: this process's.
        step: the step, the same on all of them. On a GPU, which is waited for, the result is None but at every `PATIENCE`-th.
        device: the run's.
    """
    ranks = current()
    if ranks is None:
        return number
    if device.type != "cpu" and step % PATIENCE:
        return None
    return int(ranks.maximum(torch.tensor(number or 0, device=device))) or None


@contextlib.contextmanager
def joined(cfg: RunConfig) -> Iterator[RunConfig]:
    """Join the processes that torchrun started for a run, unless they have joined already, and yield this one's configuration.

    All but the first keep their records in a folder that is removed in the end. Where one fails, the others end too.

    Raises:
        UserError: the processes have different configurations or versions of the code.
    """
    if world_size() == 1:
        yield cfg
        return
    cuda = cfg.trainer.device in ("auto", "cuda") and torch.cuda.is_available()
    device = f"cuda:{local_rank()}" if cuda else "cpu" if cfg.trainer.device == "auto" else cfg.trainer.device
    if cuda:
        torch.cuda.set_device(local_rank())
    mine = not dist.is_initialized()
    if mine:
        end_with_others()
        dist.init_process_group("nccl" if cuda else "gloo", timeout=datetime.timedelta(minutes=30))
    try:
        _refuse_unlike(cfg)
        cfg = replace(cfg, trainer=replace(cfg.trainer, device=device))
        if rank() == 0:
            yield cfg
            return
        with tempfile.TemporaryDirectory() as scratch, environment(CREDIT_RUNS=scratch):
            quiet = replace(cfg.trainer, checkpoint_every=10**6, progress=False)
            yield replace(cfg, trainer=quiet, logger=replace(cfg.logger, kind="files"))
    except Exception:
        if mine:
            first_to_fail()
        raise
    finally:
        if mine and not isinstance(sys.exception(), Exception):  # one that failed waits for nobody
            dist.destroy_process_group()


def share_steps(run: Prepared, smallest: int) -> None:
    """Let the steps of a run's rules be shared by the processes that have joined; do nothing where there is one.

    Args:
        run: whose rules they are.
        smallest: samples of its smallest batch.

    Raises:
        UserError: a batch smaller than the number of processes, or a rule or network that needs the whole batch in one process.
    """
    ranks, sync = current(), run.cfg.trainer.sync_batchnorm
    norms = [batch_norm(rule.plan) for rule in run.rules]
    if not sync and (ranks is None or not any(norms)):
        why = "this is one process" if ranks is None else f"{type(run.model).__name__} has no BatchNorm that uses them"
        raise UserError(
            "trainer.sync_batchnorm=false is about the statistics of a batch that processes of torchrun share, and "
            f"{why}: it would change nothing; leave it out"
        )
    if ranks is None:
        return
    if smallest < ranks.size:
        raise UserError(
            f"torchrun started {ranks.size} processes, and the smallest batch of an epoch has {smallest} examples: each process "
            "needs one. Start fewer, or write a larger data.batch_size, or data.drop_last=true"
        )
    for rule, norm in zip(run.rules, norms, strict=True):
        refuse_shares(rule)
        rule.sharing = Ranks(sync and norm is not None)
        if norm is None or sync:
            mine = ranks.share(2 * ranks.size)
            rule.check_share(synthetic(run, mine.whole)[0], slice(mine.start, mine.stop))
        else:
            rule.notes.append(
                f"{ranks.size} processes and trainer.sync_batchnorm=false: {norm.describe()} and its like use the statistics of "
                "each process's share of a batch"
            )


def _refuse_unlike(cfg: RunConfig) -> None:
    ranks = Ranks()
    mine = {"settings": {**decisive(cfg), "seed": cfg.seed, "folder": str(run_folder(cfg))}, "code": package_code()}
    for at, other in enumerate(ranks.gathered(mine)):
        for what, value in mine.items():
            if other[what] != value:
                raise UserError(
                    f"the processes of one run must be started by the same command on the same code, and the {what} of process "
                    f"{ranks.rank} and process {at} differ"
                )
