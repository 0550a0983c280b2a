"""A rule's own parameters: those that a step gives updates to beside the network's, for the optimizer to move."""

from collections.abc import Mapping

from torch import Tensor, nn

from credit.errors import UserError


class Learnt(dict[str, nn.Parameter]):
    """A rule's own parameters by name."""

    def __init__(self) -> None:
        super().__init__()
        self._loaded: set[str] | None = None
        self._asked: set[str] = set()

    def make(self, name: str, value: Tensor, model: nn.Module) -> None:
        """Add a parameter the rule begins with, unless one of that name was loaded before.

        Args:
            name: its name among the rule's parameters, and
            value: what it begins with.
            model: the network, none of whose tensors may have the name.

        Raises:
            UserError: what was loaded has another shape, or the name is taken.
        """
        if name in dict(model.named_parameters()) or name in dict(model.named_buffers()):
            raise UserError(
                f"{type(model).__name__} has a tensor '{name}', the name of one that the rule learns: give the module "
                f"'{name.partition('.')[0]}' another name"
            )
        self._asked.add(name)
        held = self.setdefault(name, nn.Parameter(value))
        if held.shape != value.shape:
            raise UserError(
                f"the rule's parameter '{name}' has shape {tuple(held.shape)}, and this network needs {tuple(value.shape)}: the "
                "state that was loaded belongs to another network, or a layer changed its shape; then make the rule and its "
                "optimizer anew"
            )

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over values before it is known which parameters the network will ask for (see ``settle``)."""
        self.update({name: nn.Parameter(value.clone()) for name, value in values.items()})
        self._loaded = set(values)

    def settle(self, rule: str) -> None:
        """Hold what was loaded against what was asked for since.

        Raises:
            UserError: they are not the same parameters.
        """
        if self._loaded is not None and self._loaded != self._asked:
            raise UserError(
                f"the state loaded into rule '{rule}' belongs to another rule, wiring or network: it has "
                f"{sorted(self._loaded)[:4]}, and this one needs {sorted(self._asked)[:4]}"
            )

    def to(self, like: Tensor) -> None:
        """Move every parameter to the device and type of ``like``, as `nn.Module.to` does: they stay the same objects."""
        for value in self.values():
            if value.device != like.device or value.dtype != like.dtype:
                value.data = value.data.to(like)
