"""Several replicas of one rule in one step: ``torch.func.vmap`` over stacked parameters, buffers and batches.

    together = Mapped([credit.rule("bp", model) for model in models])
    optimizer = torch.optim.SGD(together.parameters(), lr=0.1)
    together.step(x, y)              # x (replicas, B, ...), y (replicas, B)
    optimizer.step()                 # every model has moved

Each replica's own module goes on being the truth about it: its parameters and buffers become views of the stacks, so that
evaluation, checkpoints and digests of one replica need to know nothing of the others.
"""

import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map

from credit.core.errors import UserError
from credit.engine.compilation import compile_step, settings_of
from credit.engine.draws import Draws
from credit.engine.ops.base import Op
from credit.rules import batch_checks
from credit.rules.base import Computed, Rule, Step
from credit.rules.state import FeedbackParameters, copies
from credit.rules.transforms import Transform, transformed, write

UNMAPPABLE = (RuntimeError, ValueError, TypeError, AttributeError, UserWarning)
"""What a step raises that torch cannot map; a warning says that it would loop over the replicas instead."""


class Mapped:
    """The replicas of one rule as one step.

    Args:
        rules: rules of one kind on networks of one architecture, one a replica; their own parameters and their models'
            are moved into common storage.
        compiled: compile the mapped step as one graph, as of `Rule`.

    Attributes:
        rules: as given.
        position: the number of the next step, of every replica.
        weights, own: the stacked parameters of the models and of the rules, by name: (replicas, ...).

    Raises:
        UserError: no rule, or two that differ in more than their seed and the values of their weights.
    """

    def __init__(self, rules: Sequence[Rule], *, compiled: bool | str = False) -> None:
        self.rules = list(rules)
        _refuse_unlike(self.rules)
        self.position = self.rules[0].position
        self._settings = settings_of(compiled) if compiled else None
        self._recorded: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self._stack()

    def _stack(self) -> None:
        first = self.rules[0]
        own = [dict(rule.named_parameters()) for rule in self.rules]
        self.weights = _together([rule._params for rule in self.rules])
        self.own = _together(own)
        self._buffers: dict[str, Tensor] = {}
        for name, _, _ in first._buffer_places:
            self._buffers[name] = torch.stack([rule._model_buffers()[name] for rule in self.rules])
        for at, rule in enumerate(self.rules):
            for name, held, key in rule._buffer_places:
                held[key] = self._buffers[name][at]
        self._fixed = self._stacked_feedback()

    def _stacked_feedback(self) -> dict[str, Tensor]:
        """Return the rules' fixed tensors, which no step moves: copies will do."""
        return {name: torch.stack([rule.buffers[name] for rule in self.rules]) for name in self.rules[0].buffers}

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the stacked parameters, the models' first: what an optimizer that treats every element alike trains."""
        yield from self.weights.values()
        yield from self.own.values()

    def step(self, x: Tensor, y: Tensor) -> Step:
        """Run one step of every replica: fill ``.grad`` of the stacked parameters.

        Args:
            x: batches (replicas, B, ...).
            y: labels (replicas, B), int64.

        Returns:
            The step's outcome with the replicas along the first dimension of everything.

        Raises:
            UserError: batches that do not fit the rules.
        """
        rule = self.rules[0]
        count = len(self.rules)
        if x.dim() < 2 or y.dim() != 2 or len(x) != count or len(y) != count:
            raise UserError(
                f"step(x, y): x is {tuple(x.shape)} and y {tuple(y.shape)}; {count} replicas take x ({count}, B, ...) and "
                f"y ({count}, B), one batch each"
            )
        if any(each._traced.changed() for each in self.rules):
            raise UserError(
                "a network changed (a layer, a parameter, requires_grad, train or eval mode, a hook) after Mapped(rules) was made; "
                "make the rules and Mapped anew"
            )
        rule._check_batch(x.flatten(0, 1), y.flatten())
        for at, each in enumerate(self.rules):
            each.check_plan(x[at])
        if not rule._ready:
            for at, each in enumerate(self.rules):
                each.prepare(x[at])
            self._fixed = self._stacked_feedback()
        done = self.computed(x, y)
        owned: dict[str, nn.Parameter] = self.weights | self.own
        transforms = [
            _joint(one, same=at < rule._limits or isinstance(one[0], FeedbackParameters))
            for at, one in enumerate(zip(*(each.transforms for each in self.rules), strict=True))
        ]
        with torch.no_grad():
            params = {name: value.detach() for name, value in owned.items()}
            updates = transformed(transforms, params, done.updates, fresh=rule._makes_updates())
            write(owned, updates)
        self.position += 1
        for each in self.rules:
            each.position = self.position
        return Step.of(done)

    def computed(self, x: Tensor, y: Tensor, rules: Sequence[Rule] | None = None) -> Computed:
        """Return what a step computes, with the replicas along the first dimension of everything.

        Args:
            x, y: as for `step`.
            rules: other rules without buffers or parameters of their own, on the same models; buffers of the models then stay.
        """
        stepping = self.rules if rules is None else list(rules)
        params = {name: value.detach() for name, value in (self.weights | self.own).items()}
        buffers = self._buffers | self._fixed if rules is None else copies(self._buffers)
        one, moved = ({name: value[0] for name, value in part.items()} for part in (params, buffers))
        try:
            with torch.no_grad():
                requests = stepping[0]._requested(one, moved, x[0], y[0])
                draws = [Draws(each.seed, self.position, x.device) for each in stepping]
                drawn = {
                    name: torch.stack([draw.get(name, *request) for draw in draws])
                    for name, request in requests.items()
                }
                return Computed(*self._function(stepping[0], x)(params, buffers, x, y, drawn))
        except batch_checks.BROKEN as error:
            for at, each in enumerate(self.rules):
                batch_checks.explain(error, each.model, x[at], y[at], each.task)
            raise

    def show_updates(self, at: int) -> None:
        """Let one replica's own parameters have their share of the updates as ``.grad``, as after a step of its own."""
        own = self.rules[at]._all_parameters()
        for name, stacked in (self.weights | self.own).items():
            own[name].grad = None if stacked.grad is None else stacked.grad[at]

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some of the replicas alone; stacks are made anew, also of the updates of the last step."""
        grads = {name: stacked.grad for name, stacked in (self.weights | self.own).items()}
        self.rules = [self.rules[at] for at in places]
        self._stack()
        for name, stacked in (self.weights | self.own).items():
            grad = grads[name]
            stacked.grad = None if grad is None else grad[list(places)]

    def _function(self, rule: Rule, x: Tensor) -> Callable[..., Any]:
        """Return a rule's mapped step for batches of this shape: recorded once, replayed without vmap's own cost a call."""
        key = (id(rule), tuple(x.shape), x.dtype, rule.watch)
        if key not in self._recorded:
            mapped = torch.func.vmap(rule._functional)
            label = f"the step of {len(self.rules)} replicas of rule '{rule.name}'"
            self._recorded[key] = (
                _recording(mapped) if self._settings is None else compile_step(mapped, self._settings, label)
            )
        return self._recorded[key]


def _joint(transforms: Sequence[Transform], *, same: bool) -> Transform:
    """Return a transform of each of several rules as one of stacks (replicas, ...).

    Args:
        transforms: one of each rule.
        same: they do the same, as those that options ask for. A user's own need not, unless they are one object.
    """
    if hasattr(transforms[0], "together") and (same or all(one is transforms[0] for one in transforms)):
        together: Transform = transforms[0].together
        return together

    def each(parameters: Mapping[str, Tensor], updates: dict[str, Tensor]) -> dict[str, Tensor]:
        for at, transform in enumerate(transforms):
            share = {name: update[at] for name, update in updates.items()}
            for name, update in transform({name: p[at] for name, p in parameters.items()}, share).items():
                updates[name][at] = update
        return updates

    return each


def _refuse_unlike(rules: Sequence[Rule]) -> None:
    """Refuse rules of which the first cannot stand for all."""
    if not rules:
        raise UserError("Mapped([]): there is no rule; give one for each replica")
    first = _traits(rules[0])
    weights: dict[int, int] = {}
    for at, rule in enumerate(rules):
        if getattr(rule, "keep_errors", False):
            raise UserError(
                f"Mapped(rules): rule {at} keeps its errors, which a mapped step does not return; set rule.keep_errors = False, "
                "or step each rule by itself"
            )
        for trait, value in _traits(rule).items():
            if value != first[trait]:
                raise UserError(
                    f"Mapped(rules): rules 0 and {at} differ in their {trait}, and one step has to serve both: replicas may differ "
                    "in their seed and in the values of their weights alone"
                )
        for name, value in rule._params.items():
            other = weights.setdefault(id(value), at)
            if other != at:
                raise UserError(
                    f"Mapped(rules): rules {other} and {at} train the same '{name}': give each replica a network of its own"
                )


def _traits(rule: Rule) -> dict[str, Any]:
    """Return what replicas have in common, by the words for it."""
    weights = {name: (p.shape, p.dtype, p.requires_grad) for name, p in rule._params.items()}
    plain = (str, int, float, list, tuple)
    ops = [
        (op.kind, op.name, op.inputs, op.params, {k: str(v) for k, v in op.args.items() if isinstance(v, plain)})
        for op in rule.plan.ops
    ]
    own = {
        "name": rule.name,
        "options": rule.given,
        "precision": rule.precision,
        "keep_input_signal": rule.keep_input_signal,
    }
    made = {name: one.like() for name, one in rule.plan.weights.items()}
    return own | {"weights' names, shapes or types": weights, "networks": ops, "parametrizations": made}


def why_not(rule: Rule, x: Tensor, y: Tensor) -> str | None:
    """Return why a rule's step cannot be mapped over replicas, naming the op; None where it can.

    Args:
        rule: on its model, which is left as it is.
        x, y: one batch (B, ...), (B,), of two or more samples.
    """
    try:
        function, arguments = rule.functional(x, y)
        twice = tree_map(lambda value: torch.stack([value, value]), arguments)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            torch.func.vmap(function)(*twice)
    except UNMAPPABLE as error:
        where = _op_of(error)
        told = str(error).splitlines()[0].partition(". ")[0] if str(error) else type(error).__name__
        if isinstance(error, UserError):
            return told
        return f"{'its step' if where is None else where.describe()} cannot be mapped by torch ({told})"
    return None


def _op_of(error: BaseException) -> Op | None:
    """Return the op whose work raised: the innermost frame of the plan that holds one knows."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        op = frame.f_locals.get("op", frame.f_locals.get("self"))
        if isinstance(op, Op):
            found = op
    return found


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, nn.Parameter]:
    """Stack parameters by name and make each one a view of its stack."""
    stacks = {}
    for name, first in parts[0].items():
        stack = nn.Parameter(torch.stack([part[name].detach() for part in parts]), requires_grad=first.requires_grad)
        for at, part in enumerate(parts):
            part[name].data = stack.data[at]
        stacks[name] = stack
    return stacks


def _recording(mapped: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that records the ops of ``mapped`` at its first call and replays them from then on.

    A step is a function of its arguments and vmap lets no value decide its course, so that one recording holds for all
    steps of these shapes. Measured with twenty replicas of a small MLP: 0.75 of vmap's time.
    """
    recorded: list[Any] = []

    def call(params: Any, buffers: Any, *rest: Any) -> Any:
        if not recorded:
            copies = {
                name: value.clone() for name, value in buffers.items()
            }  # recording runs the step, and steps move them
            recorded.append(make_fx(lambda *given: mapped(*given))(params, copies, *rest))
        return recorded[0](params, buffers, *rest)

    return call
