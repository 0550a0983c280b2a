"""A plan's outputs compared with its module's own on one batch, before the first step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from credit.core.errors import UserError
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Across
from credit.engine.ops.chance import Dropout
from credit.engine.ops.norms import BatchNorm
from credit.engine.ops.spiking import Lif
from credit.engine.plan import Plan

SAMPLES = 8
"""Samples of the batch that are compared."""
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference, as a share of the largest output, that is rounding; 5e-2 in other types."""
_DROPOUT = {
    getattr(nn.functional, name)
    for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
} | {torch.dropout}


class _NoDropout(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            args, kwargs = (
                (*args[:4], *(0.0, *args[5:])[: len(args[4:])]),
                kwargs | ({} if args[4:] else {"dropout_p": 0.0}),
            )
        return args[0] if func in _DROPOUT else func(*args, **kwargs)


def check(plan: Plan, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor) -> None:
    """Refuse a plan whose outputs are not its module's, dropout off on both sides; the module is left as it is.

    A second comparison in float64 separates rounding from a fault. Where the network has steps (``sign``, spikes), rounding
    may move single samples across one, so that only a difference in most samples is refused.

    Args:
        plan: the plan; its ops may be rearranged, but not cut.
        params, buffers: the module's, by name.
        x: a batch (B, ...), which takes the parameters' type, or integer tokens.

    Raises:
        UserError: the outputs differ, or the module changes a buffer that the plan leaves as it is.
    """
    if isinstance(x, FakeTensor) or x.is_meta:
        return
    x = x[:SAMPLES].to(next(iter(params.values())).dtype) if x.is_floating_point() else x[:SAMPLES]
    ours, theirs = ({name: value.clone() for name, value in buffers.items()} for _ in range(2))
    off = _differing(plan, params, ours, theirs, x)
    _refuse_unmoved(plan, buffers, ours, theirs)
    if off is None:
        return
    try:
        weights, ours, theirs = (
            {name: value.double() if value.is_floating_point() else value.clone() for name, value in part.items()}
            for part in (params, buffers, buffers)
        )
        off = _differing(plan, weights, ours, theirs, x.double() if x.is_floating_point() else x)
    except RuntimeError:  # the module's own code fixes a type
        pass
    if off is None:
        return
    share, difference, size = off
    if _has_steps(plan) and share <= 0.5:
        return
    raise UserError(
        f"the plan traced from {type(plan.model).__name__} does not compute what the module does: on this batch their outputs, of "
        f"size {size:.3g}, differ by {difference:.3g} in {share:.0%} of the samples. forward() does something that tracing cannot "
        "repeat: it draws random numbers, depends on what earlier calls left behind, or has an op whose row in "
        "credit/engine/rows/table.py differs from torch's. Move that part out of forward()"
    )


def check_share(
    plan: Plan,
    params: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    x: Tensor,
    share: slice,
    across: Across | None,
) -> None:
    """Refuse a network whose outputs for some samples of a batch depend on the other samples, but for BatchNorm's ``across``.

    Args:
        plan, params, buffers: as for `check`.
        x: a batch (B, ...).
        share: the samples of it that this process has, two or more.
        across: the shares of all processes, over which BatchNorm takes its statistics; None: there is no such BatchNorm.

    Raises:
        UserError: the outputs of the share are not those of the whole batch.
    """
    alone, shared = (
        plan.run(*_opened(plan, params, {name: value.clone() for name, value in buffers.items()}), None)
        for _ in range(2)
    )
    shared.across = across
    with torch.no_grad():
        off = _compared(plan.forward(shared, x[share]), plan.forward(alone, x)[share])
    if off is None or _has_steps(plan) and off[0] <= 0.5:
        return
    local = f" ({', '.join(plan.localised)}, by local autograd)" if plan.localised else ""
    raise UserError(
        f"torchrun gives each process a share of every batch, but the outputs of {type(plan.model).__name__} for a sample depend "
        f"on the other samples of the batch: an op of its forward() mixes them{local}, such as a mean over dim 0 or F.batch_norm "
        f"on tensors that are no buffers. Outputs of size {off[2]:.3g} differ by {off[1]:.3g}. Use nn.BatchNorm1d, 2d or 3d, whose "
        "statistics are the whole batch's, or train in one process"
    )


def _opened(plan: Plan, params: Mapping[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    return plan.weights.opened(params, buffers)[0], buffers


def _has_steps(plan: Plan) -> bool:
    return any(isinstance(op, Lif) or isinstance(op, Activate) and op.function.vjp is None for op in plan.ops)


def _refuse_unmoved(
    plan: Plan, before: Mapping[str, Tensor], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> None:
    """Refuse a plan that leaves a buffer as it was where the module changed it: by a call whose result nothing uses."""
    left = [
        name
        for name, value in before.items()
        if torch.equal(ours[name], value) and not torch.equal(theirs[name], value)
    ]
    if left:
        raise UserError(
            f"{type(plan.model).__name__}.forward changes the buffer '{left[0]}', but the output does not depend on the call that "
            "changes it, so that a step would leave it as it is. Use the call's result, or change the buffer outside forward()"
        )


def _differing(
    plan: Plan,
    params: Mapping[str, Tensor],
    our_buffers: dict[str, Tensor],
    their_buffers: dict[str, Tensor],
    x: Tensor,
) -> tuple[float, float, float] | None:
    """Return the share of samples that differ, the largest difference and the outputs' size; None where none differs.

    The plan changes its copies of the buffers, the module the other ones.
    """
    with torch.no_grad():
        run = plan.run(*_opened(plan, params, our_buffers), None)
        ours = plan.forward(run, x)
        theirs = _own_output(plan, params, their_buffers, x)
        if not isinstance(theirs, Tensor) or theirs.shape != ours.shape:
            return 1.0, float("inf"), float("inf")
        return _compared(ours, theirs.detach())  # forward() may have switched gradients on


def _compared(ours: Tensor, theirs: Tensor) -> tuple[float, float, float] | None:
    """As `_differing`, of outputs of one shape."""
    size = float(theirs.abs().nan_to_num(0, 0, 0).max())
    equal = torch.isclose(ours, theirs, rtol=0, atol=TOLERANCE.get(theirs.dtype, 5e-2) * size, equal_nan=True)
    if bool(equal.all()):
        return None
    wrong = ~equal.flatten(1).all(1) if equal.dim() > 1 else ~equal
    difference = (ours - theirs).abs()[~equal].nan_to_num(float("inf")).max()
    return float(wrong.double().mean()), float(difference), size


def _own_output(plan: Plan, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor) -> Any:
    """Call the module itself, with these buffers, with dropout off and the plan's frozen norms in eval mode."""
    still = {
        op.name.partition("#")[0]
        for op in plan.ops
        if isinstance(op, Dropout) or isinstance(op, BatchNorm) and op.args["frozen"]
    }
    quiet = [module for name, module in plan.model.named_modules() if name in still]
    modes = [module.training for module in quiet]
    state = dict(params) | dict(buffers)
    try:
        for module in quiet:
            module.training = False
        with _NoDropout():
            return torch.func.functional_call(plan.model, state, (x.clone(),))
    finally:
        for module, mode in zip(quiet, modes, strict=True):
            module.training = mode
