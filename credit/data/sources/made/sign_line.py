"""Points on a line, classified by their sign. Made, not read (paper 2, A.1 and A.4).

Inputs are -4, -4 + step, ..., 4, both ends included. The class is 1 ("positive") where x > 0 and 0 ("negative") elsewhere: the
input that is exactly 0, which has no sign, is among the negatives. `held_out` inputs, drawn without regard to their class by
the split seed, are the test part.
"""

import torch
from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.data.sources.files import Arrays, Whole
from credit.data.storage import Rows

END = 4
"""The inputs lie between -END and END."""
_LARGEST = 2**24  # inputs


def look(cfg: DataConfig) -> Whole:
    """Return the shape, number of classes and sizes of the set.

    Raises:
        UserError: a step that does not lead from one end to the other, too many inputs, or none left to train on.
    """
    count = _steps(cfg.step) + 1
    if not 1 <= cfg.held_out <= count - 2:
        raise UserError(
            f"data.held_out={cfg.held_out} of the {count} inputs that data.step={cfg.step:g} makes: must leave at least 2 to "
            f"train on; write data.held_out={max(1, min(100, count // 10))}"
        )
    return Whole((1,), 2, count - cfg.held_out, cfg.held_out, Rows())


def read(cfg: DataConfig) -> Arrays:
    """Make the inputs and hold some out; the test part is in the line's order, as the training part.

    Raises:
        UserError: as `look`.
    """
    look(cfg)
    assert cfg.split_seed is not None
    x, y = line(cfg.step)
    order = torch.randperm(len(x), generator=generator(cfg.split_seed, "sign_line"))
    test, train = order[: cfg.held_out].sort().values, order[cfg.held_out :].sort().values
    return Arrays(x[train], y[train], x[test], y[test], ["negative", "positive"], Rows())


def line(step: float) -> tuple[Tensor, Tensor]:
    """Return all inputs (N, 1), float32, ascending, and their classes (N,), int64.

    Args:
        step: between neighbours.

    Raises:
        UserError: it does not lead from -`END` to `END` in whole steps.
    """
    count = _steps(step)
    # From the middle outwards, so that the input at 0 is 0 and both sides are the same numbers.
    x = (torch.arange(count + 1, dtype=torch.float64) - count / 2) * (2 * END / count)
    return x.float()[:, None], (x > 0).long()


def _steps(step: float) -> int:
    if not 0 < step <= END:
        raise UserError(
            f"data.step={step:g}: is the distance of neighbours between {-END} and {END}; write data.step=0.02"
        )
    count = round(2 * END / step)
    if count >= _LARGEST:
        raise UserError(f"data.step={step:g} makes {count + 1} inputs; write data.step={2 * END / 2**23:.2g} or more")
    if abs(count * step - 2 * END) > 1e-6 * END:
        raise UserError(
            f"data.step={step:g} does not lead from {-END} to {END} in whole steps; write data.step={2 * END / count:.10g}"
        )
    return count
