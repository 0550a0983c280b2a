"""A network's trainable parameters as layers, input first."""

from credit.engine.plan import Plan


def in_order(plan: Plan) -> list[str]:
    """Return the trainable parameters' names in the order the forward pass first uses them."""
    return list(dict.fromkeys(name for op in plan.ops for name in op.trains))


def layers(plan: Plan) -> dict[str, list[str]]:
    """Return the trainable parameters by layer, the module that holds them, in the same order: ``{"fc1": [weight, bias]}``.

    A parameter of the network itself, in no module, is a layer of its own.
    """
    grouped: dict[str, list[str]] = {}
    for name in in_order(plan):
        grouped.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return grouped
