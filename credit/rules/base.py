"""The contract: a rule is what turns a batch into every trainable parameter's descent direction.

Subclass ``Rule`` and write ``compute``, a function of its arguments; everything else (gradients written, randomness,
compilation, state) is shared. Most rules are one backward pass: see ``credit.rules.backward.rule``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from credit.core.errors import UserError, nearest
from credit.core.option_sets import of_options
from credit.engine.compilation import compile_step, settings_of
from credit.engine.draws import Drawn, Draws, Noted, Request, Share
from credit.engine.guards import agreement
from credit.engine.guards.changes import Traced
from credit.engine.guards.sizes import Sample
from credit.engine.plan import Capabilities, Plan
from credit.rules import batch_checks
from credit.rules import traits as declared
from credit.rules.options import RuleOptions
from credit.rules.outcome import GROWN, Computed, Shares, Step
from credit.rules.state import Buffers, FeedbackParameters, RuleRun, Stateful, copies, places
from credit.rules.traits import Traits
from credit.rules.transforms import Transform, limiting, refuse_accumulation, transformed, write
from credit.tasks.base import Task, fitting

PRECISIONS = {"float32": None, "float64": None, "bf16": torch.bfloat16}

OWN: dict[str, Tensor] = {}
"""Stands for the model's own buffers, which a step moves."""


