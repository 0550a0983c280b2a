"""The marks of runs under the stopping rule of the dual-propagation authors (paper 3, Table 3). Imports no torch."""

from typing import Any

DAGGER, CROSS = "†", "X"
"""Marks of a run that diverged or collapsed: after a reasonable model was found (dagger), without one (cross)."""

LEGEND = (
    f"{DAGGER}: training diverged, or collapsed, after a reasonable model was found; the accuracy is that model's, best on "
    f"validation. {CROSS}: it did without one. Diverged: numbers or states that are not finite; collapsed: "
    "`trainer.stop_when=collapsed`. Reasonable: an accuracy of more than twice chance (on fewer than four classes more than "
    "halfway from chance to all), by validation where images are held out."
)


def mark(result: dict[str, Any]) -> str:
    """Return `DAGGER` or `CROSS` for a run with ``trainer.stop_when`` that diverged or was given up; else an empty text.

    Args:
        result: the content of the run's result.json.
    """
    trainer = (result.get("config") or {}).get("trainer") or {}
    if trainer.get("stop_when", "never") == "never" or not ended_badly(result):
        return ""
    return DAGGER if was_reasonable(result) else CROSS


def ended_badly(result: dict[str, Any]) -> bool:
    """Return whether a run diverged, or was given up because its accuracy collapsed, from its result."""
    stopped = result.get("stopped") or {}
    return result.get("status") == "diverged" or (
        result.get("status") == "complete" and stopped.get("why") == "collapsed"
    )


def was_reasonable(result: dict[str, Any]) -> bool:
    """Return whether the best accuracy of a run is well above chance, from its result.

    The paper gives no definition. Here the accuracy must exceed the smaller of 2 c and (1 + c) / 2, with c = 1 / classes: for fewer
    than four classes, halfway from chance to all.
    """
    best, data = result.get("best"), result.get("data")
    if not best or not data or "classes" not in data:
        return False
    chance, accuracy = 1 / data["classes"], best.get("val_top1", best.get("test_top1"))
    return accuracy is not None and accuracy > min(2 * chance, (1 + chance) / 2)
