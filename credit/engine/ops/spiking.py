"""Spiking ops: leaky integrate-and-fire units unrolled over time, and the count of their spikes.

Values between them are (T*B, ...), time-major; here (T, B, ...). The recursion stands in ``credit.models.spiking.networks.LIF``;
legend: I current; V potential that decides on a spike; S = [V > theta]; U what is left after a reset; R = [U[t-1] > theta].
"""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.ops.base import Op, Run, Signals
from credit.engine.ops.surrogates import divisor


class Lif(Op):
    """Leaky integrate-and-fire units; ``args``: ``steps beta threshold reset reset_delay constant surrogate slope``.

    Saved is V alone, the rest follows from it. The adjoint is backpropagation through time,
    ``g[t] = s[t] dS/dV[t] + beta g[t+1]``, dS/dV the surrogate derivative (`credit.engine.ops.surrogates`), with the
    resets detached: 'zero'
    lets g[t+1] pass where there was no spike. Half precision is computed in float32: membranes add up small currents.
    """

    kind: ClassVar[str] = "lif"

    @property
    def _taken(self) -> float:
        """Return the value that a reset subtracts from the potential."""
        return float(self.args["threshold"]) if self.args["reset"] == "subtract" else 0.0

    # ------------------------------------------------------------ forwards

    def forward(self, run: Run, current: Tensor) -> Tensor:
        current = current.float() if current.dtype in (torch.bfloat16, torch.float16) else current
        steps = self.args["steps"]
        if self.args["constant"] and run.overwrite and current.dim() == 4 and current.device.type == "cpu":
            # So that the convolutions above run over channels first: for them and for their pools half the time on a CPU.
            current = current.contiguous(memory_format=torch.channels_last)
        given = current if self.args["constant"] else self._in_steps(current)
        # With in-place operations, unless the step is mapped or compiled.
        v, spikes = (
            self._fill(given) if run.overwrite else self._build([given] * steps if self.args["constant"] else given)
        )
        self.save(run, v if any(self.wants) else None)
        return spikes.flatten(0, 1)

    def _in_steps(self, x: Tensor) -> Tensor:
        if x.shape[0] % self.args["steps"]:
            raise UserError(
                f"{self.describe()} of {self.args['steps']} steps was given {x.shape[0]} rows, which are no multiple of them: its "
                "input is time-major, (steps * batch, ...)"
            )
        return x.unflatten(0, (self.args["steps"], -1))

    def _fill(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return (V, S), both (T, B, ...); the currents' memory becomes V's where nothing else needs it."""
        steps, beta, theta, taken = *(self.args[name] for name in ("steps", "beta", "threshold")), self._taken
        constant, zero, delay = self.args["constant"], self.args["reset"] == "zero", self.args["reset_delay"]
        one = given if constant else given[0]
        v = given if self.overwrite and not constant else _room(one, steps)
        spikes = _room(one, steps)
        # U after a reset, and the R that follows from it, where they are not the last V and S themselves.
        u, r = torch.empty_like(one), torch.zeros_like(one)
        for t in range(steps):
            now, here = one if constant else given[t], v[t]
            if t == 0:
                here.copy_(now) if v is not given else None
            elif zero:
                torch.add(now, u, alpha=beta, out=here)
            elif delay:
                torch.add(now, v[t - 1], alpha=beta, out=here).sub_(spikes[t - 1], alpha=taken)
            else:
                torch.add(now, u, alpha=beta, out=here).sub_(r, alpha=taken)
            spike = torch.gt(here, theta, out=spikes[t])
            if zero:
                torch.addcmul(here, here, spike, value=-1, out=u)
            elif not delay:
                torch.sub(here, torch.sub(spike, r, out=r), alpha=taken, out=u)
                torch.gt(u, theta, out=r)
        return v, spikes

    def _build(self, given: Sequence[Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        """Return what ``_fill`` does, writing to no tensor."""
        beta, theta, zero = self.args["beta"], self.args["threshold"], self.args["reset"] == "zero"
        potentials: list[Tensor] = []
        spikes: list[Tensor] = []
        u = r = None
        for now in given:
            v = now if u is None else torch.add(now, u, alpha=beta)
            if r is not None and not zero:
                v = v.sub(r, alpha=self._taken)
            spike = (v > theta).to(v.dtype)
            u, r = self._after(v, spike, r)
            potentials.append(v)
            spikes.append(spike)
        return torch.stack(potentials), torch.stack(spikes)

    def _after(self, v: Tensor, spike: Tensor, r: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (U, the next R) of one step: for 'zero', U with the reset done, whether delayed or not."""
        if self.args["reset"] == "zero":
            return v - v * spike, spike
        if self.args["reset_delay"]:
            return v, spike
        u = v.sub(spike if r is None else spike - r, alpha=self._taken)
        return u, (u > self.args["threshold"]).to(v.dtype)

    # ------------------------------------------------------------ backwards

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        v, signal = self.load(run), self._in_steps(signal)
        if not run.overwrite:
            sent = self._mapped(v, signal)
            return (sent.sum(0) if self.args["constant"] else sent.flatten(0, 1),)
        if self.args["constant"]:
            return (self._summed(v, signal),)
        return (self._scan(v, signal).flatten(0, 1),)

    def _divisor(self, v: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the inverse of the surrogate derivative at V, in ``out`` where it is given."""
        distance = torch.sub(v, self.args["threshold"], out=out)
        return divisor(self.args["surrogate"], distance, self.args["slope"], out is not None)

    def _scan(self, v: Tensor, signal: Tensor) -> Tensor:
        """Return g (T, B, ...), in V's memory."""
        beta, theta, zero = self.args["beta"], self.args["threshold"], self.args["reset"] == "zero"
        scratch = torch.empty_like(v[0])
        fired = torch.empty_like(scratch) if zero else None
        later: Tensor | None = None
        for t in reversed(range(v.shape[0])):
            here = v[t]
            if fired is not None and later is not None:
                torch.gt(here, theta, out=fired)
                later = torch.addcmul(later, later, fired, value=-1, out=fired)
            torch.div(signal[t], self._divisor(here, scratch), out=here)
            if later is not None:
                here.add_(later, alpha=beta)
            later = here
        return v

    def _summed(self, v: Tensor, signal: Tensor) -> Tensor:
        """Return the sum of g over time (B, ...)."""
        beta, theta, zero = self.args["beta"], self.args["threshold"], self.args["reset"] == "zero"
        scratch = torch.empty_like(v[0])
        total = torch.zeros_like(v[0])
        if zero:
            carried, fired = torch.zeros_like(total), torch.empty_like(total)
            for t in reversed(range(v.shape[0])):
                torch.gt(v[t], theta, out=fired)
                carried.addcmul_(carried, fired, value=-1).mul_(beta)
                total.add_(carried.addcdiv_(signal[t], self._divisor(v[t], scratch)))
            return total
        # Nothing stops what a step sends to the past: step t reaches t + 1 currents, with 1 + beta + ... + beta^t in all.
        reach = 0.0
        for t in range(v.shape[0]):
            reach = 1 + beta * reach
            total.addcdiv_(signal[t], self._divisor(v[t], scratch), value=reach)
        return total

    def _mapped(self, v: Tensor, signal: Tensor) -> Tensor:
        """Return what ``_scan`` does, writing to no tensor."""
        beta, theta, zero = self.args["beta"], self.args["threshold"], self.args["reset"] == "zero"
        own = signal / self._divisor(v)
        sent: list[Tensor] = []
        for t in reversed(range(v.shape[0])):
            if not sent:
                sent.append(own[t])
                continue
            later = torch.where(v[t] > theta, 0.0, sent[-1]) if zero else sent[-1]
            sent.append(torch.add(own[t], later, alpha=beta))
        return torch.stack(sent[::-1])

    # ------------------------------------------------------------ for rules

    def spikes(self, run: Run) -> Tensor:
        """Return the spikes S (T, B, ...), 0 and 1, before the adjoint is asked for."""
        v: Tensor = self.load(run)
        return (v > self.args["threshold"]).to(v.dtype)

    def history(self, run: Run) -> tuple[Tensor, Tensor]:
        """Return (drive, carried), both (T, B, ...), before the adjoint is asked for.

        ``carried[t]`` is what the past leaves, ``beta U[t-1]`` ('zero': where no reset wiped it out); ``drive[t]`` that and
        the current I[t], the potential before a threshold is taken off. Both are new tensors.
        """
        moments = list(self._moments(self.load(run)))[::-1]
        drive, carried = (torch.cat(parts).unflatten(0, (len(moments), -1)) for parts in zip(*moments, strict=True))
        return drive, carried

    def _moments(self, v: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (drive[t], carried[t]) from the last step to the first; V may be overwritten from t on once t is yielded."""
        beta, theta, zero = self.args["beta"], self.args["threshold"], self.args["reset"] == "zero"
        left: list[tuple[Tensor, Tensor]] = []
        if not zero and not self.args["reset_delay"]:
            # What a reset left can only be followed forwards.
            r = None
            for now in v.unbind()[:-1]:
                u, r = self._after(now, (now > theta).to(v.dtype), r)
                left.append((u, r))
        for t in reversed(range(1, v.shape[0])):
            u, r = left.pop() if left else self._after(v[t - 1], (v[t - 1] > theta).to(v.dtype), None)
            yield (v[t].clone() if zero else torch.add(v[t], r, alpha=self._taken)), u * beta
        yield v[0].clone(), torch.zeros_like(v[0])

    def attribute(
        self, run: Run, r: Tensor, arrive: Callable[[Tensor], Tensor], over: Callable[[int, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Return what each step's potential gets of a feedback, q (T, B, ...), in place of the adjoint.

        ``q[t] = arrive(r[t] + carried[t+1] q[t+1]) / over(t, drive[t], carried[t])``: a potential shares its feedback among
        its current and its past, for which see ``history``.

        Args:
            r: feedback of the spikes, (T*B, ...).
            arrive: what is done to the feedback (B, ...) of one step, its future's share included; must not overwrite it.
            over: the divisors (B, ...) of one step.
        """
        v, given = self.load(run), self._in_steps(r)
        sent: list[Tensor] = []
        past: Tensor | None = None
        for at, (drive, carried) in enumerate(self._moments(v)):
            t = v.shape[0] - 1 - at
            total = given[t] if past is None else torch.addcmul(given[t], past, sent[-1])
            total, divisor = arrive(total), over(t, drive, carried)
            # In V's memory, unless the step is mapped or compiled.
            sent.append(torch.div(total, divisor, out=v[t]) if run.overwrite else total / divisor)
            past = carried
        return v if run.overwrite else torch.stack(sent[::-1])


def _room(one: Tensor, steps: int) -> Tensor:
    """Return an empty tensor (T, B, ...) whose steps lie in memory as ``one`` does."""
    shape = (steps * one.shape[0], *one.shape[1:])
    last = one.dim() == 4 and one.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=one.dtype, device=one.device, memory_format=layout).unflatten(0, (steps, -1))


class Readout(Op):
    """The count of spikes over time, (T*B, C) to (B, C); ``args``: ``steps``. Every step receives the count's error signal."""

    kind: ClassVar[str] = "spike_count"

    def forward(self, run: Run, spikes: Tensor) -> Tensor:
        given = spikes.unflatten(0, (self.args["steps"], -1))
        self.save(run, given if any(self.wants) else None)
        return given.sum(0)

    def spikes(self, run: Run) -> Tensor:
        """Return the spikes (T, B, C) that were counted."""
        given: Tensor = self.load(run)
        return given

    def adjoint(self, run: Run, signal: Tensor) -> Signals:
        return (signal.unsqueeze(0).expand(self.args["steps"], *signal.shape).flatten(0, 1),)
