"""Damaged files: each is read, or refused in words, whatever its format."""

import os
import random
import time
import warnings
from pathlib import Path

import pytest

from credit.core.errors import UserError
from tests.testing.fuzz.damage import damaged
from tests.testing.fuzz.formats import FORMATS

SEED = int(os.environ.get("FUZZ_SEED", "0"))
COUNT = int(os.environ.get("FUZZ_COUNT", "40"))
"""Damaged files of each format; ``make fuzz`` asks for 3,000."""


@pytest.mark.parametrize("name", FORMATS)
def test_a_valid_file_is_read(name: str, tmp_path: Path) -> None:
    kind = FORMATS[name]
    path = tmp_path / kind.name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(kind.content())
    assert kind.read(path) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_read_or_refused_in_words(name: str, tmp_path: Path) -> None:
    kind, source = FORMATS[name], random.Random(f"{SEED} {name}")
    refusals: tuple[type[Exception], ...] = (UserError, *kind.refuses)
    path, whole = tmp_path / kind.name, kind.content()
    path.parent.mkdir(exist_ok=True)
    for number in range(COUNT):
        path.write_bytes(damaged(whole, source))
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kind.read(path)
        except refusals as refusal:
            assert (
                len(str(refusal)) < 1500 and "weights_only" not in str(refusal) and "allow_pickle" not in str(refusal)
            )
        except Exception as error:
            keep = tmp_path / f"damaged-{number}"
            path.replace(keep)
            raise AssertionError(
                f"{name}, file {number} of seed {SEED}, kept as {keep}: {type(error).__name__}"
            ) from error
        assert time.perf_counter() - started < 20
