"""Spiking networks: leaky integrate-and-fire layers over a fixed number of time steps, as ordinary modules.

Time is a leading block of the batch: between the first `LIF` and `SpikeCount` values are (T*B, ...), time-major (row t*B + b),
so that convolutions, pools and linear layers run over all steps at once. The same image is shown at every step, so nothing
below the first `LIF` depends on time: those layers run once an image, (B, ...), and that `LIF` has ``constant=True``.
"""

from collections import OrderedDict
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from credit.core.errors import UserError
from credit.core.option_sets import OptionSet
from credit.engine.ops.surrogates import SLOPES, Surrogate, divisor
from credit.models import checks
from credit.models.options import LifOptions, SpikingLeNetOptions, SpikingMlpOptions

Reset = Literal["subtract", "zero", "none"]
_LIF = OptionSet("", LifOptions)


class _Spike(torch.autograd.Function):
    """1 where U > theta, else 0; backwards a surrogate derivative (see `credit.engine.ops.surrogates`)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(membrane: Tensor, threshold: float, surrogate: str, slope: float | None) -> Tensor:
        return (membrane > threshold).to(membrane.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        membrane, ctx.threshold, ctx.surrogate, ctx.slope = inputs
        ctx.save_for_backward(membrane)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (membrane,) = ctx.saved_tensors
        return grad / divisor(ctx.surrogate, membrane - ctx.threshold, ctx.slope), None, None, None


def in_steps(x: Tensor, steps: int, name: str) -> Tensor:
    """Return (T*B, ...) as (T, B, ...).

    Raises:
        UserError: the rows are no multiple of the steps.
    """
    if x.shape[0] % steps:
        raise UserError(
            f"{name} of {steps} steps was given {x.shape[0]} rows, which are no multiple of them: its input is time-major, "
            "(steps * batch, ...). The first LIF of a network takes one current an image: write LIF(..., constant=True)"
        )
    return x.unflatten(0, (steps, -1))


@fx.wrap  # so that a tracer without a row for LIF takes it as one call
def _integrate(current: Tensor, lif: "LIF") -> tuple[Tensor, Tensor]:
    """Return (spikes, membrane potentials), both (T*B, ...); the potentials are those that decide on the spikes, V."""
    if lif.constant and _images(current):
        current = current.contiguous(memory_format=torch.channels_last)
    given = [current] * lif.steps if lif.constant else in_steps(current, lif.steps, "LIF").unbind()
    beta, theta, taken = lif.beta, lif.threshold, lif.threshold if lif.reset == "subtract" else 0.0
    u = torch.zeros_like(given[0])
    spikes, potentials = [], []
    for now in given:
        reset = (u > theta).to(u.dtype)  # of what is behind us, and without a gradient
        if lif.reset == "zero":
            v = torch.add(now, u * (1 - reset), alpha=beta)
        else:
            v = torch.add(now, u, alpha=beta).sub(reset, alpha=taken)
        spike = _Spike.apply(v, theta, lif.surrogate, lif.surrogate_slope)
        if lif.reset_delay:
            u = v
        elif lif.reset == "zero":
            u = v * (1 - spike.detach())
        else:
            u = v.sub(spike.detach() - reset, alpha=taken)
        spikes.append(spike)
        potentials.append(v)
    # Joined along the batch, they lie in memory as each of them does.
    return torch.cat(spikes), torch.cat(potentials)


def _images(x: Tensor) -> bool:
    """Return whether the engine would run the layers above over channels first; the same here gives the same bits."""
    return x.dim() == 4 and x.device.type == "cpu"


class LIF(nn.Module):
    """Leaky integrate-and-fire units: currents (T*B, ...), time-major, to spikes 0 and 1 of the same shape.

    With H(x) = 1 where x > 0 (strictly), else 0, U[-1] = 0, and input current I[t]:

        R[t] = H(U[t-1] - theta)
        V[t] = beta U[t-1] + I[t] - theta R[t]           reset 'subtract': theta is taken off, not beta theta
        V[t] = beta (1 - R[t]) U[t-1] + I[t]             reset 'zero'
        V[t] = beta U[t-1] + I[t]                        reset 'none': a unit above threshold fires at every step
        S[t] = H(V[t] - theta)
        U[t] = V[t]                                      reset_delay: a spike resets the step after it
        U[t] = V[t] - theta (S[t] - R[t])                no reset_delay, 'subtract': at once; what R took off comes back
        U[t] = (1 - S[t]) V[t]                           no reset_delay, 'zero'

    This is snnTorch's ``Leaky`` (its ``reset_mechanism`` and ``reset_delay``). Backwards dS/dV is a surrogate derivative
    (`credit.engine.ops.surrogates.divisor` has the formulas), and no reset carries a gradient: backpropagation through time as in
    snnTorch with a delay; without one snnTorch's own lets the spike's gradient pass the reset, which this does not.
    Paper 2 (LFP), Eqs. A.14 and A.15, has ``subtract`` with a delay.

    Args:
        steps: T, at least 1.
        beta: share of the membrane potential kept from step to step, in (0, 1].
        threshold: theta, above 0.
        reset: ``subtract``, ``zero`` or ``none``.
        reset_delay: see above.
        constant: the input is one current an image, (B, ...), the same at every step; the output is (T*B, ...).
        surrogate: ``fast_sigmoid``, ``sigmoid``, ``atan`` or ``straight_through`` (derivative 1).
        surrogate_slope: the surrogate's k, above 0 (``fast_sigmoid``: 0 or above); None: snnTorch's, 25, 25 and 2;
            ``straight_through`` has none.

    Raises:
        UserError: an option outside its range, or (at the call) rows that are no multiple of the steps.
    """

    spiking_kind = "lif"  # the engine's name for it

    def __init__(self, steps: int, beta: float, threshold: float = 1.0, reset: Reset = "subtract", reset_delay: bool = True,
                 constant: bool = False, surrogate: Surrogate = "fast_sigmoid",
                 surrogate_slope: float | None = None) -> None:  # fmt: skip
        super().__init__()
        given = {"steps": steps, "beta": beta, "threshold": threshold, "reset": reset, "reset_delay": reset_delay}
        _LIF.check(given | {"surrogate": surrogate, "surrogate_slope": surrogate_slope}, "LIF")
        self.steps, self.beta, self.threshold, self.reset = steps, float(beta), float(threshold), reset
        self.reset_delay, self.constant, self.surrogate = reset_delay, constant, surrogate
        self.surrogate_slope = SLOPES[surrogate] if surrogate_slope is None else float(surrogate_slope)

    def forward(self, current: Tensor) -> Tensor:
        return _integrate(current, self)[0]

    def potentials(self, current: Tensor) -> Tensor:
        """Return V (T, B, ...), the membrane potentials that decide on the spikes, of an input as ``forward``'s."""
        return _integrate(current, self)[1].unflatten(0, (self.steps, -1))

    def extra_repr(self) -> str:
        return (
            f"steps={self.steps}, beta={self.beta:g}, threshold={self.threshold:g}, reset={self.reset}, "
            f"reset_delay={self.reset_delay}, constant={self.constant}, surrogate={self.surrogate}, "
            f"surrogate_slope={self.surrogate_slope}"
        )


