"""How far the network's output can move where its input does: a Lipschitz estimate (paper 3, section 6.1 and Table 1).

Of a multi-layer perceptron it is the paper's: the spectral norm of the accumulated matrix W_L ... W_1, activations being
1-Lipschitz. (That is no bound: units that are off can let more pass than all together.) Of any other network it is the largest
spectral norm of the Jacobian that power iteration finds at a sample of examples, a lower bound.
Both are in units of logits over units of the network's input, which is normalised.
"""

from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.data import Data
from credit.diagnostics.base import Diagnostic, Evaluated
from credit.diagnostics.networks import float_dtype
from credit.engine.ops.activations import Activate
from credit.engine.ops.chance import Dropout
from credit.engine.ops.shapes import Shape, View
from credit.engine.ops.weighted import Linear
from credit.engine.plan import Plan
from credit.rules.base import Rule, Step

SLOPES = ("relu", "relu6", "tanh", "sigmoid", "hardtanh", "hardsigmoid", "softplus", "identity")
"""Activations whose slope is nowhere above 1; leaky ReLU and ELU by their constants."""
JUMPS = ("step", "sign")
EXAMPLES, ITERATIONS, TOLERANCE = 64, 100, 1e-4
"""Power iteration: at how many examples, for how many rounds at most, and the relative change at which it ends."""


class Lipschitz(Diagnostic):
    """``trainer.measure=[lipschitz]``: `lipschitz` of the network that evaluations see, after the step."""

    run: Evaluated

    @classmethod
    def check(cls, rule: Rule) -> None:
        _refuse_jumps(rule.plan)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        return lipschitz(self.run.rule.plan, self.run.evaluated(), self.run.data)


def lipschitz(plan: Plan, model: nn.Module, data: Data, examples: int = EXAMPLES) -> dict[str, Any]:
    """Return the Lipschitz estimate of a network; it is left as it is.

    Args:
        plan: of the network, or of one like it with other weights.
        model: the network.
        data: its data set, on its device; asked for examples where the network is no multi-layer perceptron.
        examples: at how many, spread evenly over the test part (the validation part where there is no test).

    Returns:
        ``estimate``; ``accumulated``: whether it is the norm of W_L ... W_1 and not one of Jacobians; ``examples``: how many
        Jacobians; 0 where it is of the accumulated matrix.

    Raises:
        UserError: a network that jumps (step, sign).
    """
    _refuse_jumps(plan)
    matrix = accumulated(plan, model)
    if matrix is not None:
        norm = torch.linalg.matrix_norm(matrix, 2)
        return {"estimate": float(norm), "accumulated": True, "examples": 0}
    part = data.test if len(data.test) else data.val
    if not len(part):
        raise UserError(
            "trainer.measure=[lipschitz] needs examples, and this data set has no test or validation part; give it one, for "
            "example data.val_fraction=0.1"
        )
    count = min(examples, len(part))
    at = torch.arange(count, device=part.y.device) * len(part) // count
    norms = jacobian_norms(model, data.prepare(part.take(at)).to(float_dtype(model)))
    return {"estimate": float(norms.max()), "accumulated": False, "examples": count}


def accumulated(plan: Plan, model: nn.Module) -> Tensor | None:
    """Return W_L ... W_1 (classes, features) in float64 of a multi-layer perceptron; None where the network is none.

    One is made of reshaping the input, linear layers and activations of slope 1 at most, in a row; dropout is nothing in
    evaluation.
    """
    product: Tensor | None = None
    slot = plan.entry
    for op in plan.ops:
        if isinstance(op, Shape):
            continue  # of a view's sizes
        if op.inputs != (slot,) or not (
            isinstance(op, Linear | Dropout)
            or (isinstance(op, View) and product is None)
            or (isinstance(op, Activate) and _gentle(op))
        ):
            return None
        slot = op.out
        if isinstance(op, Linear):
            weight = model.get_parameter(op.params["weight"]).detach().double()
            product = weight if product is None else weight @ product
    return product


def jacobian_norms(model: nn.Module, x: Tensor) -> Tensor:
    """Return the spectral norm (B,) of the network's Jacobian at each of the inputs x (B, ...), by power iteration.

    In evaluation mode, in which samples do not act on each other; the network is left in train mode. Every norm is a lower
    bound, which the iteration raises.
    """
    model.eval()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out = model(x)
        # J^T u, itself differentiable in u: its derivative sends v the other way, J v (torch's own forward mode warns).
        u = torch.zeros_like(out, requires_grad=True)
        (back,) = torch.autograd.grad(out, x, u, create_graph=True)
    model.train()
    v = torch.randn(x.shape, generator=generator(0, "lipschitz"), dtype=torch.float64).to(x)
    last = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        v = v / _lengths(v).clamp(min=torch.finfo(x.dtype).tiny).view(-1, *[1] * (x.dim() - 1))
        (moved,) = torch.autograd.grad(back, u, v, retain_graph=True)
        norms = _lengths(moved)
        if bool(((norms - last).abs() <= TOLERANCE * norms).all()):
            break
        last = norms
        (v,) = torch.autograd.grad(out, x, moved, retain_graph=True)
    return norms


def _lengths(value: Tensor) -> Tensor:
    return torch.linalg.vector_norm(value.flatten(1), dim=1)


def _gentle(op: Activate) -> bool:
    name, options = op.args["name"], op.options
    return name in SLOPES or (name in ("leaky_relu", "elu") and abs(options[0]) <= 1)


def _refuse_jumps(plan: Plan) -> None:
    for op in plan.ops:
        if isinstance(op, Activate) and op.args["name"] in JUMPS:
            raise UserError(
                f"trainer.measure=[lipschitz]: {op.describe()} is a {op.args['name']}, which jumps: no Lipschitz constant holds "
                "for it. Leave the diagnostic out, or give arch.activation=relu"
            )
