"""Options that every rule takes."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SharedOptions:
    """Options every rule takes.

    Attributes:
        clip: limit each update to this share of its parameter's Frobenius norm; None: off.
        clip_output: clip the output layer's updates too; without it as in LISP's Theorem 4 (A1).
        reproject: radius of the Frobenius ball updates are projected into; None: off.
        clip_unit: limit the updates of each unit (a weight's row, its bias), each by itself, to this share of the pooled norm
            of the unit's parameters; None: off; ``auto``: what the rule finds right for the model (``usual_clip_unit``).
        clip_norm: limit the Euclidean norm of all updates together, after the other three; None: off.
        local_autograd: let ops without a row (attention) be differentiated by autograd, one op at a time.
    """

    clip: float | None = None
    clip_output: bool = True
    reproject: float | None = None
    clip_unit: float | Literal["auto"] | None = None
    clip_norm: float | None = None
    local_autograd: bool = False
