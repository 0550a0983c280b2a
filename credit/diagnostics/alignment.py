"""Alignment: how a rule's update compares with backprop's on the same batch."""

import torch
from torch import Tensor

from credit.rules import api
from credit.rules.rule import Rule


def backprop_of(rule: Rule) -> Rule:
    """Return backprop on cross-entropy for the same model, seed and precision, at the same position.

    Through step and sign, whose derivative is zero, the signal passes unchanged (the straight-through reference).
    """
    settings = api.read("bp") | {"gate": "straight_through", "local_autograd": True}
    reference = api.build(settings, rule.model, seed=rule.seed, precision=rule.precision)
    reference.position = rule.position
    return reference


def alignment(rule: Rule, x: Tensor, y: Tensor) -> dict[str, dict[str, float]]:
    """Return cosine and norm ratio of the rule's update to backprop's, by layer; nothing is changed by it.

    Args:
        rule: any rule; its update is taken before clipping and re-projection.
        x: batch (B, ...); y: labels (B,).

    Returns:
        For every trainable weight of two or more dimensions: ``{"cosine": in [-1, 1], "norm_ratio": |rule| / |backprop|}``,
        named by its layer. Where either update is zero the cosine is 0; where backprop's is zero the ratio is inf.
    """
    theirs = backprop_of(rule).updates(x, y).updates
    ours = rule.updates(x, y).updates
    compared = {}
    for name, update in ours.items():
        if update.dim() < 2 or name not in theirs:
            continue
        a, b = update.double().flatten(), theirs[name].double().flatten()
        size, reference = torch.linalg.vector_norm(a), torch.linalg.vector_norm(b)
        cosine = torch.dot(a, b) / (size * reference) if size * reference > 0 else torch.zeros(())
        compared[name.removesuffix(".weight")] = {
            "cosine": float(cosine),
            "norm_ratio": float(size / reference) if reference > 0 else float("inf"),
        }
    return compared
