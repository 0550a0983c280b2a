"""How feedback passes the ops that have no weights to share it among (paper 2, section 2; NOTES of the authors' code).

Feedback passes an activation unchanged; views, slices and maxima route it; sums and averages share it in proportion, like a
layer under LFP-epsilon whose weights nobody changes. BatchNorm has two readings, both of them choices of ``rule.batchnorm``.
Attention written out, norms of each sample by itself and products of activations follow AttnLRP (Achtibat et al. 2024), which the
LFP authors' transformers use: the Taylor rule at softmax, the uniform rule at products, the identity rule at norms. A factor that
does not depend on the input (a layer scale, a mask) is a weight, and the other factor gets all of the feedback.
Every function takes (rule, op, run, signal, add) as `BackwardPass.visit` does; signals are feedback times -1 / B.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.engine.backward import AddUpdates
from credit.engine.ops.activations import Activate
from credit.engine.ops.arithmetic import Add, Affine, Cat, MatMul, Mean, Mul, Softmax
from credit.engine.ops.base import Op, Signals
from credit.engine.ops.chance import Dropout
from credit.engine.ops.norms import BatchNorm, GroupNorm, LayerNorm, Norm, RMSNorm
from credit.engine.ops.pools import AdaptivePool, AvgPool, MaxPool
from credit.engine.ops.shapes import Cast, Expand, FixedMap, Permute, Select, Split, Stack, Value, View
from credit.engine.ops.spiking import Lif, Readout
from credit.engine.ops.weighted import Embedding, Pad, Weighted
from credit.rules.lfp.relevance import stabilised
from credit.rules.state import RuleRun

if TYPE_CHECKING:
    from credit.rules.lfp.rule import LfpRule

Passage = Callable[["LfpRule", Any, RuleRun, Tensor, AddUpdates], Signals]


def unchanged(rule: "LfpRule", op: Op, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """An activation: what is credited to its output is credited to its input."""
    return (signal,)


def routed(rule: "LfpRule", op: Op, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """What moves values without changing them, or picks some: the feedback goes back to where they came from."""
    return op.adjoint(run, signal)


def shared(rule: "LfpRule", op: Op, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """A sum or average: ``r_i = x_i d y/d x_i r / (y + sign(y) epsilon)``, each input by its contribution."""
    if op.index not in run.held:  # on the way to a layer that its spiking neuron has divided for already
        return op.adjoint(run, signal)
    inputs, y = run.held[op.index]
    quotient = signal / stabilised(y, rule.options.epsilon, op.index in rule.rectified)
    return tuple(None if sent is None else sent * x for sent, x in zip(op.adjoint(run, quotient), inputs, strict=True))


def pooled(rule: "LfpRule", op: AdaptivePool, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """An adaptive pool: a maximum routes, an average shares."""
    return (routed if op.args["mode"] == "max" else shared)(rule, op, run, signal, add)


def _grow(rule: "LfpRule", op: Op, run: RuleRun, signal: Tensor, add: AddUpdates) -> None:
    """Add the updates of an op's own parameters, as those of a layer under LFP-epsilon."""
    quotient = signal / stabilised(run.held[op.index][1], rule.options.epsilon)
    add((name, update * run.params[name].abs()) for name, update in op.updates(run, quotient))


