"""Any rule in anyone's training loop: a module whose loss has the rule's updates as its gradients.

    net = credit.wrap(model, rule="lisp_margin")
    loss = net(x, y)                 # the batch's loss
    loss.backward()                  # adds the rule's updates, times the loss's gradient, to .grad
    optimizer.step()

``net(x)`` is the model's output. Gradients are added as by any loss, so accumulation, gradient scaling, DistributedDataParallel
and the loops of Lightning, transformers, Accelerate and timm work as they are.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle

from credit.core.errors import UserError
from credit.rules import api
from credit.rules.base import OWN, Rule
from credit.rules.outcome import Computed, Step
from credit.tasks.base import Task


class _Updates(torch.autograd.Function):
    """The loss of a rule's step; its backward returns the loss's gradient times the step's updates."""

    @staticmethod
    def forward(ctx: Any, done: Computed, names: list[str], *params: Tensor) -> Tensor:
        found = [done.updates.get(name) for name in names]
        ctx.absent = [value is None for value in found]
        ctx.types = [p.dtype for p in params]
        ctx.save_for_backward(*(value for value in found if value is not None))
        return done.loss.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        saved = iter(ctx.saved_tensors)
        updates = [None if absent else next(saved) for absent in ctx.absent]
        return None, None, *(None if u is None else (u * grad).to(t) for u, t in zip(updates, ctx.types, strict=True))


class Wrapped(nn.Module):
    """A model with a rule, as a module whose loss is differentiated by the rule; see `wrap`.

    Its parameters are the model's and the rule's own (feedback weights that learn), its ``state_dict`` has besides them the rule's
    buffers and the number of its next step.

    Args:
        rule: on its model.

    Attributes:
        model, rule: as given.
        outcome: of the last training step (`credit.Step`): logits and statistics. None before it.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.model, self.rule = rule.model, rule
        self.outcome: Step | None = None
        self.feedback = nn.Module()
        self._attached: RemovableHandle | None = None
        dict(rule.named_parameters())  # refused where their shapes are not known yet
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self._adopt()
        self.register_state_dict_pre_hook(_write_position)
        self.register_load_state_dict_post_hook(_read_position)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_attached": None}  # a copy has no part in the original's optimizer

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._adopt()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the model's output on x, or with y the batch's loss (0-d), whose gradients are the rule's updates.

        Without gradients (`torch.no_grad`) the loss alone is computed, and nothing moves.

        Args:
            x: batch (B, ...), on the model's device: floating point, or tokens.
            y: targets of the task, such as labels (B,), int64.

        Raises:
            UserError: a batch that the rule cannot take, or limits on updates without an attached optimizer.
        """
        if self.rule.model is not self.model:
            raise UserError(
                "nn.DataParallel copies the model, and the rule stays with the original; use DistributedDataParallel"
            )
        if y is None:
            out: Tensor = self.model(x)
            return out
        _refuse_transforms()
        self._adopt()
        dtype = _autocast(x.device.type) or self.rule.dtype
        with torch.autocast(x.device.type, enabled=False):
            if not torch.is_grad_enabled():
                return self._computed(x, y, None, dtype).loss
            self._refuse(x)
            ready = self.rule._ready
            done = self._computed(x, y, OWN, dtype)
            if not ready:
                self._adopt()
            # Looked up after the step, which follows changes of the model.
            trained = {name: p for name, p in self.rule._all_parameters().items() if p.requires_grad}
            loss: Tensor = _Updates.apply(done, list(trained), *trained.values())
        self.outcome = Step.of(done)
        self.rule.position += 1
        return loss

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Apply the rule's limits and other transforms of updates at each ``optimizer.step()``, to what ``.grad`` has then.

        With ``optimizer.step(closure)`` they are applied after each call of the closure. One optimizer is attached at a time: the
        one before is released.

        Raises:
            UserError: the optimizer lacks trainable parameters of the network or of the rule.
        """
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        lacking = [name for name, p in self.rule._all_parameters().items() if p.requires_grad and id(p) not in held]
        if lacking:
            raise UserError(
                f"net.attach(optimizer): the optimizer lacks {', '.join(lacking[:4])}{' and more' * (len(lacking) > 4)}, whose "
                "updates the rule limits with the others or computes from them; make it with net.parameters(), or freeze what is "
                "not to be trained (requires_grad_(False))"
            )
        if self._attached is not None:
            self._attached.remove()
        self._attached = optimizer.register_step_pre_hook(self._before_optimizer)

    def _before_optimizer(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Transform ``.grad`` before an optimizer's step, or let its closure, which computes ``.grad``, do so."""
        if getattr(optimizer, "grad_scale", None) is not None:
            raise UserError(
                f"a gradient scaler leaves unscaling to {type(optimizer).__name__} (fused=True), and limits would act on scaled "
                "gradients; write scaler.unscale_(optimizer) before scaler.step(optimizer)"
            )
        closure = kwargs["closure"] if "closure" in kwargs else next(iter(args[1:]), None)
        if closure is None:
            self.rule.transform()
            return None

        def limited() -> Any:
            loss = closure()
            self.rule.transform()
            return loss

        return args[:1], kwargs | {"closure": limited}

    def _computed(self, x: Tensor, y: Tensor, buffers: dict[str, Tensor] | None, dtype: torch.dtype | None) -> Computed:
        before, self.rule.dtype = self.rule.dtype, dtype
        try:
            return self.rule.updates(x, y, buffers)
        finally:
            self.rule.dtype = before

    def _refuse(self, x: Tensor) -> None:
        if x.requires_grad:
            raise UserError("net(x, y): x requires a gradient, and the loss has none for it; give x.detach()")
        if torch._C._current_graph_task_id() != -1:  # inside of a backward pass
            raise UserError(
                "net(x, y) under torch.utils.checkpoint would make the step twice, with other dropout masks and two moves of "
                "BatchNorm; call it outside: its loss keeps the updates alone, and no activations"
            )
        if self.rule.transforms and self._attached is None:
            raise UserError(
                f"rule '{self.rule.name}' changes updates (limits such as rule.clip, or feedback weights that learn) when the "
                "optimizer gets them; write net.attach(optimizer) once the optimizer is made"
            )

    def _adopt(self) -> None:
        """Let the rule's own tensors be parameters and buffers of this module, and the rule read those: `to` replaces them."""
        rule, own = self.rule, self.feedback
        for name, parameter in rule._owned().items():
            if _key(name) in own._parameters:
                rule.feedback_parameters[name] = own.get_parameter(_key(name))
            else:
                own.register_parameter(_key(name), parameter)
        for name, value in list(rule.buffers.items()):
            if _key(name) in own._buffers:
                rule.buffers[name] = own.get_buffer(_key(name))
            else:
                own.register_buffer(_key(name), value)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        # Buffers whose shapes follow from an input that the rule has not seen.
        self.get_buffer("position").fill_(self.rule.position)  # stays where the state has none
        start = f"{prefix}feedback."
        if not self.rule._ready:
            for key in [key for key in state_dict if key.startswith(start)]:
                word = key.removeprefix(start)
                if word not in self.feedback._buffers and word not in self.feedback._parameters:
                    self.feedback.register_buffer(word, state_dict[key].clone())
                    self.rule.buffers[word.replace(_DOT, ".")] = self.feedback.get_buffer(word)
        super()._load_from_state_dict(state_dict, prefix, *more)


