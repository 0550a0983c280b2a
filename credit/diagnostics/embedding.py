"""A picture of what a network makes of its input: t-SNE of the representation below its last weighted layer (paper 5, Fig. 5).

The representation of an example is the input of the last linear or convolution layer in the forward pass, as a row of numbers.
"""

from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.data import Data
from credit.diagnostics.base import Diagnostic, Evaluated
from credit.diagnostics.networks import float_dtype, refuse_settled
from credit.engine.ops.weighted import Weighted
from credit.engine.plan import Plan
from credit.rules.base import Rule, Step

EXAMPLES = 1000
"""How many examples are shown, spread evenly over the test part (the validation part where there is no test)."""
LEAST = 8
COMPONENTS = 50
"""Principal components that are kept before t-SNE, as is usual (van der Maaten and Hinton 2008, section 4.2 keeps 30)."""
PERPLEXITY = 30.0
"""scikit-learn's default; a third of the examples where there are fewer than 91."""


class Embedding(Diagnostic):
    """``trainer.measure=[embedding]``: `embedding` of the network that evaluations see, at the run's end."""

    at_end = True
    run: Evaluated

    @classmethod
    def check(cls, rule: Rule) -> None:
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
        return embedding(self.run.rule.plan, self.run.evaluated(), self.run.data, self.run.cfg.data.eval_batch_size)


def embedding(plan: Plan, model: nn.Module, data: Data, batch_size: int = 1000) -> dict[str, Any]:
    """Return the examples of `shown` as points of a plane, such that those with like representations are near each other.

    Args:
        plan: of the network, or of one like it with other weights.
        model: the network; it is left as it is, in train mode.
        data: its data set, on its device.
        batch_size: examples at a time.

    Returns:
        ``x``, ``y``: of each point; all 0 where the network makes the same of every example. ``label``: its class; ``classes``:
        their names. ``examples``: how many; ``kl``: what t-SNE could not show, a Kullback-Leibler divergence. ``neighbours``: the
        share of examples whose nearest other one, by the representation itself, is of the same class.
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
    """Return the examples that are shown, as they are held, and their labels."""
    part = data.test if len(data.test) else data.val
    count = min(count, len(part))
    at = torch.arange(count, device=part.y.device) * len(part) // max(count, 1)
    return part.take(at), part.y.index_select(0, at)


def last_layer(plan: Plan, model: nn.Module) -> str:
    """Return the name of the last linear or convolution layer of a network's forward pass.

    Raises:
        UserError: there is none.
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
    """Return the input (B, ...), as rows, that a layer has for inputs x (B, ...); the network is left in evaluation mode."""
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
    """Return t-SNE's points (N, 2) of centred rows (N, D), and its divergence."""
    size = rows.square().mean().sqrt()
    if not size > 0:
        return torch.zeros(len(rows), 2), 0.0
    from sklearn.manifold import TSNE  # takes a second

    left, values, _ = torch.linalg.svd(rows / size, full_matrices=False)
    kept = (left * values)[:, :COMPONENTS]
    if kept.shape[1] == 1:  # t-SNE starts from two
        kept = torch.cat([kept, torch.zeros_like(kept)], dim=1)
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    method = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=0)
    return torch.from_numpy(method.fit_transform(kept.numpy())), float(method.kl_divergence_)


def _neighbours(rows: Tensor, y: Tensor) -> float:
    """Return the share of rows whose nearest other row has the same label."""
    far = torch.cdist(rows, rows).fill_diagonal_(float("inf"))
    return (y[far.argmin(1)] == y).double().mean().item()
