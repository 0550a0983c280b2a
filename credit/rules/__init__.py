"""Credit-assignment rules: the contract, the registry, and the families.

``credit.rules`` is this package and, called, the list of all rules' names.
"""

import sys
import types

from credit.rules.api import build, names, options_of, rule
from credit.rules.backward.gate_functions import gate
from credit.rules.lfp.feedbacks import feedback
from credit.rules.replicas import Mapped

__all__ = ["Mapped", "build", "feedback", "gate", "names", "options_of", "rule"]


class _CallablePackage(types.ModuleType):
    """Lets ``credit.rules()`` stand for ``credit.rules.names()``: importing a subpackage binds its name in ``credit``."""

    def __call__(self) -> list[str]:
        return names()


sys.modules[__name__].__class__ = _CallablePackage