_DOT = "/"
"""In place of the dots in the names of the rule's tensors, which torch allows in no name of its own."""


def _autocast(kind: str) -> torch.dtype | None:
    """Return the type that an autocast region around the call asks for, on a type of devices; None outside of one."""
    if not torch.is_autocast_enabled(kind):
        return None
    dtype = torch.get_autocast_dtype(kind)
    if dtype != torch.bfloat16:
        raise UserError(
            f"net(x, y) under torch.autocast of {dtype}: error signals carry 1 / batch and vanish in float16; write "
            "torch.autocast(..., dtype=torch.bfloat16), for which no gradient scaler is needed"
        )
    return dtype


def _refuse_transforms() -> None:
    if torch._C._are_functorch_transforms_active():
        raise UserError(
            "net(x, y) inside torch.func.grad, vmap or another transform of torch.func: a rule's step is not differentiated or "
            "mapped from outside; map over function, arguments = net.rule.functional(x, y), whose third output is the updates "
            "(examples/torch_func.py). net(x), the model's output, can be transformed"
        )


def _key(name: str) -> str:
    return name.replace(".", _DOT)


def _write_position(module: Any, prefix: str, keep_vars: bool) -> None:
    module._adopt()
    module.get_buffer("position").fill_(module.rule.position)


def _read_position(module: Any, keys: Any) -> None:
    module.rule.position = int(module.get_buffer("position"))


def wrap(model: nn.Module, rule: str = "bp", *, seed: int = 0, example: Tensor | None = None, compile: bool | str = False,
         precision: str = "float32", task: str | Task = "classification", **options: Any) -> Wrapped:  # fmt: skip
    """Return a model as a module whose loss is differentiated by a rule, for any training loop.

    Arguments as of `credit.rule`. Rules whose own parameters have shapes that follow from the input's need an ``example``.

    >>> net = credit.wrap(model, "lisp_margin", clip=0.1)                      # doctest: +SKIP
    >>> net.attach(optimizer)                                                  # doctest: +SKIP
    >>> net(x, y).backward(); optimizer.step(); optimizer.zero_grad()          # doctest: +SKIP
    """
    more: dict[str, Any] = {"seed": seed, "compile": compile, "precision": precision, "task": task}
    return Wrapped(api.rule(rule, model, example=example, **more, **options))
