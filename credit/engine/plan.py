"""The plan: a traced network with a forward pass and a backward pass of its own, without autograd.

    plan = Plan(model)                       # trace, verify
    run = plan.run(params, buffers, draws)   # one step's arguments
    logits = plan.forward(run, x)
    updates = plan.backward(run, signal, rule)  # parameter name -> descent direction

A plan is built once, for a model, `Capabilities` and a `BackwardPass`; nothing changes it afterwards. `Plan.adapted` returns
another plan of the same traced network, where a rule has to look at a plan to know what it needs of one.
"""

from collections.abc import Collection, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.backward import BACKPROP, BackwardPass, R
from credit.engine.guards.sizes import Sample
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Run, has_ref, resolve, slots_in
from credit.engine.ops.shapes import Shape, Value
from credit.engine.ops.spiking import Lif
from credit.engine.ops.weighted import Embedding
from credit.engine.rewrite import freeze_norms, pool_first
from credit.engine.trace import Graph, trace

Portion = list[tuple[Op, list[tuple[int, int, bool, bool]]]]
"""Ops in the order of a backward pass, each with the inputs that get a signal: (which, slot, first there, owned)."""


@dataclass(frozen=True)
class Cuts:
    """Activations at whose outputs error signals stop, and where error signals of their own begin.

    Attributes:
        ops: the activations' names.
        inside: their own error signals begin at their outputs and pass the activation; else at their inputs.
        received: names of those whose arriving signal is left in ``run.arrived`` by output slot; all other ones are not computed.
    """

    ops: tuple[str, ...] = ()
    inside: bool = False
    received: tuple[str, ...] = ()


@dataclass(frozen=True)
class Capabilities:
    """Optional capabilities of a plan, beside a forward pass and backprop to the first trainable layer.

    Attributes:
        local_autograd: ops without a row are differentiated by autograd, one op at a time.
        to_input: the backward pass goes on to the network's input and leaves the error signal there in ``run.entry``.
        frozen_norms: batch norms use their running statistics, which steps then never move.
        pool_first: max pools come before the activations that they follow in the model, where that changes no value.
        repeatable: ops that draw or move statistics keep what they found even where no signal crosses them, so that a part of the
            forward pass can be evaluated once more (`credit.engine.inference.subgraph`).
        cuts: where error signals stop.
    """

    local_autograd: bool = False
    to_input: bool = False
    frozen_norms: bool = False
    pool_first: bool = False
    repeatable: bool = False
    cuts: Cuts = Cuts()


PLAIN = Capabilities()


