"""The runner ``timing``: the seconds per epoch of a run, and their ratio to a reference run's, measured alternately.

Both runs are built as in training, on the real data, and make their steps (batch, rule, optimizer) alternately in one process, so
that other load on the machine affects both. As in training, the seconds do not include evaluations.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from credit.core.config import check
from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.runs.identity import decisive, group_name, run_name, short_digest
from credit.runs.places import runs_root
from credit.runs.provenance import provenance
from credit.tables.options import runner_options
from credit.tables.runners.records import record, result_of

if TYPE_CHECKING:  # a table is read without importing torch
    from credit.training.state.run_state import Training

WARM_UP = 3
"""Number of steps of each run before the measurement."""

FEWEST, MOST = 9, 400
"""Smallest and largest number of rounds."""


def folder(config: RunConfig, options: dict[str, Any]) -> Path:
    """Return the folder of the pair, whose name is a function of both runs, their threads included."""
    other = _reference(options)
    pair = {
        side: {**decisive(one, speed=True), "threads": one.trainer.threads}
        for side, one in (("run", config), ("reference", other))
    }
    return runs_root() / f"timing-{run_name(config, speed=True)}-{short_digest(pair)}"


def refuse(config: RunConfig, options: dict[str, Any]) -> None:
    """Check that both runs can be trained.

    Raises:
        UserError: one cannot, or there is no reference.
    """
    from credit.training.prepare import prepare

    for one in (config, _reference(options)):
        prepare(one)
    _seconds(options)


def estimate(config: RunConfig, options: dict[str, Any]) -> float:
    """Return the estimated seconds of a measurement of the pair."""
    from credit.sweeps.estimate import measure, start
    from credit.training.prepare import prepare

    both = [prepare(config), prepare(_reference(options))]
    pair = sum(measure(one).step for one in both)
    return sum(start(one.spec) for one in both) + max(_seconds(options), FEWEST * pair) + WARM_UP * pair


def run(config: RunConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Measure the pair and return the content of result.json.

    Args:
        config: the cell's run.
        options: ``reference``, the configuration of the run to compare with, as a plain mapping; ``seconds``, the duration of
            the measurement.

    Returns:
        ``seconds_per_epoch`` and ``step_seconds`` (medians), ``time_ratio`` (median of the rounds' ratios to the reference),
        ``time_ratio_low`` and ``time_ratio_high`` (its quartiles), ``rounds``, ``reference`` (its two medians),
        ``memory_ratio`` (peak bytes of a step of the rule divided by the reference's; gradients are included, the network's
        parameters, feedback parameters and the optimizer's state are not), and the entries of every result.
    """
    import torch

    from credit.sweeps.estimate import clocked
    from credit.training.threads import threads

    started = time.perf_counter()
    other = _reference(options)
    ours = _begin(config, None)
    theirs = _begin(other, ours if _same_data(config, other) else None)

    def measure() -> dict[str, Any]:
        probe = torch.zeros((), device=ours.device)
        mine, yours = _steps(ours), _steps(theirs)
        for _ in range(WARM_UP):
            mine(probe)
            yours(probe)
        a, b = _rounds(lambda: clocked(mine, probe), lambda: clocked(yours, probe), _seconds(options))
        result = _result(ours, theirs, a, b, time.perf_counter() - started)
        return result | {"memory_ratio": _peak(ours) / _peak(theirs)}

    with threads(ours.threads.count):
        return record(folder(config, options), config, measure)


def _reference(options: dict[str, Any]) -> RunConfig:
    if not isinstance(options.get("reference"), dict):
        raise UserError("a timing cell needs a column to compare with: options: {against: <column>}")
    return check(options["reference"])


def _seconds(options: dict[str, Any]) -> float:
    """Return the duration of the measurement in seconds."""
    own = {key: value for key, value in options.items() if key != "reference"}  # which the table adds
    seconds: float = runner_options("timing", own).seconds
    return seconds


def _same_data(one: RunConfig, other: RunConfig) -> bool:
    return (one.data, one.noise, one.seed) == (other.data, other.noise, other.seed)


def _begin(config: RunConfig, share: "Training | None") -> "Training":
    """Return a run at step 0, on the data of another run (`share`) if one is given."""
    from credit.data import load
    from credit.training.prepare import prepare
    from credit.training.state.run_state import begin

    prepared = prepare(config)
    data = (
        share.data if share is not None else load(config.data, config.noise, seed=config.seed, device=prepared.device)
    )
    return begin(prepared, data)


def _steps(run: "Training") -> Callable[[Any], None]:
    """Return a function that makes the next training step, as `credit.training.loop` does between evaluations."""
    from credit.diagnostics.networks import float_dtype
    from credit.training.optimization import set_learning_rate
    from credit.training.schedules import learning_rate

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


def _peak(run: "Training") -> int:
    """Return the peak bytes of one step on a batch of the run, without gradients before it."""
    from credit.diagnostics.networks import float_dtype
    from credit.training.backends.memory import peak_bytes

    run.optimizer.zero_grad(set_to_none=True)
    batch = run.batches.at(run.step)
    run.rule.position = run.step
    held: list[Any] = []  # the training loop also keeps a reference to a step's outcome
    return peak_bytes(lambda x, y: held.append(run.rule.step(x, y)), batch.x.to(float_dtype(run.model)), batch.y)


def _rounds(ours: Callable[[], float], theirs: Callable[[], float], seconds: float) -> tuple[list[float], list[float]]:
    """Return the seconds of each side's steps, round by round; the order alternates."""
    a: list[float] = []
    b: list[float] = []
    end = time.perf_counter() + seconds
    while len(a) < FEWEST or (time.perf_counter() < end and len(a) < MOST):
        for into, clock in ((a, ours), (b, theirs)) if len(a) % 2 else ((b, theirs), (a, ours)):
            into.append(clock())
    return a, b


def _result(ours: "Training", theirs: "Training", a: list[float], b: list[float], seconds: float) -> dict[str, Any]:
    ratios = [mine / yours for mine, yours in zip(a, b, strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    step, reference = statistics.median(a), statistics.median(b)
    own = {
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
        "parameters": sum(p.numel() for p in ours.model.parameters() if p.requires_grad),
        "notes": list(ours.rule.notes),
        "data_digest": ours.data.digest,
        "data": ours.data.summary(),
        "provenance": provenance(str(ours.device), threads=ours.threads.why),
    }
    return result_of("timing", run_name(ours.cfg), group_name(ours.cfg), ours.cfg.as_dict(), seconds, **own)
