"""Small real runs: Digits, a small network, a few epochs."""

from collections.abc import Callable
from typing import Any

import pytest

from credit.core.config import RunConfig, check
from credit.rules.api import read

MakeConfig = Callable[..., RunConfig]


def small_config(rule: str = "lisp_margin", /, **changes: Any) -> RunConfig:
    """Return a run on 300 digits; `changes` are sections (mappings) or top-level values."""
    sections: dict[str, Any] = {
        "rule": read(rule),
        "arch": {"kind": "mlp", "widths": [16]},
        "data": {"limit_train": 300, "limit_test": 100, "batch_size": 50},
        "trainer": {"epochs": 2, "device": "cpu", "progress": False},
    }
    for key, value in changes.items():
        sections[key] = {**sections.get(key, {}), **value} if isinstance(value, dict) else value
    return check(sections)


@pytest.fixture
def config() -> MakeConfig:
    """The function that makes a small run's configuration."""
    return small_config
