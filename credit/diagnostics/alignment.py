"""Alignment: compare a rule's update with backprop's on the same batch, by layer."""

import math
from typing import Any

import torch
from torch import Tensor

from credit.diagnostics.base import Diagnostic, Watched
from credit.diagnostics.networks import in_order
from credit.rules import api
from credit.rules.backward.rule import BackwardRule
from credit.rules.base import Rule, Step


def backprop_of(rule: Rule) -> Rule:
    """Return backprop on cross-entropy, with the options of `Rule.reference`, for the rule's model, seed, precision and position.

    The error signal passes unchanged through step and sign, whose derivative is zero (straight-through estimator). For a network
    with one probability as its output the loss is the rule's own, because not every such output has a cross-entropy.
    """
    settings = api.read("bp") | {"gate": "straight_through", "local_autograd": True}
    if rule.task.method == "of_probability" and isinstance(rule, BackwardRule):
        settings["loss"] = rule.options.loss
    settings |= rule.reference
    example = None if rule.plan.sample is None else rule.plan.sample.batch()
    reference = api.build(
        settings, rule.model, seed=rule.seed, example=example, precision=rule.precision, task=rule.task
    )
    reference.position = rule.position
    if rule.freezes_norms and isinstance(reference, BackwardRule):
        reference.plan = reference.plan.adapted(reference, frozen_norms=True)
    return reference


def compare(rule: Rule, reference: Rule, x: Tensor, y: Tensor) -> dict[str, dict[str, float]]:
    """Compare the updates of two rules on a batch, by layer. Weights, buffers and gradients are left unchanged.

    Args:
        rule: any rule; its update is taken before clipping and re-projection.
        reference: the rule to compare with, on the same model.
        x: batch of inputs (B, ...).
        y: labels (B,).

    Returns:
        By layer, in the order of the network (input first), for every trainable weight of two or more dimensions: ``cosine`` of
        the two updates, in [-1, 1], and ``angle``, in degrees; ``norm``, ``reference_norm`` and ``difference_norm``, the Euclidean
        norms of the rule's update, the reference's and their difference; ``norm_ratio`` of the first two. The cosine is 0 if
        either update is zero, the ratio is inf if the reference's update is zero.
    """
    theirs = reference.updates(x, y).updates
    ours = rule.updates(x, y).updates
    compared = {}
    for name in in_order(rule.plan):
        if name not in ours or name not in theirs or ours[name].dim() < 2:
            continue
        a, b = ours[name].double().flatten(), theirs[name].double().flatten()
        size, length = torch.linalg.vector_norm(a), torch.linalg.vector_norm(b)
        both = bool(size * length > 0)
        compared[name.removesuffix(".weight")] = {
            "cosine": float(torch.dot(a, b) / (size * length)) if both else 0.0,
            "norm_ratio": float(size / length) if length > 0 else float("inf"),
            "angle": _angle(a / size, b / length) if both else 90.0,
            "norm": float(size),
            "reference_norm": float(length),
            "difference_norm": float(torch.linalg.vector_norm(a - b)),
        }
    return compared


def _angle(a: Tensor, b: Tensor) -> float:
    """Return the angle between two unit vectors in degrees, also below 1e-6 degrees, where the arc cosine is inexact."""
    return math.degrees(2 * math.atan2(float(torch.linalg.vector_norm(a - b)), float(torch.linalg.vector_norm(a + b))))


def alignment(rule: Rule, x: Tensor, y: Tensor) -> dict[str, dict[str, float]]:
    """Compare the update of a rule with backprop's (`compare`, `backprop_of`) on inputs x (B, ...) and labels y (B,)."""
    return compare(rule, backprop_of(rule), x, y)


class Alignment(Diagnostic):
    """The diagnostic ``alignment``: `alignment` at the weights and on the batch of the measured step."""

    def __init__(self, run: Watched) -> None:
        super().__init__(run)
        self._backprop = backprop_of(run.rule)
        self._found: dict[str, dict[str, float]] = {}

    def before(self, x: Tensor, y: Tensor) -> None:
        """Compare the updates at the weights before the step."""
        self._backprop.position = self.run.rule.position
        self._found = compare(self.run.rule, self._backprop, x, y)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return the comparison made before the step; see `compare`."""
        return self._found
