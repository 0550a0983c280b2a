"""The functions that worker processes of sweeps and tables run; imports little, because every worker imports it."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from credit.core.config import RunConfig, check
from credit.core.errors import UserError
from credit.core.user_files import use_folders
from credit.runs import read_metrics
from credit.runs.folder import check_same_config, run_folder
from credit.runs.outcome import check_resumable
from credit.runs.provenance import note_job_commands
from credit.sweeps.groups import pieces
from credit.sweeps.runners import runner

MOST_MEASURED = 12
"""Largest number of configurations that are timed for an estimate."""

MEASURING_SECONDS = 8.0
"""Seconds that timing may take in all; the other configurations get the times of the most similar one."""

CHOOSING_SECONDS = 10.0
"""Seconds that comparing passes with processes may take in all; the other groups are trained like the most similar one."""

Pairs = list[tuple[dict[str, Any] | None, str | None]]
"""For each run its result, or None and the reason why there is none."""


def examine(payload: dict[str, Any]) -> dict[str, Any]:
    """Check jobs before any starts, choose how groups of seeds are trained, and estimate the jobs' seconds.

    Args:
        payload: ``jobs``, each with ``config`` (`RunConfig.as_dict`), ``runner``, ``options`` and ``folder``; ``groups``,
            tuples of indices of jobs that differ only in their seed; ``folders``, the user's configuration folders;
            ``threads``, CPU threads to measure with; ``measure``, whether to estimate the jobs' seconds.

    Returns:
        ``refused``: index of the first job that cannot run and the reason, or None; ``gpu``: whether any job trains on a GPU;
        ``seconds``: the estimate for each job or None; ``measured``: number of configurations timed; ``choices``: for each
        group, fields of `credit.sweeps.groups.Group`.
    """
    use_folders(payload["folders"])
    _threads(payload["threads"])
    found: dict[str, Any] = {"refused": None, "gpu": False, "seconds": [None] * len(payload["jobs"]), "measured": 0}
    found["choices"] = []
    prepared: dict[int, Any] = {}
    seen: dict[str, int] = {}
    chosen = _Choices()
    for index, job in enumerate(payload["jobs"]):
        try:
            config = check(job["config"])
            key = _without_seed(job)
            if key not in seen:
                prepared[index] = _refuse(config, job)
            elif job["runner"] == "train":
                check_same_config(run_folder(config), config)
                check_resumable(run_folder(config), config)
        except UserError as error:
            return found | {"refused": (index, str(error))}
        first = seen.setdefault(key, index)
        prepared[index] = prepared[first]
    trained = {index: part for index, part in prepared.items() if part is not None}
    found["gpu"] = any(part.device.type == "cuda" for part in trained.values())
    for indices in payload["groups"]:
        try:
            found["choices"].append(chosen.of(trained[indices[0]], len(indices)))
        except UserError as error:  # the configuration demands one pass, which is impossible
            return found | {"refused": (indices[0], str(error))}
    if payload["measure"]:
        found |= _measured(trained, payload)
        _ask_runners(payload["jobs"], found["seconds"])
    return found


def run_unit(payload: dict[str, Any]) -> Pairs:
    """Run the jobs of one unit, several of them in one pass, and return one pair for each job.

    Args:
        payload: ``configs``, one for each job; ``commands``, by run name; ``runner``, ``options``, ``folders`` and ``threads``
            (see `credit.sweeps.groups.Unit.payload`).

    Raises:
        Exception: any exception of the job, or of the pass over several jobs.
    """
    use_folders(payload["folders"])
    _threads(payload["threads"])
    note_job_commands(payload["commands"])
    configs = [check(one) for one in payload["configs"]]
    if len(configs) > 1:
        return _train(configs)
    return [(runner(payload["runner"]).run(configs[0], payload["options"]), None)]


def train_seeds(configs: Sequence[RunConfig]) -> Pairs:
    """Train runs that differ only in their seed in this process: in passes over several where that is faster, else one by one.

    Args:
        configs: the runs' configurations.

    Returns:
        One pair for each run, in order.
    """
    from credit.sweeps.choose import choose

    choice = choose(configs[0], len(configs))
    return [pair for part in pieces(configs, choice.chunk if choice.mapped else 1) for pair in _train(part)]


def _train(configs: Sequence[RunConfig]) -> Pairs:
    """Train runs in one pass; if one of them cannot be trained, in ever smaller passes."""
    from credit.training import train, train_together

    try:
        if len(configs) > 1:
            return [(result, None) for result in train_together(configs, console=False)]
        return [(train(configs[0], console=False), None)]
    except UserError as error:
        if len(configs) == 1:
            return [(None, str(error))]
    return [pair for part in pieces(configs, (len(configs) + 1) // 2) for pair in _train(part)]


class _Choices:
    """A cache of the choices for groups of seeds, which measures once for groups with equal times, up to a limit of time."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        self._end = time.perf_counter() + CHOOSING_SECONDS

    def of(self, part: Any, count: int) -> dict[str, Any]:
        """Return the choice for `count` seeds of an outlined run: ``chunk``, ``why``, ``speedup`` and ``room``.

        Raises:
            UserError: the configuration demands one pass, and the runs cannot be trained in one.
        """
        network, batch, rest = _pace_key(part)
        key = json.dumps([network, batch, count, part.cfg.trainer.replicate, rest])
        if key not in self._known:
            like = next((held for other, held in self._known.items() if _same_network(key, other)), None)
            late = like is not None and time.perf_counter() > self._end
            self._known[key] = _choice(part.cfg, count, like if late else None)
        return self._known[key]