class Plan:
    """A traced network.

    Args:
        model: an unchanged module taking one tensor and returning logits (B, classes).
        capabilities: what the plan is built for.
        backward: decides what is kept for the backward pass and what may be overwritten; asked once, here.
        graph: the traced network, where it is at hand (see `adapted`).
        sample: of the input, for a forward pass that branches on its size.

    Attributes:
        ops: all ops in order of execution.
        back: the ops that a backward pass visits, last first.
        sample, sized: what was known of the input, and whether the plan is right for samples of that size alone.
        takes_tokens: whether the input is integer tokens, which an embedding looks up.
        parameters: the parameters that ops name: the model's own, and a stand-in for each weight that the model computes.
        weights: the weights that the model computes from other parameters (`credit.engine.weights`).
        trainable: names of the model's own parameters that receive an update.
        learned: names of the parameters that ops update: as ``trainable``, with computed weights in place of what they are made of.
        localised: the ops left to local autograd, by name.
        cuts: by the index of each op that the plan is cut at, whether its own signal begins inside (see `Cuts`).
        stopped: ops that a gradient would pass or reach if forward did not stop it there (``torch.no_grad()``, ``detach``).

    Raises:
        UserError: the model cannot be traced, an op has no row, or a trainable parameter takes no part.
    """

    def __init__(
        self,
        model: nn.Module,
        capabilities: Capabilities = PLAIN,
        backward: BackwardPass[Any] = BACKPROP,
        *,
        graph: Graph | None = None,
        sample: Sample | None = None,
    ) -> None:
        self.model, self.capabilities = model, capabilities
        self._graph = graph = graph or trace(model, local=capabilities.local_autograd, sample=sample)
        self.slots, self.entry, self.exit, self.localised = graph.slots, graph.entry, graph.exit, graph.localised
        self.ops = self._own_ops()
        self.takes_tokens = any(isinstance(op, Embedding) and self.entry in op.inputs for op in self.ops)
        self.parameters, self.alias, self.weights = graph.parameters, graph.alias, graph.weights
        self.sample, self.sized = graph.sample, graph.sized
        self.trainable = [name for name, p in model.named_parameters() if p.requires_grad]
        self.learned = [name for name, p in self.parameters.items() if p.requires_grad]
        cuts = capabilities.cuts
        by_name = {op.name: op for op in self.ops}
        self.cuts = {by_name[name].index: cuts.inside for name in cuts.ops}
        self._received = {by_name[name].out: self.slots + at for at, name in enumerate(cuts.received)}
        self._order_backward(self._mark_trainable())
        self._verify()
        self._settle(backward)

    def adapted(self, backward: BackwardPass[Any] = BACKPROP, **changes: Any) -> "Plan":
        """Return a plan of the same traced network for another backward pass; this one stays as it is.

        Args:
            backward: as for ``Plan``.
            changes: fields of `Capabilities` that differ from this plan's.
        """
        wanted = replace(self.capabilities, **changes)
        same = wanted.local_autograd == self.capabilities.local_autograd  # else other ops are traced
        return Plan(self.model, wanted, backward, graph=self._graph if same else None, sample=self.sample)

    @property
    def to_input(self) -> bool:
        """Return whether the backward pass goes on to the network's input."""
        return self.capabilities.to_input

    # ------------------------------------------------------------ analysis

    def _own_ops(self) -> list[Op]:
        """Return copies of the traced ops, rewritten and numbered."""
        ops = []
        for op in self._graph.ops:
            ops.append(copy(op))
            ops[-1].args = dict(op.args)
        if self.capabilities.frozen_norms:
            freeze_norms(ops)
        if self.capabilities.pool_first:
            pool_first(ops, self.exit)
        for at, op in enumerate(ops):
            op.index = at
        return ops

    def _mark_trainable(self) -> dict[int, bool]:
        """Return by slot whether a value depends on a trainable parameter: only those receive signals."""
        trainable, carries = set(self.learned), {self.entry: self.to_input}
        self.stopped: list[Op] = []
        for op in self.ops:
            op.params = {role: self.alias[name] for role, name in op.params.items()}
            if isinstance(op, Value):
                op.args["tensor"] = self.alias.get(op.args["tensor"], op.args["tensor"])
                op.trains = tuple({op.args["tensor"]} & trainable)
            else:
                op.trains = tuple(name for name in op.params.values() if name in trainable)
            op.wants = tuple(carries[slot] for slot in op.inputs)
            if op.stops:
                if any(op.wants) or op.trains:
                    self.stopped.append(op)
                op.trains, op.wants = (), (False,) * len(op.inputs)
            carries[op.out] = not isinstance(op, Shape) and (bool(op.trains) or any(op.wants))
            if op.index in self.cuts:
                carries[op.out] = carries[op.out] and op.out in self._received
        return carries

    def _order_backward(self, carries: dict[int, bool]) -> None:
        """Find the ops that a backward pass visits, last first."""
        reached, self.back = {self.exit}, list[Op]()
        for op in reversed(self.ops):
            inside = self.cuts.get(op.index)
            if inside is not None:  # a signal of its own begins at its output, or already at its input
                if inside and op.wants[0]:
                    self.back.append(op)
                reached |= {slot for slot, want in zip(op.inputs, op.wants, strict=True) if want}
                continue
            # What only a shape or an index was read from gets no signal.
            if carries[op.out] and op.out in reached:
                self.back.append(op)
                reached |= {slot for slot, want in zip(op.inputs, op.wants, strict=True) if want}

    def _verify(self) -> None:
        """Every trainable parameter takes part, or the run refuses to start."""
        if not self.trainable:
            raise UserError(
                f"{type(self.model).__name__} has no trainable parameter: set requires_grad on what should learn."
            )
        used = {name for op in self.back for name in op.trains}
        self.learned = [name for name in self.learned if name in used]
        taking = self.weights.sources(used)
        missing = [name for name in self.trainable if name not in taking]
        if missing:
            raise UserError(
                f"{type(self.model).__name__}: {len(missing)} trainable parameter(s) take no part in the traced forward pass: "
                f"{', '.join(missing[:6])}. Freeze them (requires_grad_(False)) or use them in forward().{self._stopped_at()}"
            )

    def _stopped_at(self) -> str:
        """Return the place where forward stops gradients, for the error about parameters that get none."""
        if not self.stopped:
            return ""
        return f" Gradients stop at {self.stopped[0].describe()}, which forward() computes under torch.no_grad() or detaches."

    def _settle(self, backward: BackwardPass[Any]) -> None:
        """Settle what is kept, what may be overwritten and when values are dropped."""
        readers: dict[int, list[Op]] = {}
        for op in self.ops:
            for slot in {*op.inputs, *slots_in(op.extra)}:
                readers.setdefault(slot, []).append(op)
        maker = {op.out: op for op in self.ops}
        for op in self.ops:
            if isinstance(op, Activate):
                op.keeps = frozenset(backward.keeps(op)) if any(op.wants) else frozenset()
            if isinstance(op, Activate | Lif):
                source = maker.get(op.inputs[0])
                op.overwrite = source is not None and source.fresh and len(readers[op.inputs[0]]) == 1
        self._holds = {op.index: held for op in self.back if any(held := backward.holds(op))}
        self._order(readers)
        self._ownership(not backward.keeps_output)

    def _order(self, readers: dict[int, list[Op]]) -> None:
        last = {slot: max(op.index for op in ops) for slot, ops in readers.items()}
        drops: dict[int, list[int]] = {}
        for slot, index in last.items():
            drops.setdefault(index, []).append(slot)
        kept = {op.index for op in self.back} | set(self.cuts)
        if self.capabilities.repeatable:
            kept |= {op.index for op in self.ops if op.remembers}
        self._forward = [
            (op, op.inputs, op.extra, has_ref(op.extra), op.out, drops.get(op.index, []), op.index in kept)
            for op in self.ops
        ]

    def _ownership(self, output_owned: bool) -> None:
        """Mark every error signal that has one owner, so that it may be overwritten."""
        starts = {op.out if self.cuts[op.index] else op.inputs[0] for op in self.ops if op.index in self.cuts}
        owned, given = {self.exit: output_owned} | dict.fromkeys(starts, True), set(starts)
        self._backward: Portion = []
        for op in self.back:
            op.exclusive = owned.get(op.out, False)
            targets = []
            wanted = [(at, slot) for at, (slot, want) in enumerate(zip(op.inputs, op.wants, strict=True)) if want]
            for at, source in wanted:
                slot = self._received.get(source, source)
                mine = not op.expands and (not op.aliases or (op.exclusive and len(wanted) == 1))
                first = slot not in given
                # A second arrival is added in place where the first one is owned, else to a new tensor.
                targets.append((at, slot, first, owned.get(slot, False)))
                owned[slot] = mine if first else True
                given.add(slot)
            self._backward.append((op, targets))

    # ------------------------------------------------------------ running

    def run(self, params: dict[str, Tensor], buffers: dict[str, Tensor], draws: Any, dtype: torch.dtype | None = None,
            train: bool = True) -> Run:  # fmt: skip
        """Return one step's arguments and working memory."""
        return Run(params, buffers, draws, dtype, [None] * len(self.ops), 0, train)

    def forward(self, run: Run, x: Tensor) -> Tensor:
        """Return the logits (B, classes) of a batch x (B, ...), keeping in ``run`` what the backward pass needs."""
        run.batch = x.shape[0]
        values: list[Any] = [None] * self.slots
        values[self.entry] = x
        holds = self._holds
        for op, inputs, extra, dynamic, out, drops, kept in self._forward:
            if extra:
                rest = resolve(extra, values) if dynamic else extra
                values[out] = op.forward(run, *[values[slot] for slot in inputs], *rest)
            elif len(inputs) == 1:
                values[out] = op.forward(run, values[inputs[0]])
            else:
                values[out] = op.forward(run, *[values[slot] for slot in inputs])
            if (held := holds.get(op.index)) is not None:
                given = tuple(values[slot] for slot in inputs) if held[0] else ()
                run.held[op.index] = given, values[out] if held[1] else None
            if run.dtype is not None and isinstance(values[out], Tensor):
                run.dtypes[out] = values[out].dtype
            if not kept:
                run.saved[op.index] = None
            for slot in drops:
                values[slot] = None
        logits: Tensor = values[self.exit]
        return logits

    def backward(self, run: R, signal: Tensor, backward: BackwardPass[R]) -> dict[str, Tensor]:
        """Send ``signal`` (B, classes) back and return the update of every parameter in ``learned``.

        Values saved by the forward pass are dropped as the backward pass goes on. Where ``run.rows`` says which samples have a
        signal (see ``credit.engine.activity``), ``signal`` holds theirs alone: (their count, classes).
        """
        if run.rows is not None and run.rows.count == 0:
            run.saved[:] = [None] * len(run.saved)
            return {name: torch.zeros_like(run.params[name]) for name in self.learned}
        starts = {self.exit: signal}
        del signal  # its memory is the backward pass's alone
        return self.backward_from(run, starts, backward)

    def portion(self, ops: Collection[int]) -> Portion:
        """Return the part of a backward pass that visits these ops alone, by index."""
        return [entry for entry in self._backward if entry[0].index in ops]

    def backward_from(
        self, run: R, starts: dict[int, Tensor], backward: BackwardPass[R], part: Portion | None = None
    ) -> dict[str, Tensor]:
        """Send signals back from several slots at once and return the updates of the parameters they meet.

        Args:
            run: the step's, after its forward pass.
            starts: signals by the slots they begin at: the exit, and those of the activations that the plan is cut at. They are
                taken out of the dict and may be written over.
            backward: what the rule does at each op.
            part: ops to visit (see ``portion``); None: all.
        """
        signals: list[Tensor | None] = [None] * (self.slots + len(self._received))
        for slot in list(starts):
            signal = starts.pop(slot)
            signals[slot] = signal.to(run.dtypes.get(slot, signal.dtype))
            del signal
        rows, saved = run.rows, run.saved
        updates: dict[str, Tensor] = {}

        def add(made: Iterable[tuple[str, Tensor]]) -> None:
            for name, value in made:
                # A shared parameter gets one update per use, summed.
                updates[name] = updates[name] + value if name in updates else value

        for op, targets in self._backward if part is None else part:
            here = signals[op.out]
            signals[op.out] = None
            if here is None:
                continue
            if rows is not None and saved[op.index] is not None and op.index in rows.carried:
                saved[op.index] = op.pick(saved[op.index], rows.carried[op.index], rows)
            sent = backward.visit(op, run, here, add)
            for at, slot, first, owned in targets:
                arriving = sent[at]
                assert arriving is not None, f"nothing was sent below {op.describe()}"
                if run.dtype is not None:
                    arriving = arriving.to(run.dtypes.get(slot, arriving.dtype))
                self._deliver(signals, slot, arriving, first, owned)
            saved[op.index] = None
            run.held.pop(op.index, None)
            del here, sent
        if (reached := signals[self.entry]) is not None:
            run.entry = reached if run.entry is None else run.entry + reached
        for slot, place in self._received.items():
            if (arrived := signals[place]) is not None:
                run.arrived[slot] = arrived
        return updates

    @staticmethod
    def _deliver(signals: list[Tensor | None], slot: int, signal: Tensor, first: bool, owned: bool) -> None:
        held = signals[slot]
        if held is None:
            signals[slot] = signal
        elif owned and held.dtype == signal.dtype:
            held.add_(signal)
        else:
            signals[slot] = held + signal

    def first_nonfinite(self, run: Run, x: Tensor) -> str | None:
        """Name the first parameter or op output of a forward pass that is not finite; None if all are."""
        for name, value in run.params.items():
            if not bool(torch.isfinite(value).all()):
                return f"parameter '{name}'"
        if not bool(torch.isfinite(x).all()):
            return "the input batch"
        for op, _, out in self.walk(run, x):
            if isinstance(out, Tensor) and out.is_floating_point() and not bool(torch.isfinite(out).all()):
                return f"the output of {op.describe()}"
        return None

    def walk(self, run: Run, x: Tensor) -> Iterator[tuple[Op, tuple[Any, ...], Any]]:
        """Run forwards slowly: yield each op with what it was given and what it returned."""
        run.batch = x.shape[0]
        values: list[Any] = [None] * self.slots
        values[self.entry] = x
        for op in self.ops:
            inputs = (*[values[slot] for slot in op.inputs], *resolve(op.extra, values))
            values[op.out] = op.forward(run, *inputs)
            yield op, inputs, values[op.out]
