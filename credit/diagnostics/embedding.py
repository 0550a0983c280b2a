"""Embedding: t-SNE of the representation below a network's last weighted layer (paper 5, Fig. 5).

The representation of an example is the input of the last linear or convolution layer in the forward pass, flattened.
"""

from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.data import Data
from credit.diagnostics.base import LABELS, Diagnostic, Evaluated
from credit.diagnostics.networks import float_dtype, refuse_settled
from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Plan
from credit.rules.base import Rule, Step

EXAMPLES = 1000
"""Number of examples shown, spread evenly over the test part (the validation part if there is no test part)."""
LEAST = 8
"""Smallest number of examples."""
COMPONENTS = 50
"""Number of principal components before t-SNE (van der Maaten and Hinton 2008, section 4.2, use 30)."""
PERPLEXITY = 30.0
"""t-SNE's perplexity, scikit-learn's default; of fewer than 91 examples, a third of their number minus one."""


class Embedding(Diagnostic):
    """The diagnostic ``embedding``: `embedding` of the network that evaluations use, at the run's end."""

    tasks = LABELS
    at_end = True
    run: Evaluated

    @classmethod
    def check(cls, rule: Rule) -> None:
        """Refuse rules whose evaluations are no forward pass, and networks without a linear or convolution layer."""
        refuse_settled("embedding", rule, "its top representation is not that of a forward pass")
        last_layer(rule.plan, rule.model)

    def __init__(self, run: Evaluated) -> None:
        super().__init__(run)
        x, _ = shown(run.data)
        if len(x) < LEAST:
            raise UserError(
                f"trainer.measure=[embedding] shows examples of the test or the validation part, and neither has {LEAST}: raise "
                "data.limit_test, or leave the diagnostic out"
            )
        model = run.rule.model
        layer, training = last_layer(run.rule.plan, model), model.training
        found = representation(model, layer, run.data.prepare(x[:2]), 2)
        model.train(training)
        if len(found) != 2:
            raise UserError(
                f"trainer.measure=[embedding]: layer '{layer}' sees {len(found) / 2:g} rows an example, which has one point in the "
                "picture. Leave the diagnostic out"
            )

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return `embedding` of the network after the run's last step."""
        return embedding(self.run.rule.plan, self.run.evaluated(), self.run.data, self.run.cfg.data.eval_batch_size)


def embedding(plan: Plan, model: nn.Module, data: Data, batch_size: int = 1000) -> dict[str, Any]:
    """Embed the examples of `shown` in the plane by t-SNE, so that examples with similar representations are close.

    Args:
        plan: the plan of the network, or of one that differs only in its weights.
        model: the network; it is left unchanged, in train mode.
        data: the data set, on the network's device.
        batch_size: number of examples in a forward pass.

    Returns:
        ``x``, ``y``: lists of the points' coordinates, all 0 if all representations are equal. ``label``: list of the examples'
        classes; ``classes``: names of the classes. ``examples``: number of examples; ``kl``: t-SNE's final Kullback-Leibler
        divergence. ``neighbours``: fraction of examples whose nearest other example, by the Euclidean distance of
        representations, has the same class.
    """
    x, labels = shown(data)
    found = representation(model, last_layer(plan, model), data.prepare(x), batch_size).double().cpu()
    model.train()
    rows, y = found - found.mean(0), labels.cpu()
    points, kl = _plane(rows)
    return {
        "x": [round(value, 3) for value in points[:, 0].tolist()],
        "y": [round(value, 3) for value in points[:, 1].tolist()],
        "label": y.tolist(),
        "classes": list(data.names),
        "examples": len(y),
        "kl": kl,
        "neighbours": _neighbours(rows, y),
    }


def shown(data: Data, count: int = EXAMPLES) -> tuple[Tensor, Tensor]:
    """Return at most `count` examples of the test part (else the validation part), as stored (N, ...), and their labels (N,)."""
    part = data.test if len(data.test) else data.val
    count = min(count, len(part))
    at = torch.arange(count, device=part.y.device) * len(part) // max(count, 1)
    return part.take(at), part.y.index_select(0, at)


def last_layer(plan: Plan, model: nn.Module) -> str:
    """Return the name of the last linear or convolution layer of a network's forward pass.

    Raises:
        UserError: the network has no such layer.
    """
    modules = dict(model.named_modules())
    last = next((op for op in reversed(plan.ops) if isinstance(op, Weighted)), None)
    name = "" if last is None else last.name.partition("#")[0]  # a module's second call is "name#2"
    if last is None or not isinstance(modules.get(name), nn.Linear | nn.modules.conv._ConvNd):
        raise UserError(
            f"trainer.measure=[embedding] shows the input of the last nn.Linear or convolution, and {type(model).__name__} has "
            "none that rules know: leave the diagnostic out"
        )
    return name


def representation(model: nn.Module, layer: str, x: Tensor, batch_size: int) -> Tensor:
    """Return the flattened inputs (N, D) of a layer for the network's inputs x (N, ...); the network is left in evaluation mode.

    Args:
        model: the network.
        layer: name of the layer's module.
        x: inputs (N, ...), normalized.
        batch_size: number of examples in a forward pass.
    """
    taken: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_pre_hook(lambda _, given: taken.append(given[0].flatten(1)))
    model.eval()
    dtype = float_dtype(model)
    try:
        with torch.inference_mode():
            for part in x.split(batch_size):
                model(part.to(dtype))
    finally:
        handle.remove()
    return torch.cat(taken).clone()


def _plane(rows: Tensor) -> tuple[Tensor, float]:
    """Return t-SNE's points (N, 2) for centered rows (N, D), and its Kullback-Leibler divergence."""
    size = rows.square().mean().sqrt()
    if not size > 0:
        return torch.zeros(len(rows), 2), 0.0
    from sklearn.manifold import TSNE  # takes a second

    left, values, _ = torch.linalg.svd(rows / size, full_matrices=False)
    kept = (left * values)[:, :COMPONENTS]
    if kept.shape[1] == 1:  # t-SNE is initialized from two components
        kept = torch.cat([kept, torch.zeros_like(kept)], dim=1)
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    method = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=0)
    return torch.from_numpy(method.fit_transform(kept.numpy())), float(method.kl_divergence_)


def _neighbours(rows: Tensor, y: Tensor) -> float:
    """Return the fraction of rows whose nearest other row has the same label."""
    far = torch.cdist(rows, rows).fill_diagonal_(float("inf"))
    return (y[far.argmin(1)] == y).double().mean().item()
