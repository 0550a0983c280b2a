"""Load the network of a finished run, as its evaluations used it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from credit.core.config import RunConfig
from credit.core.errors import UserError, nearest
from credit.data import Batches, Data
from credit.data import load as load_data
from credit.data.statistics import restored, statistics
from credit.data.targets import recorded_task
from credit.diagnostics.networks import as_input, float_dtype
from credit.models import build
from credit.rules.api import build as build_rule
from credit.rules.base import Rule
from credit.runs.places import find_run
from credit.tasks.base import fitting
from credit.training.evaluate import evaluate
from credit.training.optimization import averaged
from credit.training.prepare import example_of, resolve_device
from credit.training.state.finished import damaged, finished, state_of
from credit.training.state.run_state import evaluated_network, weights_digest
from credit.training.threads import choose_threads, threads

WEIGHTS = ("best", "last")


class Trained(nn.Module):
    """A trained network in evaluation mode. Its ``forward`` maps preprocessed inputs (B, ...) to outputs, logits for example.

    Where the run's rule is evaluated by settling (eqprop, chl), ``forward`` settles.

    Attributes:
        network: the network itself, with averaged weights and fresh BatchNorm statistics where the run had them.
        predictor: what ``forward`` calls: the network, or the module in which its states settle.
        rule: the run's rule, on the network that was trained.
        config: the run's configuration.
        task: of the outputs (`credit.tasks`).
        classes: names of the outputs: of the classes, numbers or tokens.
        result: content of the run's ``result.json``.
        folder, step: the run's folder, and the step of the weights.
        weights: ``best`` or ``last``.
        shape: of one example, as stored: (C, H, W), or (F,).
        top: the largest value of a stored pixel; None for rows of numbers.
        normalizer: what `preprocess` calls.
    """

    def __init__(
        self, network: nn.Module, rule: Rule, folder: Path, cfg: RunConfig, result: dict[str, Any], weights: str,
        record: Mapping[str, Any], data: Data | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.predictor = rule.predictor(network)
        self._held = (network, rule)  # a tuple: no second name of the same parameters
        self.config, self.result, self.weights = cfg, result, weights
        self.folder, self.step = folder, int(result[weights]["step"])
        self.task = fitting(recorded_task(result["data"])[0], network)
        self.classes: list[str] = list(record["names"])
        self.shape = tuple(int(size) for size in result["data"]["shape"])
        self.top: int | None = record["top"]
        self._device = next(network.parameters()).device
        if record["preprocessing"] is not None:
            self.normalizer: Any = restored(record["preprocessing"], self._device)
        else:
            assert data is not None
            self.normalizer = data.fitted or data.normalizer
        self.eval()

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        return self._held[0]

    @property
    def rule(self) -> Rule:
        """The run's rule."""
        return self._held[1]

    @property
    def settles(self) -> bool:
        """Whether the rule is evaluated by settling, and not by the network's forward pass."""
        return self.predictor is not self.network

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.predictor(x)
        return out

    def preprocess(self, x: Tensor | np.ndarray) -> Tensor:
        """Return examples as the network takes them: preprocessed and normalised by the statistics of the run's training part.

        Args:
            x: as stored, (N, C, H, W) of whole numbers from 0 to `top`, or (N, F).

        Raises:
            UserError: another shape, or pixels that are no whole numbers in the range.
        """
        given = torch.as_tensor(x)
        if tuple(given.shape[1:]) != self.shape:
            raise UserError(
                f"examples of shape {tuple(given.shape[1:])}, and the run's are {self.shape}: give an array of shape "
                f"(N, {', '.join(map(str, self.shape))})"
            )
        if self.top is None:
            return self._ready(given.long() if self.task.positions else given.float())
        low, high = (given.min().item(), given.max().item()) if given.numel() else (0, 0)
        if not (
            low >= 0 and high <= self.top and (not given.is_floating_point() or bool((given == given.round()).all()))
        ):
            raise UserError(
                f"pixels from {low:g} to {high:g}: the run's are whole numbers from 0 to {self.top}, as stored, before any scaling"
            )
        return self._ready(given.to(torch.uint8))

    def _ready(self, x: Tensor) -> Tensor:
        made: Tensor = self.normalizer(x.to(self._device))
        return as_input(made, float_dtype(self.network))

    def metrics(self, data: Data | None = None) -> dict[str, Any]:
        """Return the metrics of an evaluation (`credit.training.evaluate.evaluate`), on the run's own data by default.

        Args:
            data: a data set on the network's device; its examples are preprocessed by its own ``normalizer``.

        Raises:
            UserError: the run's data cannot be read, or are others than those of the run.
        """
        own = run_data(self.config, self.result, self._device) if data is None else data
        example = example_of(self.network, self.shape, self.task)
        cfg = self.config
        with threads(choose_threads(cfg.trainer.threads, self.rule, example, cfg.data.batch_size).count):
            found = evaluate(self.predictor, own, cfg.data.eval_batch_size, per_class="per_class" in cfg.trainer.report)
        self.eval()
        return found


