"""Random ops: dropout in its element, channel and path forms. Masks come from the step's draws, never the global RNG."""

from typing import Any, ClassVar

from torch import Tensor

from credit.engine.ops.base import Carried, Op, Rows, Run, Signals, leads


class Dropout(Op):
    """Inverted dropout; ``args``: ``p``, ``scale`` (divide by the kept share), ``per``: what is kept or dropped as a
    whole, ``element``, ``channel``, ``sample`` or ``batch``."""

    kind: ClassVar[str] = "dropout"
    fresh: ClassVar[bool] = False
    aliases: ClassVar[bool] = True
    remembers: ClassVar[bool] = True

    def forward(self, run: Run, x: Tensor) -> Tensor:
        p = self.args["p"]
        if not run.train or run.draws is None or p == 0.0:
            return x
        shape = tuple(x.shape)
        if self.args["per"] != "element":
            kept = ("batch", "sample", "channel").index(self.args["per"])
            shape = shape[:kept] + (1,) * (x.dim() - kept)
        rows = self.args["per"] != "batch"
        mask = run.draws.get(f"dropout.{self.name}", "uniform", shape, x.dtype, rows).ge(p).to(x.dtype)
        if self.args["scale"] and p < 1.0:
            mask = mask.mul_(1.0 / (1.0 - p))
        self.save(run, mask)
        return x * mask

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        mask = self.load(run)
        return (signal if mask is None else signal * mask,)

    def follow(self, run: Run, value: Tensor) -> Tensor:
        """Take another tensor, shaped like the input, through the same mask."""
        mask = self.load(run)
        return value if mask is None else value * mask

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return self.args["per"] != "batch" and leads(out, inputs[0])

    def pick(self, saved: Tensor, carried: Carried, rows: Rows) -> Tensor:
        return rows.take(saved)
