"""Alignment: how a rule's update compares with backprop's on the same batch."""

import math
from typing import Any

import torch
from torch import Tensor

from credit.diagnostics.base import Diagnostic, Watched
from credit.diagnostics.networks import in_order
from credit.rules import api
from credit.rules.backward.rule import SweepRule
from credit.rules.base import Rule, Step


def backprop_of(rule: Rule) -> Rule:
    """Return backprop on cross-entropy, or as `Rule.reference` says, for the same model, seed and precision, at the same position.

    Through step and sign, whose derivative is zero, the signal passes unchanged (the straight-through reference). On a network
    of one probability it is backprop on the rule's own loss: not every probability has a cross-entropy.
    """
    settings = api.read("bp") | {"gate": "straight_through", "local_autograd": True}
    if rule.output_kind == "probability" and isinstance(rule, SweepRule):
        settings["loss"] = rule.options.loss
    settings |= rule.reference
    reference = api.build(settings, rule.model, seed=rule.seed, precision=rule.precision)
    reference.position = rule.position
    if rule.freezes_norms and isinstance(reference, SweepRule):
        reference.plan = reference.plan.adapted(reference, frozen_norms=True)
    return reference


def compare(rule: Rule, reference: Rule, x: Tensor, y: Tensor) -> dict[str, dict[str, float]]:
    """Return how one rule's update lies to another's, by layer; nothing is changed by it.

    Args:
        rule: any rule; its update is taken before clipping and re-projection.
        reference: what it is compared with, on the same model.
        x: batch (B, ...); y: labels (B,).

    Returns:
        For every trainable weight of two or more dimensions, in the order of the network (input first), named by its layer:
        ``cosine`` in [-1, 1] and ``angle``, the same in degrees; ``norm``, ``reference_norm`` and ``difference_norm``, the
        Euclidean lengths of the rule's update, the reference's and their difference; ``norm_ratio`` of the first two. Where
        either update is zero the cosine is 0; where the reference's is zero the ratio is inf.
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
    """Return the angle between two unit vectors in degrees; the arc cosine would lose angles below 1e-6 degrees."""
    return math.degrees(2 * math.atan2(float(torch.linalg.vector_norm(a - b)), float(torch.linalg.vector_norm(a + b))))


def alignment(rule: Rule, x: Tensor, y: Tensor) -> dict[str, dict[str, float]]:
    """Return `compare` of the rule with backprop."""
    return compare(rule, backprop_of(rule), x, y)


class Alignment(Diagnostic):
    """``trainer.measure=[alignment]``: `alignment` at the weights and on the batch of the measured step."""

    def __init__(self, run: Watched) -> None:
        super().__init__(run)
        self._backprop = backprop_of(run.rule)
        self._found: dict[str, dict[str, float]] = {}

    def before(self, x: Tensor, y: Tensor) -> None:
        self._backprop.position = self.run.rule.position
        self._found = compare(self.run.rule, self._backprop, x, y)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        return self._found
