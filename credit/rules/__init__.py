"""Credit-assignment rules: the contract, the options, and the families.

``credit.rules`` is this package and, called, the list of all rules' names. torch is imported when a name of `__all__` is asked for.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from credit.rules.api import build, names, options_of, rule
    from credit.rules.backward.gate_functions import gate
    from credit.rules.lfp.feedbacks import feedback
    from credit.rules.replicas import Mapped

__all__ = ["Mapped", "build", "feedback", "gate", "names", "options_of", "rule"]

_HOMES = {
    "Mapped": "credit.rules.replicas",
    "feedback": "credit.rules.lfp.feedbacks",
    "gate": "credit.rules.backward.gate_functions",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'credit.rules' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES.get(name, "credit.rules.api")), name)


class _CallablePackage(types.ModuleType):
    """Lets ``credit.rules()`` stand for ``credit.rules.names()``: importing a subpackage binds its name in ``credit``."""

    def __call__(self) -> list[str]:
        found: list[str] = self.names()
        return found


sys.modules[__name__].__class__ = _CallablePackage