def used(rule: "LfpRule", op: Op, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """A parameter used by itself, such as an embedding's row or a position's: a layer under LFP-epsilon whose input is 1."""
    _grow(rule, op, run, signal, add)
    return (None,) * len(op.inputs)


def standardised(rule: "LfpRule", op: Norm, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """A norm of each sample by itself: the identity rule (AttnLRP, Proposition 3.4).

    Scale and shift are updated as a layer of their own under LFP-epsilon, ``scale x^ + shift``.
    """
    if op.trains:
        _grow(rule, op, run, signal, add)
    return (signal,)


def multiplied(rule: "LfpRule", op: MatMul | Mul, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """A product of two activations: half of the feedback to each factor, by its contributions (Propositions 3.2 and 3.3).

    Of ``O = A B``: ``r_A = A * ((r / (2 O + epsilon)) B^T)``, and so for B; elementwise products likewise. Where one factor is a
    weight (`credit.rules.lfp.layers.without_input`), r is divided by ``O + epsilon``, as in a layer.
    """
    inputs, y = run.held[op.index]
    shares = max(1, sum(slot not in rule.weights for slot in op.inputs))
    sent = op.adjoint(run, signal / stabilised(shares * y, rule.options.epsilon))
    return tuple(None if part is None else part * x for part, x in zip(sent, inputs, strict=True))


def weighed(rule: "LfpRule", op: Softmax, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """Softmax s of x: ``x_i (r_i - s_i sum_j r_j)`` (Proposition 3.1); 0 where s is 0, as under a mask."""
    (x,), s = run.held[op.index]
    sent = x * (signal - s * signal.sum(op.args["dim"], keepdim=True))
    return (torch.where(s > 0, sent, 0.0),)


def dropped(rule: "LfpRule", op: Dropout, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """Dropout: a kept unit's feedback passes as it is, or (``rule.dropout=gradient``) times its mask's value once more."""
    mask = op.load(run)
    if mask is None or rule.options.dropout == "gradient" or op.index in rule.linear:
        return op.adjoint(run, signal)
    return (signal * (mask != 0),)


def normalised(rule: "LfpRule", op: BatchNorm, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """BatchNorm under ``rule.batchnorm=epsilon``: one more layer under LFP-epsilon, its adjoint the full train-mode Jacobian."""
    if rule.options.batchnorm == "folded":
        return folded(rule, op, run, signal, add)
    quotient = signal / stabilised(run.held[op.index][1], rule.options.epsilon, op.index in rule.rectified)
    sent, made = op.both(run, quotient)
    add((name, update * run.params[name].abs()) for name, update in made)
    return (None if sent is None else sent * op.load(run)[0],)


def folded(rule: "LfpRule", op: BatchNorm, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """BatchNorm and the layer below it as one layer: weights ``W g``, bias ``(b - mean) g + shift``, ``g = scale / std``.

    The batch's statistics count as constants. Scale and shift are updated as a layer of their own, ``scale x^ + shift``.
    """
    layer, z = rule.settled[op.index][-1], op.load(run)[0]
    assert isinstance(layer, Weighted)
    shape = [1, -1] + [1] * (z.dim() - 2)
    mean, inverse = op.statistics(run)
    scale, shift, bias = op.weight(run), op.bias(run), layer.bias(run)
    gain = inverse if scale is None else inverse * scale
    share, size = rule.shares[layer.index], None
    if share.needs_size:
        offset = (-mean if bias is None else bias - mean) * gain
        offset = offset if shift is None else offset + shift
        size = rule.layer(layer, run).size(bias=False)
        # In the layer's own type, whose rounding it has.
        size = (size * gain.abs().view(shape) + offset.abs().view(shape)).to(size.dtype)
    own = op.exclusive and run.overwrite
    r = rule.arrive(layer, run, signal)
    q, t = share.share(r, run.held[op.index][1], size, rectified=op.index in rule.rectified, own=own)
    if op.trains:
        add(_rescaled(op, run, (z - mean.view(shape)) * inverse.view(shape), q, t))
    if t is not None:
        run.quotients[layer.index] = t * gain.abs().view(shape)
    return (q * gain.view(shape),)


def _rescaled(op: BatchNorm, run: RuleRun, unit: Tensor, q: Tensor, t: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    """Yield the updates of a folded BatchNorm's scale and shift; ``unit``: the normalised values."""
    over = [0, *range(2, unit.dim())]
    for role, value in (("weight", unit), ("bias", torch.ones_like(unit))):
        name = op.params.get(role)
        if name is None or name not in op.trains:
            continue
        update = (q * value).sum(over) * run.params[name].abs()
        yield name, update if t is None else update + (t * value.abs()).sum(over) * run.params[name]


def fired(rule: "LfpRule", op: Lif, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """A spiking neuron: from the last step to the first, ``q[t] = N(r[t] + from t + 1) / what the membrane was``.

    N is the rule's normalizer. A positive feedback raises the membrane, so nothing here has the membrane's sign. The
    membrane's past gets its own share, ``carried[t] q[t]``; the layer below gets q itself, to multiply by its contributions
    (paper 2, section 3.1, Eq. A.15).
    """
    *between, layer = rule.settled[op.index]
    assert isinstance(layer, Weighted)
    share = rule.shares[layer.index]
    size = _forwards(rule.layer(layer, run).size(), between, run, op) if share.needs_size else None

    arrived: list[Tensor] = []

    def arrive(total: Tensor) -> Tensor:
        total = rule.normalizer.step(run, total)
        if rule.watch:
            arrived.append(total)
        return total

    def over(t: int, drive: Tensor, carried: Tensor) -> Tensor:
        # The same current at every step, or its own.
        here = None if size is None else size[0 if op.args["constant"] else t].reshape(drive.shape)
        divisor = share.membrane(drive, carried, here)
        assert divisor is not None
        return divisor

    q = op.attribute(run, signal, arrive, over)
    if rule.watch:
        rule.note_size(layer, run, arrived)
    return (q.sum(0) if op.args["constant"] else q.flatten(0, 1),)


def _forwards(size: Tensor, between: list[Op], run: RuleRun, op: Lif) -> Tensor:
    """Take a layer's size (rows, ...) through the pools above it, to the shape of the membrane (T, B, ...) or (1, B, ...)."""
    for step in reversed(between):
        if isinstance(step, MaxPool | AvgPool | AdaptivePool | Dropout):
            size = step.follow(run, size)
    return size.unflatten(0, (1 if op.args["constant"] else op.args["steps"], -1))


def read_out(rule: "LfpRule", op: Readout, run: RuleRun, signal: Tensor, add: AddUpdates) -> Signals:
    """The count of spikes: feedback by A.16 goes to every step where it encourages, else to the steps that fired.

    Any other feedback function's is shared in proportion, by spikes or by whatever else was summed.
    """
    spikes = op.spikes(run)
    counts = spikes.sum(0)
    if getattr(rule.feedback, "needs_steps", False):
        # The signal is the feedback times -1 / B: below 0 where it encourages.
        r = torch.where(signal < 0, signal, spikes * signal)
    else:
        r = spikes * (signal / stabilised(counts, rule.options.epsilon))
    return (r.flatten(0, 1),)


PASSAGES: dict[type[Op], Passage] = {
    Activate: unchanged,
    View: routed, Permute: routed, Select: routed, Split: routed, Expand: routed, Stack: routed, Cat: routed, Pad: routed,
    MaxPool: routed,
    AdaptivePool: pooled,
    AvgPool: shared, Add: shared, Affine: shared, Mean: shared, FixedMap: shared,
    Cast: routed,
    Embedding: used, Value: used,
    LayerNorm: standardised, RMSNorm: standardised, GroupNorm: standardised,
    MatMul: multiplied, Mul: multiplied, Softmax: weighed,
    Dropout: dropped,
    BatchNorm: normalised,
    Lif: fired,
    Readout: read_out,
}  # fmt: skip


_OF_VALUES = (shared, multiplied, weighed)
"""Passages that read the inputs and the output of the op."""


def holds(rule: "LfpRule", op: Op) -> tuple[bool, bool]:
    """Whether (inputs, output) of an op are read on the way back."""
    if isinstance(op, Weighted):
        return False, op.index not in rule.divided
    if isinstance(op, Norm | Embedding | Value):
        return False, True
    average = isinstance(op, AdaptivePool) and op.args["mode"] == "avg"
    both = (average or PASSAGES.get(type(op)) in _OF_VALUES) and op.index not in rule.linear
    return both, both


def stabilised_by(rule: "LfpRule", op: Op) -> bool:
    """Whether an op without weights of its own divides by a sum that ``rule.epsilon`` keeps from 0."""
    if isinstance(op, BatchNorm):
        return rule.options.batchnorm == "epsilon"
    if isinstance(op, Readout):
        return not getattr(rule.feedback, "needs_steps", False)
    return not isinstance(op, Weighted) and holds(rule, op)[0]


def refuse(rule: "LfpRule") -> None:
    """Refuse what the rule has no meaning for: before the first step, by the op's name."""
    model = type(rule.model).__name__
    for op in rule.plan.back:
        if isinstance(op, BatchNorm) and rule.options.batchnorm == "refuse":
            raise UserError(
                f"rule '{rule.name}' on {op.describe()} in {model}: layer-wise feedback propagation was made for networks without "
                "BatchNorm, whose output 0 does not mean that nothing was contributed, and no treatment was chosen. Write "
                "rule.batchnorm=folded (one layer with the weights before it), rule.batchnorm=epsilon (one more layer under "
                "LFP-epsilon, as in the authors' code), or use a network without it, for example arch.norm=none"
            )
        if isinstance(op, Weighted) and op.operands:
            raise UserError(
                f"rule '{rule.name}' shares feedback among a layer's weights and updates them by it, but the "
                f"{' and '.join(op.operands)} of {op.describe()} in {model} is computed from parameters in forward() (a "
                "standardised, masked or transposed weight), of which layer-wise feedback propagation has no reading. Use a "
                "parameter as it is, or a rule that sends derivatives (rule=bp, fa, lisp_margin, ...)"
            )
        if isinstance(op, Weighted) or type(op) in PASSAGES and not _logarithm(op):
            if isinstance(op, Lif):
                _refuse_membrane(rule, op)
            continue
        why = (
            "trains a parameter of its own"
            if op.trains
            else "does not share its output among contributions of its inputs"
        )
        raise UserError(
            f"rule '{rule.name}' cannot send feedback through {op.describe()} in {model}: it {why}, of which layer-wise feedback "
            "propagation has no reading. Use a network of linear, convolutional, pooling, adding, attention and activation layers, "
            "or a rule that sends derivatives (rule=bp, fa, lisp_margin, ...)"
        )


def _logarithm(op: Op) -> bool:
    """Return whether an op is the logarithm of a softmax, which AttnLRP has no rule for."""
    return isinstance(op, Softmax) and op.args["form"] == "log"


def _refuse_membrane(rule: "LfpRule", op: Lif) -> None:
    if not op.wants[0]:
        return
    layer = rule.settled[op.index][-1]
    one = torch.ones(1)
    if rule.shares[layer.index].membrane(one, one.clone(), one.clone()) is None:
        raise UserError(
            f"the layer '{layer.name}' feeds spiking neurons ({op.describe()} in {type(rule.model).__name__}), for which there is "
            "LFP-epsilon and LFP-z+z- (and LFP-0) only: write rule=lfp_epsilon or rule=lfp_zpm, or rule.composite for that layer"
        )
