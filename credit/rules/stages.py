"""The stages of a step after its updates are computed: transform, on what the optimizer will get, and write.

    compute (pure: parameters, buffers, batch, draws -> updates) -> transform (limits, re-projection, ...) -> write (``.grad``)

One rule's step and a step of several replicas (`credit.rules.replicas.Mapped`) share them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from credit.rules.transforms import Transform


def transformed(transforms: Sequence[Transform], parameters: Mapping[str, Tensor], updates: Mapping[str, Tensor], *,
                fresh: bool) -> dict[str, Tensor]:  # fmt: skip
    """Return updates, by name, in their parameters' type and after all transforms.

    Args:
        transforms: in order.
        parameters: by name.
        updates: by name; computed in bfloat16 under ``precision="bf16"``.
        fresh: every update is a tensor of its own, which transforms may change; else they get copies.
    """
    done = {name: update.to(parameters[name].dtype) for name, update in updates.items()}
    if transforms and not fresh:
        done = {name: update.clone() for name, update in done.items()}
    for transform in transforms:
        done = transform(parameters, done)
    return done


def write(parameters: Mapping[str, Any], updates: Mapping[str, Tensor], *, accumulate: bool = False) -> None:
    """Set ``.grad`` of parameters, by name, to their updates, or add the updates to it.

    Of a parameter without an update the last one is dropped, which an optimizer would apply again; when accumulating, only of one
    that was frozen since.
    """
    for name, update in updates.items():
        before = parameters[name].grad
        parameters[name].grad = before + update if accumulate and before is not None else update
    for name in parameters.keys() - updates.keys():
        if not accumulate or not parameters[name].requires_grad:
            parameters[name].grad = None
