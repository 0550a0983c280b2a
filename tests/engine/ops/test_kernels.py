"""Kernel tests: forward and adjoint of every row of the table (linear, convolutions, group norm, ...) against autograd in float64.

The tests walk the table itself, so a row without a case fails.
"""

from typing import Any

import pytest
from torch import nn

from credit.engine import trace
from credit.engine.builder import function_name
from credit.engine.rows import table
from tests.support import attention_cases, elementwise_cases, layer_cases, value_cases, weighted_cases
from tests.support.harness import assert_equal

CASES: dict[Any, list[Any]] = {
    **layer_cases.MODULES,
    **layer_cases.ACTIVATION_FUNCTIONS,
    **value_cases.FUNCTIONS,
    **value_cases.METHODS,
    **attention_cases.MODULES,
    **attention_cases.FUNCTIONS,
    **attention_cases.BY_NAME,
    **elementwise_cases.FUNCTIONS,
    **elementwise_cases.METHODS,
    **weighted_cases.FUNCTIONS,
    **weighted_cases.METHODS,
    **weighted_cases.NORMS,
    **weighted_cases.EMBEDDINGS,
    "activation_kind": layer_cases.NAMED,
    "spiking_kind": layer_cases.SPIKING,
}
ROWS = [*table.leaves(), *table.FUNCTIONS, *table.METHODS, *table.BY_NAME, "activation_kind", "spiking_kind"]


def label(row: Any) -> str:
    return row if isinstance(row, str) else f"{getattr(row, '__module__', '')}.{getattr(row, '__name__', row)}"


def reached(model: nn.Module, row: Any) -> bool:
    """Whether tracing ``model`` meets ``row``, so that a case cannot silently test another one."""
    graph = trace.Tracer(trace._opened(model)).trace(model)
    if row in ("activation_kind", "spiking_kind"):
        return any(hasattr(module, row) for module in model.modules())
    if isinstance(row, type):
        called = [model.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"]
        return any(type(module) is row for module in called)
    if row in table.BY_NAME:
        return any(function_name(node.target) == row for node in graph.nodes)
    return any(node.target == row for node in graph.nodes if node.op.startswith("call_"))


def builder(row: Any) -> Any:
    """What builds a row's op: the same for ``torch.add``, ``operator.add`` and the method."""
    found = table.METHODS.get(row) or table.BY_NAME.get(row) if isinstance(row, str) else table.FUNCTIONS.get(row)
    return found or row


def places(ways: dict[str, tuple[int, ...]]) -> list[Any]:
    """Every row in every way: all in the first, and in each other one in turn, where ``ways`` says so; the rest are slow.

    Args:
        ways: for each way of being in a network which rows take it, as remainders of their number by 2.
    """
    first = {builder(row): row for row in reversed(CASES)}
    chosen = [row for row in CASES if first[builder(row)] is row]
    return [
        pytest.param(row, way, id=f"{label(row)}-{way}", marks=[] if fast else [pytest.mark.slow])
        for row in CASES
        for way, turns in ways.items()
        for fast in [way == "alone" or row in chosen and chosen.index(row) % 2 in turns]
    ]


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_row_has_a_case(row: Any) -> None:
    assert row in CASES, f"write a case for {label(row)}"


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's own convolution, not the plan's
@pytest.mark.parametrize(("row", "way"), places({"alone": (), "read": (0,), "added": (1,), "overwritten": (0, 1)}))
def test_op_equals_autograd(row: Any, way: str) -> None:
    assert row in ROWS
    for make in CASES[row]:
        model, x = make(way)
        assert way != "alone" or reached(model, row), f"no case of {label(row)} reaches it"
        assert_equal(model, x)