def _same_network(one: str, other: str) -> bool:
    return bool(json.loads(one)[:4] == json.loads(other)[:4])


def _choice(config: RunConfig, count: int, like: dict[str, Any] | None) -> dict[str, Any]:
    """Return the choice for a group: by measurement, or, if it can be mapped at all, that of a similar group (`like`)."""
    from credit.sweeps.choose import choose

    if like is not None:
        config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, replicate="map"))
    try:
        made = choose(config, count)
    except UserError as error:
        if like is None:
            raise
        return {"chunk": 1, "why": str(error)}
    # A user's rule may raise here: its own jobs report the traceback, and other jobs are not affected.
    except Exception as error:
        return {"chunk": 1, "why": f"together they fail with {type(error).__name__}: {error}"}
    chunk = made.chunk if made.mapped else 1
    return like or {"chunk": chunk, "why": made.why, "speedup": made.speedup, "room": made.room}


def _threads(count: int | None) -> None:
    if count is not None:
        import torch

        torch.set_num_threads(count)


def _without_seed(job: dict[str, Any]) -> str:
    """Return a text that is equal for jobs that differ only in their seed."""
    options = job["options"]
    if "reference" in options:
        options = {**options, "reference": {**options["reference"], "seed": 0}}
    return json.dumps([{**job["config"], "seed": 0}, job["runner"], options], sort_keys=True)


def _refuse(config: RunConfig, job: dict[str, Any]) -> Any:
    """Check that a job can run, and return the outline of a training run; None for another runner's job."""
    if job["runner"] != "train":
        refuse = getattr(runner(job["runner"]), "refuse", None)
        if refuse is not None:
            refuse(config, job["options"])
        return None
    from credit.sweeps.estimate import outline
    from credit.training.prepare import prepare

    return outline(prepare(config))  # networks are not kept: only the few that are timed are built again


def _measured(trained: dict[int, Any], payload: dict[str, Any]) -> dict[str, Any]:
    from credit.sweeps.estimate import measure, seconds
    from credit.training.prepare import prepare

    alike: dict[str, list[int]] = {}
    for index, part in trained.items():
        alike.setdefault(json.dumps(_pace_key(part)), []).append(index)
    paces: dict[str, Any] = {}
    end = time.perf_counter() + MEASURING_SECONDS
    for key in _one_of_each_network_first(list(alike)):
        if len(paces) < MOST_MEASURED and time.perf_counter() < end:
            # A user's rule may raise here: its own job reports the traceback, and other jobs are not affected.
            with contextlib.suppress(Exception):
                paces[key] = measure(prepare(trained[alike[key][0]].cfg))
    out: list[float | None] = [None] * len(payload["jobs"])
    for key, indices in alike.items():
        pace = paces.get(key) or _nearest(json.loads(key), paces)
        for index in indices if pace is not None else ():
            left = _left(Path(payload["jobs"][index]["folder"]), trained[index].total_steps)
            out[index] = seconds(trained[index], pace) * left
    return {"seconds": out, "measured": len(paces)}


def _left(folder: Path, total_steps: int) -> float:
    """Return the fraction of a run's steps that are left, by the last line of its metrics."""
    rows = read_metrics(folder)
    return 1 - min(rows[-1].get("step", 0), total_steps) / total_steps if rows else 1.0


def _ask_runners(jobs: list[dict[str, Any]], seconds: list[float | None]) -> None:
    """Fill in, in place, the estimates of runners with an ``estimate`` of their own, one for each distinct job."""
    known: dict[str, float] = {}
    for index, job in enumerate(jobs):
        estimate = getattr(runner(job["runner"]), "estimate", None) if job["runner"] != "train" else None
        if estimate is not None:
            key = _without_seed(job)
            if key not in known:
                known[key] = estimate(check(job["config"]), job["options"])
            seconds[index] = known[key]


def _pace_key(part: Any) -> list[Any]:
    """Return the settings that a step's time depends on: the network and its input, the batch size, and the rest."""
    cfg = part.cfg
    network = [cfg.arch, part.spec.shape, part.spec.outputs]
    optimizer = [cfg.optimizer.kind, getattr(cfg.optimizer, "name", None)]
    return [network, cfg.data.batch_size, [cfg.rule, optimizer, cfg.trainer.precision, str(part.device)]]


def _one_of_each_network_first(keys: list[str]) -> list[str]:
    networks: dict[str, int] = {}
    turns = []
    for key in keys:
        network = json.dumps(json.loads(key)[0])
        networks[network] = networks.get(network, 0) + 1
        turns.append(networks[network])
    return [key for _, key in sorted(zip(turns, keys, strict=True), key=lambda pair: pair[0])]


def _nearest(key: list[Any], paces: dict[str, Any]) -> Any:
    """Return the pace of the same network under another rule, scaled to this batch size; None without one."""
    for other, pace in paces.items():
        network, batch, _ = json.loads(other)
        if network == json.loads(json.dumps(key[0])):
            scale = key[1] / batch
            return dataclasses.replace(pace, step=pace.step * scale, forward=pace.forward * scale)
    return None