class Rule(Stateful):
    """Base of all rules.

    Args:
        model: an unchanged module, input tensor to the outputs of the task. It stays the model: its parameters receive ``.grad``.
        options: the rule's options by name (see ``Options``).
        seed: of the rule's own randomness (feedback matrices, dropout masks).
        example: one input batch, for rules that must know shapes before the first step.
        compile: compile the step with ``torch.compile`` as one graph; a word names a backend, or a mode such as
            ``reduce-overhead``, which replays CUDA graphs (a step then overwrites what the last one returned).
        precision: ``float32``, ``float64`` (the model must be double) or ``bf16`` (weighted ops compute in bfloat16).
        task: what the outputs mean (`credit.tasks`), by name; ``classification`` of a network whose ``output_kind`` is
            ``probability`` is ``binary``.

    Attributes:
        given: the options as they were given.
        options: all options, an instance of ``Options``, the class's frozen dataclass.
        components: by option, an instance of each component that the options name (loss, gate, ...).
        position: the number of the next step; randomness is a function of (seed, position).
        buffers: the rule's own fixed tensors by name, for example feedback matrices; settable, saved.
        feedback_parameters: parameters of the rule that steps train, by name, such as error synapses; most rules have none.
        transforms: functions (parameters, updates) -> updates, by name, applied in order.
        watch: record the signal's RMS at every weighted op.
        notes: what a user should know about this rule on this model.
        task: the task, an instance of `credit.tasks.Task`.

    Raises:
        UserError: unknown or impossible options, or a model the rule cannot take.
    """

    Options: ClassVar[type[RuleOptions]] = RuleOptions
    options: RuleOptions
    # The ``inference.growth`` that a step may return; beyond it the rule has diverged (see ``tell_divergence``).
    growth_limit: ClassVar[float] = GROWN
    name: str = "rule"
    # The shares of a batch that steps are computed on; None: the whole batch at once.
    sharing: Shares | None = None
    share: Share | None = None  # of the batch that is being computed; None: all of it

    def __init__(self, model: nn.Module, options: Mapping[str, Any] | None = None, *, seed: int = 0,
                 example: Tensor | None = None, compile: bool | str = False, precision: str = "float32",
                 task: str | Task = "classification") -> None:  # fmt: skip
        if precision not in PRECISIONS:
            raise UserError(f"precision={precision}: {nearest(precision, PRECISIONS)}")
        if not isinstance(model, nn.Module):
            raise UserError(
                f"model is a {type(model).__name__}; give a torch.nn.Module that returns its outputs, such as logits (B, classes)"
            )
        self.given = dict(options or {})
        known, label = of_options("rule", self.Options), f"rule '{self.name}'"
        values = known.check(self.given, label)
        self.options = known.make(values)
        self.components = {key: part.make(values) for key, part in known.components(values, label).items()}
        self.model, self.seed, self.task = model, seed, fitting(task, model)
        self.precision, self.dtype = precision, PRECISIONS[precision]
        self.position, self.watch = 0, False
        self.buffers, self.feedback_parameters = Buffers(), FeedbackParameters()
        self.transforms: list[Transform] = []
        label = f"the step of rule '{self.name}'"
        self._compiled = compile_step(self._functional, settings_of(compile), label) if compile else None
        self._sample = None if example is None else Sample.of(example)
        self._limits = 0  # how many of the transforms, the first ones, are the limits that the options ask for
        self._trace()
        if example is not None:
            self.prepare(example)

    def _trace(self, to_input: bool = False) -> None:
        """Make the plan of the model as it is now, and all that follows from it; own buffers and parameters stay."""
        model = self.model
        self.plan = Plan(model, Capabilities(self.options.local_autograd, to_input), sample=self._sample)
        self._agreed = self._ready = False
        declared.refuse(self)
        unit_share = self.options.clip_unit
        limits = limiting(self.options, self.plan, self.usual_clip_unit() if unit_share == "auto" else unit_share)
        self.transforms[: self._limits], self._limits = limits, len(limits)
        self.notes = [f"local autograd differentiates {op}" for op in self.plan.localised]
        self._buffer_places = places(model)
        self._params: dict[str, Tensor] = dict(model.named_parameters())
        self._requests: dict[tuple[Any, ...], dict[str, Request]] = {}
        self.buffers.settled = False
        self.setup()
        self._traced = Traced(model)  # last: a change that was refused is refused at the next step too

    def follow_model(self) -> None:
        """Trace the model anew where a submodule, parameter, mode or option of it changed since it was traced.

        Called at the start of each step. The rule's own buffers and parameters stay as they are.

        Raises:
            UserError: the changed model cannot be traced, or the step is compiled.
        """
        if not self._traced.changed():
            return
        if self.compiled:
            raise UserError(
                f"{type(self.model).__name__} changed (a layer, a parameter, requires_grad, train or eval mode, a hook) after rule "
                f"'{self.name}' was compiled for it; make the rule anew"
            )
        self._trace(self.plan.to_input)

    # ------------------------------------------------------------ what a rule writes

    def usual_clip_unit(self) -> float | None:
        """Return what ``clip_unit=auto`` stands for on this model; called before ``setup``."""
        return None

    def setup(self) -> None:
        """Adapt the plan (`Plan.adapted`) to ``self.options``; called once for every traced plan."""

    def prepare(self, x: Tensor) -> None:
        """Make what needs the input's shape; called before the first step with its batch, at the latest."""
        self._ready = True
        self.feedback_parameters.settle(self.name)
        self.buffers.settle()

    def compute(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        """Return logits, loss and updates: a function of its arguments, without autograd.

        Args:
            params: the model's (and rule's) parameters by name.
            buffers: the model's and the rule's buffers by name; BatchNorm's are moved in place.
            x: batch (B, ...).
            y: targets of the task, such as labels (B,), int64.
            draws: where random numbers come from (``draws.get(name, distribution, shape, dtype)``).
        """
        raise AssertionError(f"rule {self.name} has no compute")

    @property
    def reference(self) -> dict[str, Any]:
        """Options of `bp` that make it backprop on the rule's own loss, where that is not cross-entropy."""
        return {}

    @property
    def traits(self) -> Traits:
        """Networks and steps that the rule supports; in a subclass a property, or a class attribute."""
        return Traits()

    @property
    def freezes_norms(self) -> bool:
        """Whether steps use BatchNorm's running statistics and leave them as they are."""
        return False

    def predictor(self, model: nn.Module) -> nn.Module:
        """Return the network as evaluations ask it for its answers: itself, where it answers by its forward pass."""
        return model

    def tell_divergence(self, x: Tensor, y: Tensor) -> None:
        """Raise `InferenceDiverged`, naming op and reason, where the inference on a batch runs away; most rules infer nothing."""

    def has_grown(self, computed: Computed, x: Tensor) -> bool:
        """Whether a step's inference has diverged, as far as is known without making a GPU wait."""
        growth = computed.signals.get("inference.growth")
        return growth is not None and x.device.type == "cpu" and not float(growth) <= self.growth_limit

    @property
    def feedback_settings(self) -> dict[str, float]:
        """Settings of the optimizer for the feedback parameters, where they differ from the network's: ``lr``."""
        return {}

    # ------------------------------------------------------------ what everybody calls

    @property
    def compiled(self) -> bool:
        """Whether steps are compiled."""
        return self._compiled is not None

    def refuse_compiled(self, what: str) -> None:
        """Refuse what a compiled step does not do, such as ``return its states``, where the rule is compiled."""
        if self.compiled:
            raise UserError(
                f"rule '{self.name}' is compiled, and a compiled step does not {what}; make it without compile=True"
            )

    @property
    def keep_input_signal(self) -> bool:
        """Whether steps go on to the network's input and return the error signal there (``Step.input_signal``); settable."""
        return self.plan.to_input

    @keep_input_signal.setter
    def keep_input_signal(self, wanted: bool) -> None:
        self.refuse_compiled("go on to the input")
        if wanted != self.plan.to_input:
            # Anew: what a rule makes for the layers that a signal crosses it now needs for the first one too.
            try:
                self._trace(wanted)
            except UserError:
                self._trace(not wanted)
                raise

    def step(self, x: Tensor, y: Tensor, *, accumulate: bool = False, transform: bool = True) -> Step:
        """Run one step: fill ``.grad`` of every trainable parameter with the batch-mean descent direction.

        Args:
            x: batch (B, ...), on the model's device, floating point.
            y: targets of the task: labels (B,), int64 in [0, classes); tokens (B, T), int64; numbers (B, K).
            accumulate: add to ``.grad`` instead of overwriting it, as ``loss.backward()`` does. After n batches ``.grad`` is the
                sum of n batch means: divide it by n, or the learning rate. ``optimizer.zero_grad()`` starts the next sum.
            transform: apply the transforms, limits among them, to this batch's update; without, `transform` does so to ``.grad``.

        Raises:
            UserError: a batch or model that the step cannot take, or ``accumulate`` with limits on each batch's update.
        """
        if accumulate and transform and self._limits:
            refuse_accumulation()
        if self.sharing is None:
            computed = self.updates(x, y, OWN)
        else:
            self._follow(x, y)  # on the whole batch: a share may have a single sample
            computed = self.sharing.updates(self, x, y)
        owned = self._all_parameters()
        with torch.no_grad():
            chosen = self.transforms if transform else []
            updates = transformed(chosen, owned, computed.updates, fresh=self._makes_updates())
            write(owned, updates, accumulate=accumulate)
        self.position += 1
        return Step.of(computed)

    def transform(self) -> None:
        """Apply the transforms to what ``.grad`` has: once, after steps with ``accumulate=True, transform=False``."""
        owned = self._all_parameters()
        with torch.no_grad():
            summed = {name: p.grad for name, p in owned.items() if p.grad is not None and p.requires_grad}
            write(owned, transformed(self.transforms, owned, summed, fresh=False))

    def _makes_updates(self) -> bool:
        """Whether every update is a new tensor of its own, which transforms may change; else they get copies."""
        return False

    def updates(self, x: Tensor, y: Tensor, buffers: dict[str, Tensor] | None = None) -> Computed:
        """Return what ``step`` would use, before transforms, leaving model and gradients alone.

        Args:
            x, y: as for ``step``.
            buffers: the model's buffers to read and move; None: copies, so that nothing changes.

        Raises:
            UserError: a batch or model that the rule cannot take.
            InferenceDiverged: what the rule infers has left for infinity (on a GPU the trainer looks, from time to time).
        """
        if self.share is None:
            self._follow(x, y)
        if buffers is None or buffers is OWN:
            own = self._model_buffers()
            buffers = own if buffers is OWN else copies(own)
        computed = self._computed(x, y, buffers)
        if self.has_grown(computed, x):
            self.tell_divergence(x, y)
        return computed

    def _follow(self, x: Tensor, y: Tensor) -> None:
        """Follow changes of the model, and check the batch and, once, the plan on it."""
        self.follow_model()
        self._check_batch(x, y)
        self.check_plan(x)

    def _computed(self, x: Tensor, y: Tensor, buffers: dict[str, Tensor]) -> Computed:
        if not self._ready:
            self.prepare(x)
        self.feedback_parameters.to(next(iter(self._params.values())))  # the model was moved after the rule was made
        params = self._all_parameters()
        if any(value.device != x.device for value in self.buffers.values()):
            self.buffers.to(x.device)  # the model was moved after the rule was made
        buffers |= self.buffers
        draws = Draws(self.seed, self.position, x.device, self.share)
        try:
            with torch.no_grad():
                if self._compiled is None:
                    return self.computed(params, buffers, x, y, draws)
                tensors = draws.drawn(self._requested(params, buffers, x, y)).tensors
                return Computed(*self._compiled(params, buffers, x, y, tensors))
        except batch_checks.BROKEN as error:
            batch_checks.explain(error, self.model, x, y, self.task)
            raise

    def computed(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, draws: Any
    ) -> Computed:
        """Return what `compute` does, from and for the model's own parameters.

        ``compute`` gets weights that the model computes from other parameters (`credit.engine.weights`) by their own names, and
        its updates of such weights are sent on to those parameters. Arguments as of `compute`.
        """
        opened, pull = self.plan.weights.opened(params, buffers)
        done = self.compute(opened, buffers, x, y, draws)
        done.updates = pull(done.updates)
        return done

    def effective_params(self) -> dict[str, Tensor]:
        """Return the network's parameters by the names that ops have, computed weights among them; nothing moves."""
        opened, _ = self.plan.weights.opened(self._params, copies(self._model_buffers()))
        return opened

    def _run(self, params: dict[str, Tensor], buffers: dict[str, Tensor], draws: Any,
             plan: Plan | None = None) -> RuleRun:  # fmt: skip
        """Return a step's run on the rule's plan, or on another."""
        saved = [None] * len((plan or self.plan).ops)
        sharing = None if self.share is None or isinstance(draws, Noted) else self.sharing
        across = None if sharing is None else sharing.across
        overwrite = isinstance(draws, Draws)
        return RuleRun(params, buffers, draws, self.dtype, saved, overwrite=overwrite, across=across, sharing=sharing)

    def check_plan(self, x: Tensor) -> None:
        """Compare the plan's outputs with the model's own on the first batch (B, ...) after tracing (`agreement.check`)."""
        if not self._agreed:
            agreement.check(self.plan, self._params, self._model_buffers(), x)
            self._agreed = True

    def check_share(self, x: Tensor, share: slice) -> None:
        """Refuse a network that mixes the samples of a batch x (B, ...), of which this process has a share."""
        across = None if self.sharing is None else self.sharing.across
        agreement.check_share(self.plan, self._params, self._model_buffers(), x, share, across)

    def _functional(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, tensors: dict[str, Tensor]
    ) -> tuple[Any, ...]:
        done = self.computed(params, buffers, x, y, Drawn(tensors))
        reached = () if done.input_signal is None else (done.input_signal,)
        return done.logits, done.loss, done.updates, done.sizes, done.signals, *reached

    def functional(self, x: Tensor, y: Tensor) -> tuple[Any, tuple[Any, ...]]:
        """Return the step as a pure function and its arguments, for mapping over seeds: (function, (params, buffers, x, y, draws)).

        The function returns (logits, loss, updates, sizes, signals), fields of ``Computed``, and ``input_signal`` where it is asked
        for; buffers are copies that it moves.
        """
        self.follow_model()
        batch_checks.check_size(self.plan, x)
        if not self._ready:
            self.prepare(x)
        params = {name: p.detach() for name, p in self._all_parameters().items()}
        buffers = copies(self._model_buffers() | self.buffers)
        draws = Draws(self.seed, self.position, x.device).drawn(self._requested(params, buffers, x, y))
        return self._functional, (params, buffers, x, y, draws.tensors)

    def _requested(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> dict[str, Request]:
        """What a step on batches of this shape draws, learnt from one eager step on copies."""
        key = (tuple(x.shape), x.dtype, self.watch)
        if key not in self._requests:
            draws = Noted(self.seed, self.position, x.device)
            with torch.no_grad():
                self.computed(params, copies(buffers), x, y, draws)
            self._requests[key] = draws.requests
        return self._requests[key]

    def first_nonfinite(self, x: Tensor) -> str | None:
        """Name the first parameter or op whose value on batch ``x`` is not finite; None if all are."""
        buffers = copies(self._model_buffers()) | self.buffers
        with torch.no_grad():
            params = self.effective_params() | dict(self.feedback_parameters)
            run = self.plan.run(params, buffers, Draws(self.seed, self.position, x.device), self.dtype)
            return self.plan.first_nonfinite(run, x)

    # ------------------------------------------------------------ inside

    def _check_batch(self, x: Tensor, y: Tensor) -> None:
        weight = next(iter(self._params.values()))
        batch_checks.check(self.plan, weight, x, y, precision=self.precision, task=self.task)
