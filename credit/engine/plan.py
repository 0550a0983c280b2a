"""The plan: a traced network that runs forwards and sends a signal back, without autograd.

    plan = Plan(model)                       # trace, verify
    run = plan.run(params, buffers, draws)   # one step's arguments
    logits = plan.forward(run, x)
    updates = plan.sweep(run, signal, rule)  # parameter name -> descent direction

A rule takes part in the sweep through the methods of ``Sweeper``; ``Sweeper`` itself is backprop.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Run, Signals, has_ref, resolve, slots_in
from credit.engine.ops.norms import Norm
from credit.engine.ops.shapes import Shape, Value
from credit.engine.ops.spiking import Lif
from credit.engine.ops.weighted import Weighted
from credit.engine.trace import trace

Portion = list[tuple[Op, list[tuple[int, int, bool, bool]]]]
"""Ops in the order of a sweep, each with the inputs that get a signal: (which, slot, is it the first there, is it owned)."""


class Sweeper:
    """What a rule does differently from backprop while a signal passes. Every method may overwrite an exclusive signal."""

    # Whether the rule reads the output signal again while the sweep goes on, so that nothing may overwrite it.
    keeps_output = False

    def keeps(self, op: Activate) -> set[str]:
        """What of an activation ``gate`` will need: ``input``, ``output``."""
        return {op.function.keeps}

    def holds(self, op: Op) -> tuple[bool, bool]:
        """Whether ``visit`` reads an op's (inputs, output) in ``run.held``, beside what the op keeps for its adjoint."""
        return False, False

    def visit(self, op: Op, run: Run, signal: Tensor, add: Callable[[Iterable[tuple[str, Tensor]]], None]) -> Signals:
        """Send a signal through one op: hand its updates to ``add`` and return the signals of its inputs.

        The methods below are what most rules change of it.
        """
        if isinstance(op, Weighted):
            signal = self.arrive(op, run, signal)
            add(op.updates(run, signal))
            shares = op.shares(run, signal)
            return (self.cross(op, run, signal) if op.wants[0] else None, *shares)
        if isinstance(op, Activate):
            return (self.gate(op, run, signal),) if op.wants[0] else (None,)
        if isinstance(op, Norm):
            sent, made = op.both(run, signal)
            add(made)
            return (sent,)
        if op.trains:
            add(op.updates(run, signal))
        return op.adjoint(run, signal) if any(op.wants) else (None,) * len(op.wants)

    def arrive(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        """Change a signal on its arrival at a weighted op, before it updates the weights and crosses them."""
        return signal

    def gate(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
        """Send a signal through an activation."""
        passed = op.adjoint(run, signal)[0]
        assert passed is not None
        return passed

    def cross(self, op: Weighted, run: Run, signal: Tensor) -> Tensor:
        """Send a signal across a weighted op to its input."""
        return op.back(run, signal, op.weight(run))


class Plan:
    """A traced network.

    Args:
        model: an unchanged module taking one tensor and returning logits (B, classes).
        local_autograd: let ops without a row be differentiated by autograd, one op at a time.

    Attributes:
        ops: all ops in order of execution.
        back: the ops that a sweep visits, last first.
        trainable: names of the parameters that receive an update.
        localised: the ops left to local autograd, by name.
        to_input: whether a sweep goes on to the network's input (see ``sweep_to_input``).
        cuts: ops at whose outputs signals stop (see ``cut``).
        stopped: ops that a gradient would pass or reach if forward did not stop it there (``torch.no_grad()``, ``detach``).
        kept: ops, by index, that keep what they save even where no signal crosses them; settable before ``configure``.

    Raises:
        UserError: the model cannot be traced, an op has no row, or a trainable parameter takes no part.
    """

    def __init__(self, model: nn.Module, *, local_autograd: bool = False) -> None:
        self.model = model
        self.ops, self.slots, self.entry, self.exit, self.localised = trace(model, local=local_autograd)
        self._live_ops()
        shared = dict(model.named_parameters(remove_duplicate=False))
        names = {id(p): name for name, p in model.named_parameters()}
        self.alias = {name: names[id(p)] for name, p in shared.items()}
        self.trainable = [name for name, p in model.named_parameters() if p.requires_grad]
        self.to_input = False
        self.cuts: dict[int, bool] = {}
        self.heard: dict[int, int] = {}
        self.kept: set[int] = set()
        self._mark_trainable()
        self._verify()
        self.configure(Sweeper())

    # ------------------------------------------------------------ analysis

    def _live_ops(self) -> None:
        """Drop what the output does not depend on, and number what is left."""
        needed, kept = {self.exit}, []
        for op in reversed(self.ops):
            if op.out in needed:
                kept.append(op)
                needed |= set(op.inputs) | slots_in(op.extra)
        self.ops = kept[::-1]
        for at, op in enumerate(self.ops):
            op.index = at

    def _mark_trainable(self) -> None:
        """Find which values depend on a trainable parameter: only those receive signals."""
        trainable, carries = set(self.trainable), {self.entry: self.to_input}
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
                carries[op.out] = carries[op.out] and op.out in self.heard
        reached, self.back = {self.exit}, []
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
        missing = [name for name in self.trainable if name not in used]
        if missing:
            raise UserError(
                f"{type(self.model).__name__}: {len(missing)} trainable parameter(s) take no part in the traced forward pass: "
                f"{', '.join(missing[:6])}. Freeze them (requires_grad_(False)) or use them in forward().{self._stopped_at()}"
            )

    def _stopped_at(self) -> str:
        """Say where forward stops gradients, for the error about parameters that get none."""
        if not self.stopped:
            return ""
        return f" Gradients stop at {self.stopped[0].describe()}, which forward() computes under torch.no_grad() or detaches."

    def sweep_to_input(self, wanted: bool) -> None:
        """Let sweeps go on to the network's input and leave its signal in ``run.entry``; ``configure`` must follow."""
        self.to_input = wanted
        self._mark_trainable()

    def cut(self, ops: Iterable[Activate], *, inside: bool, heard: Iterable[Activate] = ()) -> None:
        """Let signals stop at the outputs of some activations, where signals of their own begin; ``configure`` must follow.

        Args:
            ops: the activations.
            inside: their own signals begin at their outputs and pass the activation; else at their inputs.
            heard: those of them whose arriving signal is left in ``run.arrived`` by output slot; all other ones are not computed.
        """
        self.cuts = {op.index: inside for op in ops}
        self.heard = {op.out: self.slots + at for at, op in enumerate(heard)}
        self._mark_trainable()
        self._verify()

    def configure(self, sweeper: Sweeper) -> None:
        """Settle what is kept, what may be overwritten and when values are dropped, for one rule."""
        readers: dict[int, list[Op]] = {}
        for op in self.ops:
            for slot in {*op.inputs, *slots_in(op.extra)}:
                readers.setdefault(slot, []).append(op)
        maker = {op.out: op for op in self.ops}
        for op in self.ops:
            if isinstance(op, Activate):
                op.keeps = frozenset(sweeper.keeps(op)) if any(op.wants) else frozenset()
            if isinstance(op, Activate | Lif):
                source = maker.get(op.inputs[0])
                op.overwrite = source is not None and source.fresh and len(readers[op.inputs[0]]) == 1
        self._holds = {op.index: held for op in self.back if any(held := sweeper.holds(op))}
        self._order(readers)
        self._ownership(not sweeper.keeps_output)

    def _order(self, readers: dict[int, list[Op]]) -> None:
        last = {slot: max(op.index for op in ops) for slot, ops in readers.items()}
        drops: dict[int, list[int]] = {}
        for slot, index in last.items():
            drops.setdefault(index, []).append(slot)
        swept = {op.index for op in self.back} | set(self.cuts) | self.kept
        self._forward = [
            (op, op.inputs, op.extra, has_ref(op.extra), op.out, drops.get(op.index, []), op.index in swept)
            for op in self.ops
        ]

    def _ownership(self, output_owned: bool) -> None:
        """Decide for every signal whether its holder owns it alone, so that it may be overwritten."""
        starts = {op.out if self.cuts[op.index] else op.inputs[0] for op in self.ops if op.index in self.cuts}
        owned, given = {self.exit: output_owned} | dict.fromkeys(starts, True), set(starts)
        self._backward: Portion = []
        for op in self.back:
            op.exclusive = owned.get(op.out, False)
            targets = []
            wanted = [(at, slot) for at, (slot, want) in enumerate(zip(op.inputs, op.wants, strict=True)) if want]
            for at, source in wanted:
                slot = self.heard.get(source, source)
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
        """Return the logits (B, classes) of a batch x (B, ...), keeping in ``run`` what the sweep needs."""
        run.batch = x.shape[0]
        values: list[Any] = [None] * self.slots
        values[self.entry] = x
        holds = self._holds
        for op, inputs, extra, dynamic, out, drops, swept in self._forward:
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
            if not swept:
                run.saved[op.index] = None
            for slot in drops:
                values[slot] = None
        logits: Tensor = values[self.exit]
        return logits

    def sweep(self, run: Run, signal: Tensor, sweeper: Sweeper) -> dict[str, Tensor]:
        """Send ``signal`` (B, classes) back and return every trainable parameter's update.

        Values saved by the forward pass are dropped as the sweep passes. Where ``run.rows`` says which samples have a
        signal (see ``credit.engine.activity``), ``signal`` holds theirs alone: (their count, classes).
        """
        if run.rows is not None and run.rows.count == 0:
            run.saved[:] = [None] * len(run.saved)
            return {name: torch.zeros_like(run.params[name]) for name in self.trainable}
        starts = {self.exit: signal}
        del signal  # its memory is the sweep's alone
        return self.sweep_from(run, starts, sweeper)

    def portion(self, ops: Collection[int]) -> "Portion":
        """Return the part of a sweep that visits these ops alone, by index; ``configure`` comes before."""
        return [entry for entry in self._backward if entry[0].index in ops]

    def sweep_from(
        self, run: Run, starts: dict[int, Tensor], sweeper: Sweeper, part: "Portion | None" = None
    ) -> dict[str, Tensor]:
        """Send signals back from several slots at once and return the updates of the parameters they meet.

        Args:
            run: the step's, after its forward pass.
            starts: signals by the slots they begin at: the exit, and those of the activations that the plan is cut at. They are
                taken out of the dict and may be written over.
            sweeper: what the rule does differently.
            part: ops to visit (see ``portion``); None: all.
        """
        signals: list[Tensor | None] = [None] * (self.slots + len(self.heard))
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
            sent = sweeper.visit(op, run, here, add)
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
        for slot, place in self.heard.items():
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
