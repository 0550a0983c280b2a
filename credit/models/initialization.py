"""First weights by name, for networks whose papers say which."""

from typing import Literal

from torch import nn

Start = Literal["lecun", "glorot", "he", "gaussian"]


def begin(model: nn.Module, init: Start, std: float | None = None) -> None:
    """Draw the weights of every linear and convolution layer anew, in place, and set their biases to 0.

    Args:
        model: any network.
        init: ``lecun``: normal with variance 1 / inputs; ``glorot``: uniform with variance 2 / (inputs + outputs) (Glorot and
            Bengio 2010, Eq. 16); ``he``: normal with variance 2 / inputs (He et al. 2015, Eq. 10). The inputs of a convolution are
            those of one output: channels times kernel. ``gaussian``: normal with standard deviation ``std`` in every layer,
            whatever its size (as rec-LRA's networks begin, section 4 of its paper).
        std: of ``gaussian`` alone.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if std is not None:
                nn.init.normal_(module.weight, std=std)
            elif init == "glorot":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if init == "he" else "linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
