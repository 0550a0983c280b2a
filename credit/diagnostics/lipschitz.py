"""Estimate a network's Lipschitz constant (paper 3, section 6.1 and Table 1).

For a multi-layer perceptron with 1-Lipschitz activations the estimate is the paper's: the spectral norm of the accumulated matrix
W_L ... W_1. (That is no bound: with some units inactive the norm can be larger.) For any other network it is the largest spectral
norm of the Jacobian over a sample of examples, found by power iteration, which is a lower bound.
Both are in units of logits over units of the network's normalized input.
"""

from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.data import Data
from credit.diagnostics.base import NUMERIC_INPUTS, Diagnostic, Evaluated
from credit.diagnostics.networks import float_dtype
from credit.engine.ops.activations import Activate
from credit.engine.ops.chance import Dropout
from credit.engine.ops.shapes import Shape, View
from credit.engine.ops.weighted import Linear
from credit.engine.plan import Plan
from credit.rules.base import Rule, Step
from credit.rules.state import copies

SLOPES = ("relu", "relu6", "tanh", "sigmoid", "hardtanh", "hardsigmoid", "softplus", "identity")
"""Activations with slopes of at most 1 everywhere; leaky ReLU and ELU depend on their constants."""
JUMPS = ("step", "sign")
"""Discontinuous activations, which have no Lipschitz constant."""
EXAMPLES, ITERATIONS, TOLERANCE = 64, 100, 1e-4
"""Power iteration: number of examples, largest number of iterations, and the relative change at which it stops."""


class Lipschitz(Diagnostic):
    """The diagnostic ``lipschitz``: `lipschitz` of the network that evaluations use, after the step."""

    tasks = NUMERIC_INPUTS
    run: Evaluated

    @classmethod
    def check(cls, rule: Rule) -> None:
        """Refuse networks with discontinuous activations."""
        _refuse_jumps(rule.plan)

    def after(self, x: Tensor, y: Tensor, outcome: Step) -> dict[str, Any]:
        """Return `lipschitz` of the network after the step."""
        return lipschitz(self.run.rule.plan, self.run.evaluated(), self.run.data)


def lipschitz(plan: Plan, model: nn.Module, data: Data, examples: int = EXAMPLES) -> dict[str, Any]:
    """Return the Lipschitz estimate of a network, which is left unchanged.

    Args:
        plan: the plan of the network, or of one that differs only in its weights.
        model: the network.
        data: the data set, on the network's device; its examples are used unless the network is a multi-layer perceptron.
        examples: number of examples, spread evenly over the test part (the validation part if there is no test part).

    Returns:
        ``estimate``; ``accumulated``: True for the norm of W_L ... W_1, False for that of Jacobians; ``examples``: number of
        Jacobians, 0 for the accumulated matrix.

    Raises:
        UserError: the network has a discontinuous activation (step, sign), or the data set has no test or validation part.
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
    """Return the product W_L ... W_1 (classes, features) of a multi-layer perceptron in float64; None for any other network.

    A multi-layer perceptron is a sequence of a reshaped input, linear layers and activations with slopes of at most 1; dropout is
    the identity in evaluation mode.
    """
    product: Tensor | None = None
    weights, _ = plan.weights.opened(dict(model.named_parameters()), copies(dict(model.named_buffers())))
    slot = plan.entry
    for op in plan.ops:
        if isinstance(op, Shape):
            continue  # reads the sizes of a view
        if op.inputs != (slot,) or not (
            isinstance(op, Linear | Dropout)
            or (isinstance(op, View) and product is None)
            or (isinstance(op, Activate) and _gentle(op))
        ):
            return None
        slot = op.out
        if isinstance(op, Linear):
            weight = weights[op.params["weight"]].detach().double()
            product = weight if product is None else weight @ product
    return product


def jacobian_norms(model: nn.Module, x: Tensor) -> Tensor:
    """Return the spectral norms (B,) of the network's Jacobians at inputs x (B, ...), by power iteration.

    The Jacobians are taken in evaluation mode, in which samples are independent; the network is left in train mode. Every norm is a
    lower bound, which grows with the iterations.
    """
    model.eval()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out = model(x)
        # J^T u is linear in u, so that its vector-Jacobian product with v is J v (torch's forward mode would warn).
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
