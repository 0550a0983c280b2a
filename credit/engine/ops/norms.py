"""Normalisation layers: BatchNorm with its full batch Jacobian, LayerNorm, GroupNorm (and InstanceNorm), RMSNorm.

BatchNorm's adjoint is LISP's (D2), identical to backprop's; scale and shift get what backprop gives them.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.base import Across, Carried, Op, Rows, Run, Signals, leads

aten = torch.ops.aten


class Norm(Op):
    """Base class of the norms: one fused adjoint returns the error signal and both parameters' updates."""

    kind: ClassVar[str] = "norm"

    def weight(self, run: Run) -> Tensor | None:
        return run.params[self.params["weight"]] if "weight" in self.params else None

    def bias(self, run: Run) -> Tensor | None:
        return run.params[self.params["bias"]] if "bias" in self.params else None

    def full(self, run: Run, signal: Tensor, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        """Return (input's error signal, scale update, shift update), those that ``mask`` selects."""
        raise AssertionError

    def both(self, run: Run, signal: Tensor) -> tuple[Tensor | None, list[tuple[str, Tensor]]]:
        """Return the input's error signal and the updates of one fused call."""
        roles = {role: name for role, name in self.params.items() if name in self.trains}
        outs = self.full(run, signal, [self.wants[0], "weight" in roles, "bias" in roles])
        updates = [(roles[role], outs[at]) for role, at in (("weight", 1), ("bias", 2)) if role in roles]
        return (outs[0] if self.wants[0] else None), updates

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        return (self.full(run, signal, [True, False, False])[0],)

    def updates(self, run: Run, signal: Tensor) -> Iterator[tuple[str, Tensor]]:
        roles = {role: name for role, name in self.params.items() if name in self.trains}
        outs = self.full(run, signal, [False, "weight" in roles, "bias" in roles])
        for role, at in (("weight", 1), ("bias", 2)):
            if role in roles:
                yield roles[role], outs[at]


class BatchNorm(Norm):
    """Batch normalisation; ``args``: ``eps``, ``momentum`` (None: cumulative average), ``buffers`` by role, ``frozen``.

    In training it uses the batch's statistics and moves the running ones; frozen, it is an affine map. Where the batch is shared by
    several processes (``run.across``), its statistics are those of the whole batch. An adjoint then takes its two means over the
    whole batch too. Error signals carry 1 / ``run.batch``, the size of the own share.
    """

    kind: ClassVar[str] = "batch_norm"
    remembers: ClassVar[bool] = True

    def forward(self, run: Run, x: Tensor) -> Tensor:
        names = self.args["buffers"]
        batch_stats = run.train and not self.args["frozen"] or not names
        momentum: float | Tensor = self.args["momentum"] or 0.0
        if batch_stats and names and run.train and "num_batches_tracked" in names:
            count = run.buffers[names["num_batches_tracked"]].add_(1)
            if self.args["momentum"] is None:
                momentum = 1.0 / count.double()
        if batch_stats and run.across is not None:
            all_mean, all_var = self._of_all(run, x, run.across, momentum)
            self.save(run, (x, all_mean, (all_var + self.args["eps"]).rsqrt(), batch_stats))
            return self._normalised(run, x, all_mean, all_var)
        if batch_stats and x.numel() == x.shape[1]:
            raise UserError(
                f"{self.describe()} has one value a channel in a batch of shape {tuple(x.shape)}, whose normalized value is 0 "
                "whatever the input; give two samples or more, or put the module in eval mode"
            )
        mean, var = self._running(run)
        out, save_mean, save_std = torch.native_batch_norm(
            x, self.weight(run), self.bias(run), mean, var, batch_stats, float(momentum), self.args["eps"]
        )
        self.save(run, (x, save_mean, save_std, batch_stats))
        return out

    def _running(self, run: Run) -> tuple[Tensor | None, Tensor | None]:
        """Return the running mean and variance (channels,); None where it keeps none."""
        names = self.args["buffers"]
        return (run.buffers[names["running_mean"]], run.buffers[names["running_var"]]) if names else (None, None)

    def _of_all(self, run: Run, x: Tensor, across: Across, momentum: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the biased variance (channels,) of the whole batch, and move the running ones by them.

        Two exchanges, as a sum of squares from which the square of the mean is taken would lose digits.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        own_var, own_mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
        count = own_mean.new_full((1,), x.numel() // x.shape[1])
        summed, total = across.sum(torch.cat([own_mean * count, count])).split([len(own_mean), 1])
        mean = summed / total
        var = across.sum((own_var + (own_mean - mean).square()) * count) / total
        for running, value in zip(self._running(run), (mean, var * (total / (total - 1))), strict=True):
            if running is not None and run.train:
                running.add_((value - running) * momentum)
        return mean, var

    def _normalised(self, run: Run, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        eps = self.args["eps"]
        out: Tensor = torch.native_batch_norm(x, self.weight(run), self.bias(run), mean, var, False, 0.0, eps)[0]
        return out

    def full(self, run: Run, signal: Tensor, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        x, save_mean, save_std, batch_stats = self.load(run)
        if batch_stats and run.across is not None:
            return self._full_of_all(run, signal, mask, run.across)
        mean, var = self._running(run)
        outs: tuple[Tensor, Tensor, Tensor] = aten.native_batch_norm_backward(
            signal, x, self.weight(run), mean, var, save_mean, save_std, batch_stats, self.args["eps"], mask
        )
        return outs

    def _full_of_all(self, run: Run, signal: Tensor, mask: list[bool], across: Across) -> tuple[Tensor, Tensor, Tensor]:
        """As ``full``: ``g (s - mean(s) - x^ mean(s x^))``, the means over the whole batch, g = scale / std.

        The first term and both sums are the adjoint of an affine map, the sums being the updates of shift and scale.
        """
        x, mean, inverse, _ = self.load(run)
        weight, eps = self.weight(run), self.args["eps"]
        sent, gain, shift = aten.native_batch_norm_backward(
            signal, x, weight, mean, inverse.pow(-2) - eps, None, None, False, eps, [mask[0], True, True]
        )
        if mask[0]:
            count = gain.new_full((1,), x.numel() // x.shape[1])
            summed = across.sum(torch.cat([gain * run.batch, shift * run.batch, count]))
            gains, shifts, total = summed.split([len(gain), len(gain), 1])
            factor = (inverse if weight is None else inverse * weight) / (total * run.batch)
            shape = [1, -1] + [1] * (x.dim() - 2)
            sent.sub_((x - mean.view(shape)).mul_((gains * inverse * factor).view(shape)))
            sent.sub_((shifts * factor).view(shape))
        return sent, gain, shift

    def statistics(self, run: Run) -> tuple[Tensor, Tensor]:
        """Return the mean and the inverse standard deviation (channels,) that the forward normalised by."""
        _, mean, inverse, batch_stats = self.load(run)
        if batch_stats:
            return mean, inverse
        running_mean, running_var = self._running(run)
        assert running_mean is not None and running_var is not None
        return running_mean, (running_var + self.args["eps"]).rsqrt()

    def follow(self, run: Run, value: Tensor) -> Tensor:
        """Normalise another tensor by the statistics that the forward pass normalised by."""
        mean, inverse = self.statistics(run)
        return self._normalised(run, value, mean, inverse.pow(-2) - self.args["eps"])

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return not self.couples and out.dim() > 1 and leads(out, inputs[0])

    @property
    def couples(self) -> bool:
        """Return whether it normalizes by the batch's own statistics in training."""
        return not (self.args["frozen"] and self.args["buffers"])

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        x, *rest = saved
        return rows.take(x), *rest

    def stats(self) -> tuple[str, ...]:
        return () if self.args["frozen"] else tuple(self.args["buffers"].values())


class LayerNorm(Norm):
    """Layer normalisation over the last dimensions (``args``: ``shape``, ``eps``, ``channels`` for (B, C, H, W) input).

    With ``channels`` the normalised dimension is dim 1, as in timm's LayerNorm2d.
    """

    kind: ClassVar[str] = "layer_norm"

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = self._inner(x if run.dtype is None else x.float())
        out, mean, std = torch.native_layer_norm(
            x, self.args["shape"], self.weight(run), self.bias(run), self.args["eps"]
        )
        self.save(run, (x, mean, std))
        return self._outer(out)

    def _inner(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1).contiguous() if self.args["channels"] else x

    def _outer(self, x: Tensor) -> Tensor:
        return x.movedim(-1, 1) if self.args["channels"] else x

    def full(self, run: Run, signal: Tensor, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        x, mean, std = self.load(run)
        signal = self._inner(signal.to(x.dtype))
        gx, gw, gb = aten.native_layer_norm_backward(
            signal, x, self.args["shape"], mean, std, self.weight(run), self.bias(run), mask
        )
        return (self._outer(gx) if mask[0] else gx), gw, gb

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return out.dim() > len(self.args["shape"]) and leads(out, inputs[0])

    def pick(self, saved: tuple[Tensor, ...], carried: Carried, rows: Rows) -> Any:
        return tuple(map(rows.take, saved))


class RMSNorm(Norm):
    """Division by the root mean square over the last dimensions; ``args``: ``shape``, ``eps`` (None: the type's resolution).

    The adjoint of ``y = x r w`` with ``r = (mean(x^2) + eps)^(-1/2)`` is ``r (w s - x r^2 mean(w s x))``.
    """

    kind: ClassVar[str] = "rms_norm"

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = x if run.dtype is None else x.float()
        eps = torch.finfo(x.dtype).eps if self.args["eps"] is None else self.args["eps"]
        inverse = (x.square().mean(self._dims(), keepdim=True) + eps).rsqrt()
        self.save(run, (x, inverse))
        weight = self.weight(run)
        return x * inverse if weight is None else x * inverse * weight

    def _dims(self) -> list[int]:
        return list(range(-len(self.args["shape"]), 0))

    def full(self, run: Run, signal: Tensor, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        x, inverse = self.load(run)
        signal, weight = signal.to(x.dtype), self.weight(run)
        scaled = signal if weight is None else signal * weight
        none = x.new_empty(0)
        sent = (
            inverse * (scaled - x * inverse.square() * (scaled * x).mean(self._dims(), keepdim=True))
            if mask[0]
            else none
        )
        gain = (signal * x * inverse).sum_to_size(self.args["shape"]) if mask[1] else none
        return sent, gain, none

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return out.dim() > len(self.args["shape"]) and leads(out, inputs[0])

    def pick(self, saved: tuple[Tensor, ...], carried: Carried, rows: Rows) -> Any:
        return tuple(map(rows.take, saved))


class GroupNorm(Norm):
    """Group normalisation; ``args``: ``groups`` (None: each channel by itself, as in InstanceNorm), ``eps``."""

    kind: ClassVar[str] = "group_norm"

    def forward(self, run: Run, x: Tensor) -> Tensor:
        x = (x if run.dtype is None else x.float()).contiguous()
        batch, channels, rest = x.shape[0], x.shape[1], x[0, 0].numel()
        sizes = (batch, channels, rest, self.args["groups"] or channels)
        out, mean, std = torch.native_group_norm(x, self.weight(run), self.bias(run), *sizes, self.args["eps"])
        self.save(run, (x, mean, std, sizes))
        return out

    def full(self, run: Run, signal: Tensor, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        x, mean, std, sizes = self.load(run)
        outs: tuple[Tensor, Tensor, Tensor] = aten.native_group_norm_backward(
            signal.to(x.dtype).contiguous(), x, mean, std, self.weight(run), *sizes, mask
        )
        return outs

    def separable(self, inputs: tuple[Any, ...], carried: Carried, out: Any) -> bool:
        return out.dim() > 1 and leads(out, inputs[0])

    def pick(self, saved: Any, carried: Carried, rows: Rows) -> Any:
        x, mean, std, sizes = saved
        return rows.take(x), rows.take(mean), rows.take(std), (rows.count, *sizes[1:])