class SpikeCount(nn.Module):
    """The readout: spikes (T*B, C), time-major, to their counts over the steps (B, C), which are the logits.

    With cross-entropy it is snnTorch's ``ce_count_loss``.

    Raises:
        UserError: fewer than one step, or (at the call) rows that are no multiple of the steps.
    """

    spiking_kind = "count"  # the engine's name for it

    def __init__(self, steps: int) -> None:
        super().__init__()
        _LIF.check({"steps": steps}, "SpikeCount")
        self.steps = steps

    def forward(self, spikes: Tensor) -> Tensor:
        return _count(spikes, self.steps)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


@fx.wrap
def _count(spikes: Tensor, steps: int) -> Tensor:
    return in_steps(spikes, steps, "SpikeCount").sum(0)


def spiking_lenet(shape: tuple[int, ...], classes: int, options: SpikingLeNetOptions) -> nn.Module:
    """Build conv 12 5x5 - max pool 2 - LIF - conv 64 5x5 - max pool 2 - LIF - linear - LIF - spike count, torch's default init.

    The LIF LeNet of layer-wise feedback propagation, A.6.3, read as its authors' code: the text's "dense layer of 1024 LIF
    neurons" is the 1024 inputs (on 28 px) of the layer with one unit a class. The logits are spike counts over ``steps``
    (0 to steps). The first convolution and pool run once an image. Parameters: 29 826 on MNIST.

    Args:
        shape: (channels, height, width), at least 16x16 pixels.
        classes: number of logits.
        options: see `credit.models.options.SpikingLeNetOptions`.

    Raises:
        UserError: images too small.
    """
    channels, height, width = checks.image(
        "spiking_lenet",
        shape,
        smallest=16,
        why="two 5x5 convolutions, each followed by a pooling that halves the image, leave nothing of a smaller one",
    )
    unit = partial(LIF, **{name: getattr(options, name) for name in _LIF.own})
    rows, columns = ((((side - 4) // 2) - 4) // 2 for side in (height, width))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 12, 5),
            pool1=nn.MaxPool2d(2),
            lif1=unit(constant=True),
            conv2=nn.Conv2d(12, 64, 5),
            pool2=nn.MaxPool2d(2),
            lif2=unit(),
            flatten=nn.Flatten(),
            head=nn.Linear(64 * rows * columns, classes),
            lif3=unit(),
            count=SpikeCount(options.steps),
        )
    )


def spiking_mlp(shape: tuple[int, ...], classes: int, options: SpikingMlpOptions) -> nn.Module:
    """Build flatten - (linear - LIF) per width - linear - LIF - spike count, torch's default init (paper 2, A.6.3).

    The logits are spike counts over ``steps``. The first linear layer runs once an image. Parameters: 1 796 010 on MNIST,
    1 076 010 on Digits.

    Args:
        shape: any; one example is flattened.
        classes: number of logits.
        options: see `credit.models.options.SpikingMlpOptions`.
    """
    unit = partial(LIF, **{name: getattr(options, name) for name in _LIF.own})
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    fan_in = 1
    for size in shape:
        fan_in *= size
    for index, (name, width) in enumerate(
        [*((f"fc{n}", w) for n, w in enumerate(options.widths, 1)), ("head", classes)], 1
    ):
        layers[name] = nn.Linear(fan_in, width)
        layers[f"lif{index}"] = unit(constant=index == 1)
        fan_in = width
    layers["count"] = SpikeCount(options.steps)
    return nn.Sequential(layers)
