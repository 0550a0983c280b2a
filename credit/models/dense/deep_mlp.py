"""Deep perceptrons of equal layers: what depth alone does to a rule."""

from typing import Literal

import torch
from torch import nn

from credit.core.errors import UserError
from credit.models import checks
from credit.models.dense.mlp import mlp
from credit.models.initialization import begin, check_std


def deep_mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    width: int = 64,
    depth: int = 3,
    activation: str = "relu",
    init: Literal["torch", "he", "gaussian"] = "torch",
    init_std: float | None = None,
) -> nn.Module:
    """Build `credit.models.dense.mlp.mlp` with ``depth`` hidden layers of ``width`` units each.

    Parameters: 3 980 602 with 100 layers of 200 on one input and 2 classes.

    Args:
        shape: any; one example is flattened.
        classes: number of logits.
        width: units of a hidden layer.
        depth: number of hidden layers; 0 is a linear classifier.
        activation: a name of :mod:`credit.models.activations`.
        init: ``torch``: torch's default, with which a ReLU layer passes on a sixth of its input's mean square, so that a deep
            network forgets its input; ``he``: weights normal with variance 2 / inputs, which keeps it (He et al. 2015), biases as
            torch draws them; ``gaussian``: normal with standard deviation ``init_std``, biases 0.
        init_std: standard deviation of ``gaussian``'s weights.

    Raises:
        UserError: a size out of range, an unknown activation, a standard deviation that is not above 0 or that ``init`` does
            not read.
    """
    checks.positive("deep_mlp", width=width)
    if depth < 0:
        raise UserError(f"arch.depth={depth}: arch deep_mlp cannot have fewer than no hidden layers; write 0 or more")
    check_std("deep_mlp", init, init_std)
    model = mlp(shape, classes, widths=(width,) * depth, activation=activation)
    if init == "gaussian":
        begin(model, init, init_std)
    elif init == "he":
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Linear):
                    nn.init.kaiming_normal_(module.weight)
    return model
