"""First weights by name, for networks whose papers say which."""

from typing import Literal

from torch import nn

from credit.core.errors import UserError

Start = Literal["lecun", "glorot", "he", "gaussian"]


def check_std(kind: str, init: str, std: float | None) -> None:
    """Refuse a standard deviation without ``gaussian``, ``gaussian`` without one, and one that is not above 0.

    Args:
        kind: the architecture.
        init: the chosen ``arch.init``.
        std: the chosen ``arch.init_std``.

    Raises:
        UserError: naming both options.
    """
    if init == "gaussian" and std is None:
        raise UserError(
            f"arch.init=gaussian: arch {kind} draws its weights with the standard deviation arch.init_std, which is null; "
            "say how large, for example arch.init_std=0.05"
        )
    if init != "gaussian" and std is not None:
        raise UserError(
            f"arch.init_std={std}: only arch.init=gaussian reads it, and arch {kind} was given arch.init={init}, which "
            "settles the weights' spread by itself; add arch.init=gaussian or leave arch.init_std out"
        )
    if std is not None and std <= 0:
        raise UserError(
            f"arch.init_std={std}: the standard deviation of arch {kind}'s first weights must be above 0, for without it all "
            "units of a layer stay alike; for example arch.init_std=0.05"
        )


def begin(model: nn.Module, init: Start, std: float | None = None) -> None:
    """Draw the weights of every linear and convolution layer anew, in place, and set their biases to 0.

    Args:
        model: any network.
        init: ``lecun``: normal with variance 1 / inputs; ``glorot``: uniform with variance 2 / (inputs + outputs) (Glorot and
            Bengio 2010, Eq. 16); ``he``: normal with variance 2 / inputs (He et al. 2015, Eq. 10). The inputs of a convolution are
            those of one output: channels times kernel. ``gaussian``: normal with standard deviation ``std`` in every layer,
            whatever its size (as rec-LRA's networks begin, section 4 of its paper).
        std: of ``gaussian`` alone, see `check_std`.
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
