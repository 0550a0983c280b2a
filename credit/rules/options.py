"""Options that every rule takes. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from credit.core.options import opt


@dataclass(frozen=True)
class RuleOptions:
    """Base of the options of every kind of rule: limits on updates, and local autograd."""

    clip: float | None = opt(
        None, "limit on each update's Frobenius norm, as a share of its parameter's norm; null: off", gt=0,
        source="LISP, section 2", symbol="eps",
    )  # fmt: skip
    clip_output: bool = opt(
        True, "clip the output layer's updates too", when="clip", source="LISP, Theorem 4 (A1) leaves them out"
    )
    reproject: float | None = opt(
        None,
        "radius of the Frobenius ball that each update is projected into; null: off",
        gt=0,
        source="rec-LRA, 'Gaussian ball'",
    )
    clip_unit: float | Literal["auto"] | None = opt(
        None, "limit on the updates of each unit (a weight's row, its bias), each by itself, as a share of the pooled norm of the "
        "unit's parameters; null: off; auto: what the rule finds right for the network", gt=0, source="Brock et al. 2021; LFP",
    )  # fmt: skip
    clip_norm: float | None = opt(
        None, "limit on the Euclidean norm of all updates together, after the other three, as torch's clip_grad_norm_; null: off",
        gt=0,
    )  # fmt: skip
    local_autograd: bool = opt(False, "let autograd differentiate ops without a row (nn.LSTM), one op at a time")
