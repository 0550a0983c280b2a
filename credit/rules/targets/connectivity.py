"""Error connectivity: the nodes whose errors each node receives (paper 5, section 3.2 and Algorithms 1 and 2).

Nodes 1 .. L - 1 are the network's activations in order of execution, L is the output. Node i receives the output's error by a
skip-error connection, where i is a multiple of the gap, else node i + 1.
``rule.error_connectivity`` overrides this for the nodes it names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from credit.core.errors import UserError, nearest
from credit.engine.inference.blocks import bottlenecks, hidden, learning
from credit.engine.ops.activations import Activate
from credit.engine.plan import Plan
from credit.rules.targets.targeted import OUTPUT

Gap = Literal["auto", "blocks"] | int
Given = Mapping[str, str | Sequence[str] | None]


@dataclass(frozen=True)
class ErrorConnectivity:
    """The source nodes of each node.

    Attributes:
        nodes: activations with a target, in order of execution.
        sources: by node name, the names of the nodes whose errors it receives.
        order: the names, every one after its sources.
    """

    nodes: list[Activate]
    sources: dict[str, tuple[str, ...]]
    order: list[str]


def connect(plan: Plan, gap: Gap, given: Given | None, depth: int | None, rule: str) -> ErrorConnectivity:
    """Return the error connectivity of a plan that is not cut.

    Args:
        plan: of the network.
        gap: of the skip-error connections; 0: none; ``blocks``: every bottleneck of the network (the output of a residual
            block, the stem) gets the output's error; ``auto``: ``blocks`` where the network branches, else 2 where it has two
            nodes.
        given: sources by node, over those of the gap; of a node with None the signal comes by derivatives from above.
        depth: how many synapses a node may be away from the output; further ones get their signal by derivatives from above.
        rule: its name, for errors.

    Raises:
        UserError: there is no node, the gap exceeds them, a name is no node, or errors would go round in a circle.
    """
    nodes, model = learning(plan, hidden(plan)), type(plan.model).__name__
    if not nodes:
        raise UserError(
            f"rule '{rule}' gives activations targets, but {model} has no activation between its layers; use a network with a "
            "hidden layer (arch=mlp), or rule=bp"
        )
    names = [op.name for op in nodes]
    anchors = _anchors(plan, nodes, gap, rule)
    above = [*names[1:], OUTPUT]
    sources: dict[str, tuple[str, ...]] = {
        name: (OUTPUT,) if name in anchors else (next_,) for name, next_ in zip(names, above, strict=True)
    }
    for name, named in (given or {}).items():
        if name not in sources:
            raise UserError(
                f"rule.error_connectivity={{{name}: ...}}: {_no_node(plan, name, names, 'targets are set')}"
            )
        sources[name] = () if named is None else (named,) if isinstance(named, str) else tuple(named)
        for source in sources[name]:
            if source not in (*names, OUTPUT):
                raise UserError(
                    f"rule.error_connectivity={{{name}: {source}}}: {_no_node(plan, source, [*names, OUTPUT], 'errors are')}"
                )
    sources = {name: tuple(dict.fromkeys(named)) for name, named in sources.items() if named}
    order = _ordered(sources, names, given)
    steps = _steps(sources, order)
    kept = [name for name in order if depth is None or steps[name] <= depth]
    if not kept:
        raise UserError(
            f"rule.error_connectivity leaves {model} no node that receives an error; name a source for one of {', '.join(names)}"
        )
    sources = {name: tuple(s for s in sources[name] if s == OUTPUT or s in kept) for name in kept}
    return ErrorConnectivity([op for op in nodes if op.name in sources], sources, kept)


def _anchors(plan: Plan, nodes: list[Activate], gap: Gap, rule: str) -> set[str]:
    """Return the names of the nodes that receive the error of the output by the gap's rule."""
    necks = {op.name for op in bottlenecks(plan)}
    if gap == "auto":
        gap = "blocks" if any(op.name not in necks for op in nodes) else 2 if len(nodes) > 1 else 0
    if gap == "blocks":
        return {op.name for op in nodes} & necks
    assert isinstance(gap, int)
    count, names = len(nodes), ", ".join(op.name for op in nodes)
    if gap < 0 or gap > count:
        why = "it counts layers"
        if gap > count:
            why = f"{type(plan.model).__name__} has {count} nodes ({names}), none of which would be the gap's"
        raise UserError(
            f"rule.skip_gap={gap} of rule '{rule}': {why}; write a gap from 1 to {count}, 0 for none (rule=lra_e), or auto"
        )
    return {op.name for at, op in enumerate(nodes, start=1) if gap and at % gap == 0}


def _no_node(plan: Plan, name: str, known: Sequence[str], what: str) -> str:
    if name == OUTPUT:
        return f"the {OUTPUT} receives no error: its own is the prediction less the label; {nearest(name, known)}"
    op = next((op for op in plan.ops if op.name == name), None)
    if op is not None and isinstance(op, Activate):
        why = f"nothing learns under '{name}' before the next node below, so that it has no target"
    elif op is not None:
        why = f"'{name}' is no activation but {op.describe()}, and {what} at activations"
    else:
        why = f"there is no node of this name in {type(plan.model).__name__}"
    return f"{why}; {nearest(name, known)}"


def _ordered(sources: Mapping[str, tuple[str, ...]], names: Sequence[str], given: Given | None) -> list[str]:
    """Return nodes after their sources, those nearest to the output first; refuse circles and nodes without a source."""
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " <- ".join([*path[path.index(name) :], name])
            raise UserError(
                f"rule.error_connectivity sends errors round in a circle ({circle}), so that no target of these nodes can "
                f"be the first; let one of them receive the error of {OUTPUT}"
            )
        if name == OUTPUT or name in done:
            return
        if name not in sources:
            raise UserError(
                f"rule.error_connectivity: '{path[-1]}' receives the error of '{name}', which receives none "
                f"(rule.error_connectivity={{{name}: null}}) and has no error to send; "
                f"give '{name}' a source, or '{path[-1]}' another one"
            )
        for source in sources[name]:
            visit(source, (*path, name))
        done.append(name)

    for name in reversed(names):
        if name in sources:
            visit(name, ())
    return done


def _steps(sources: Mapping[str, tuple[str, ...]], order: Sequence[str]) -> dict[str, int]:
    steps = {OUTPUT: 0}
    for name in order:
        steps[name] = 1 + min(steps[source] for source in sources[name])
    return steps
