"""Single unit classifier: one weighted sum, one activation, one probability."""

import math
from collections import OrderedDict

from torch import nn

from credit.core.errors import UserError
from credit.models.activations import activation as make_activation
from credit.models.options import SucOptions


class SingleUnit(nn.Sequential):
    """One unit; returns the probability of class 1, (B, 1)."""

    output_kind = "probability"


def suc(shape: tuple[int, ...], classes: int, options: SucOptions) -> nn.Module:
    """Build flatten - linear to one unit - activation, torch's default init (untied activation gradients, Figure 3).

    The activation belongs to the network, so that a rule's gate acts on the output unit too. Parameters: one a feature and
    a bias; 11 on ten features.

    Args:
        shape: any; one example is flattened.
        classes: must be 2.
        options: see `credit.models.options.SucOptions`.

    Raises:
        UserError: a set of another number of classes.
    """
    if classes != 2:
        raise UserError(
            f"arch=suc has one output, the probability of class 1 of two, but the data has {classes} classes; use data=ones "
            "or another set of two classes, or arch=mlp arch.widths=[], which is one layer with a logit for each class"
        )
    return SingleUnit(
        OrderedDict(flatten=nn.Flatten(), unit=nn.Linear(math.prod(shape), 1), act=make_activation(options.activation))
    )
