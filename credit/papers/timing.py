"""The runner of timed cells: seconds an epoch of one run, and its ratio to a reference run's, measured in turns.

Both runs are built as the trainer builds them, on the real data, and make their steps (batch, rule, optimizer) one after
the other in one process, first one and then the other ahead: what else the machine does falls on both. Evaluations are
not part of an epoch's seconds, as in the trainer's own count.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from credit.config import check
from credit.config.schema import RunConfig
from credit.errors import UserError
from credit.records.folder import RESULT, is_complete, locked, read_result, runs_root, write_config, write_json
from credit.records.identity import decisive, group_name, run_name, short_digest

if TYPE_CHECKING:  # a table is read without torch
    from credit.training.state import Training

WARM_UP = 3
"""Steps of each side that are not counted."""

SECONDS, FEWEST, MOST = 10.0, 9, 400
"""How long rounds are measured, and how many there are at least and at most."""


def folder(config: RunConfig, options: dict[str, Any]) -> Path:
    """Return the folder of the pair, named by both runs and the threads they are given, which decide a time."""
    other = _reference(options)
    pair = {
        side: {**decisive(one), "threads": one.trainer.threads} for side, one in (("run", config), ("reference", other))
    }
    return runs_root() / f"timing-{run_name(config)}-{short_digest(pair)}"


def refuse(config: RunConfig, options: dict[str, Any]) -> None:
    """Raise `UserError` where one of the two cannot run."""
    from credit.training import prepare

    for one in (config, _reference(options)):
        prepare(one)


def estimate(config: RunConfig, options: dict[str, Any]) -> float:
    """Return about how many seconds measuring the pair takes."""
    from credit.training import prepare
    from credit.training.cost import measure, start

    both = [prepare(config), prepare(_reference(options))]
    pair = sum(measure(one).step for one in both)
    return sum(start(one.spec) for one in both) + max(SECONDS, FEWEST * pair) + WARM_UP * pair


def run(config: RunConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Measure the pair and return the content of result.json.

    Args:
        config: the cell's run.
        options: ``reference``, the plain configuration of the run it is compared with.

    Returns:
        ``seconds_per_epoch`` and ``step_seconds`` (medians), ``time_ratio`` (median of the rounds' ratios to the
        reference), ``time_ratio_low`` and ``time_ratio_high`` (its quartiles), ``rounds``, ``reference`` (the same two
        medians), and what every result has.
    """
    import torch

    from credit.training.cost import clocked

    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    started = time.perf_counter()
    other = _reference(options)
    ours = _begin(config, None)
    theirs = _begin(other, ours if _same_data(config, other) else None)
    where = folder(config, options)
    with locked(where):
        held = read_result(where) if is_complete(where) else None
        if held is not None:  # measured by another process, since the first look
            return held
        write_config(where, config)
        probe = torch.zeros((), device=ours.device)
        mine, yours = _steps(ours), _steps(theirs)
        for _ in range(WARM_UP):
            mine(probe)
            yours(probe)
        a, b = _rounds(lambda: clocked(mine, probe), lambda: clocked(yours, probe))
        result = _result(ours, theirs, a, b, time.perf_counter() - started)
        write_json(where / RESULT, result)
    return result


def _reference(options: dict[str, Any]) -> RunConfig:
    if not isinstance(options.get("reference"), dict):
        raise UserError("a timing cell needs a column to compare with: options: {against: <column>}")
    return check(options["reference"])


def _same_data(one: RunConfig, other: RunConfig) -> bool:
    return (one.data, one.noise, one.seed) == (other.data, other.noise, other.seed)


def _begin(config: RunConfig, share: "Training | None") -> "Training":
    """Return a run at step 0, on the data of another where that is the same."""
    from credit.data import load
    from credit.training import prepare
    from credit.training.state import begin

    prepared = prepare(config)
    data = (
        share.data if share is not None else load(config.data, config.noise, seed=config.seed, device=prepared.device)
    )
    return begin(prepared, data)


def _steps(run: "Training") -> Callable[[Any], None]:
    """Return what makes the next training step, as `credit.training.fit` does between evaluations."""
    from credit.training.evaluate import float_dtype
    from credit.training.schedules import learning_rate
    from credit.training.updates import set_learning_rate

    cfg, dtype = run.cfg, float_dtype(run.model)

    def step(_: Any) -> None:
        batch = run.batches.at(run.step)
        run.rule.position = run.step
        outcome = run.rule.step(batch.x.to(dtype), batch.y)
        run.running.add(outcome.logits, outcome.loss, batch.y)
        at = min(run.step, run.total_steps - 1)
        rate = learning_rate(cfg.schedule, cfg.optimizer.lr, at, run.total_steps, run.steps_per_epoch)
        set_learning_rate(run.optimizer, rate)
        run.optimizer.step()
        if run.average is not None:
            run.average.update_parameters(run.model)
        run.step += 1

    return step


def _rounds(ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Return the seconds of each side's steps, round by round; who goes first changes every round."""
    a: list[float] = []
    b: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(a) < FEWEST or (time.perf_counter() < end and len(a) < MOST):
        for into, clock in ((a, ours), (b, theirs)) if len(a) % 2 else ((b, theirs), (a, ours)):
            into.append(clock())
    return a, b


def _result(ours: "Training", theirs: "Training", a: list[float], b: list[float], seconds: float) -> dict[str, Any]:
    from credit.records.provenance import provenance

    ratios = [mine / yours for mine, yours in zip(a, b, strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    step, reference = statistics.median(a), statistics.median(b)
    return {
        "status": "complete",
        "name": run_name(ours.cfg),
        "group": group_name(ours.cfg),
        "selected_by": "last",
        "best": None,
        "last": {},
        "seconds_per_epoch": step * ours.steps_per_epoch,
        "step_seconds": step,
        "time_ratio": ratio,
        "time_ratio_low": low,
        "time_ratio_high": high,
        "rounds": len(ratios),
        "reference": {
            "name": run_name(theirs.cfg),
            "seconds_per_epoch": reference * theirs.steps_per_epoch,
            "step_seconds": reference,
        },
        "steps_per_epoch": ours.steps_per_epoch,
        "seconds": seconds,
        "parameters": sum(p.numel() for p in ours.model.parameters() if p.requires_grad),
        "notes": list(ours.rule.notes),
        "data_digest": ours.data.digest,
        "data": ours.data.summary(),
        "config": ours.cfg.as_dict(),
        "provenance": provenance(str(ours.device)),
    }