def load(run: str | Path, weights: Literal["best", "last"] = "best", *, device: str = "cpu") -> Trained:
    """Return the network of a finished run, in evaluation mode.

    The data are read only where the statistics of a whitening, or fresh BatchNorm statistics (``trainer.bn_batches``), need them.

    Args:
        run: the run's folder, or its name under ``runs/`` (``$CREDIT_RUNS``).
        weights: ``best``: of the best epoch by validation accuracy (without validation part the last); or ``last``.
        device: as of ``trainer.device``.

    Raises:
        UserError: there is no such run, it is unfinished, diverged or failed, it is damaged, its code changed, or its data are
            needed and are not there.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights={weights}: {nearest(weights, WEIGHTS)}")
    folder = find_run(run)
    cfg, result = finished(folder)
    state = state_of(folder, result, weights)
    found, size = resolve_device(device), result["data"]["shape"]
    # The checkpoint's weights follow: published ones are not downloaded.
    arch = {**cfg.arch, **({"pretrained": False} if "pretrained" in cfg.arch else {})}
    task, outputs = recorded_task(result["data"])
    model = build(arch, tuple(size), outputs, seed=cfg.seed)
    model.to(found, torch.float64 if cfg.trainer.precision == "float64" else torch.float32)
    example = example_of(model, tuple(size), task)
    rule = build_rule(cfg.rule, model, seed=cfg.seed, example=example, precision=cfg.trainer.precision, task=task)
    average = averaged(model, cfg.trainer.ema)
    try:
        model.load_state_dict(state["model"])
        rule.load_state_dict(state["rule"])
        if average is not None:
            average.load_state_dict(state["average"])
    except (KeyError, RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise damaged(
            folder, f"its checkpoint does not fit the network of its configuration ({_line(error)})"
        ) from error
    if state["step"] == result["steps"] and weights_digest(model) != result["weights_sha256"]:
        raise damaged(folder, "its weights are not those of which result.json records the SHA-256")
    rule.position = max(0, state["step"] - 1)
    network: nn.Module = model if average is None else average.module
    record, data = result["data"], None
    if record.get("preprocessing") is None or (cfg.trainer.bn_batches and not rule.freezes_norms):
        data = run_data(cfg, result, found)
        record = record | statistics(data)
        network = evaluated_network(network, cfg, rule, Batches(data, cfg.data, seed=cfg.seed))
    return Trained(network, rule, folder, cfg, result, weights, record, data)


def run_data(cfg: RunConfig, result: Mapping[str, Any], device: torch.device | str) -> Data:
    """Return the data of a finished run.

    Raises:
        UserError: they cannot be read, or changed since.
    """
    data = load_data(cfg.data, cfg.noise, seed=cfg.seed, device=device)
    if data.digest != result["data_digest"]:
        raise UserError(
            f"the data changed since the run was made (digest {str(result['data_digest'])[:12]} then, {data.digest[:12]} now): put "
            "the old files back"
        )
    return data


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
