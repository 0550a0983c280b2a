"""The tracer of forward passes: that of torch.fx, which also records ops in place and stopped gradients."""

import operator
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import fx, nn

from credit.engine.guards.sizes import Sample, Sizes
from credit.engine.guards.tracing import gradient_stopped
from credit.engine.rows import table
from credit.engine.rows.recurrent import written_out

AUGMENTED = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
}


class _Proxy(fx.Proxy):
    """Records ``x += y`` as what it is: fx's own proxy takes it for ``x + y``, though it changes x for other readers.

    Where Python needs a number or a truth, the example's is given (`Sizes`).
    """

    tracer: Any

    def __len__(self) -> int:
        return int(self.tracer.sizes.same(self.node, len))

    def __int__(self) -> int:
        return int(self.tracer.sizes.same(self.node, int))

    def __float__(self) -> float:
        return float(self.tracer.sizes.same(self.node, float))

    def __index__(self) -> int:
        return int(self.tracer.sizes.same(self.node, operator.index))


def _augment(target: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda self, other: self.tracer.create_proxy("call_function", target, (self, other), {})


for _target in AUGMENTED:
    setattr(_Proxy, f"__{_target.__name__.rstrip('_')}__", _augment(_target))


STOPPED = "gradient_stopped"
"""Key in a traced node's ``meta``: whether the node was made while gradients were disabled."""


class Tracer(fx.Tracer):
    """Records a forward pass.

    Args:
        opened: modules of the table's classes that are looked into.
        sample: of the input, for a forward pass that branches on its size; with it torch's recurrent modules are written out.
    """

    # A buffer is read at each step, not written into the plan as a constant.
    proxy_buffer_attributes = True

    def __init__(self, opened: Collection[nn.Module] = (), sample: Sample | None = None) -> None:
        super().__init__(autowrap_functions=table.functions())
        self.leaves, self.opened, self.recurrent = table.leaves(), opened, sample is not None
        self.sizes, self._computing = Sizes(sample, self._on_fakes), False

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.sizes.same(obj.node, bool))

    def iter(self, obj: Any) -> Iterator[Any]:
        return (obj[at] for at in range(len(obj)))

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._computing:
            return forward(*args, **kwargs)
        if self.recurrent and type(m) in (nn.RNN, nn.GRU, nn.LSTM) and "forward" not in vars(m):
            return written_out(m, *args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        return attr_val if self._computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def _on_fakes(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """Return the value of a node on fake tensors; modules are called as they are, without being traced."""
        before, self._computing = self._computing, True
        try:
            if node.op == "call_module":
                module = self.root.get_submodule(str(node.target))
                state = {name: value.clone() for name, value in module.named_buffers()}  # which the module moves
                return torch.func.functional_call(module, state, args, kwargs)
            return getattr(fx.Interpreter(self.root, graph=node.graph), node.op)(node.target, args, kwargs)
        finally:
            self._computing = before

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        if kind.startswith("call"):  # what is read (get_attr) is the parameter itself, wherever forward reads it
            node.meta[STOPPED] = gradient_stopped(self.root)
        return node

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            (isinstance(m, self.leaves) and m not in self.opened)
            or hasattr(m, "activation_kind")
            or hasattr(m, "spiking_kind")
            or super().is_leaf_module(m, module_qualified_name)
        )
