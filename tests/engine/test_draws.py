"""The quick uniform numbers of a step: what they promise of themselves."""

import pytest
import torch

from credit.core.randomness import generator
from credit.engine.draws import Draws, uniform16

CPU = torch.device("cpu")


def draw(count: int = 200_000, seed: int = 0, name: str = "gate.fc1", position: int = 3) -> torch.Tensor:
    return Draws(seed, position, CPU).get(name, "uniform16", (count,), torch.float64)


def test_values_are_the_centres_of_65536_equal_parts() -> None:
    k = draw(65536 * 20) * 65536 - 0.5
    assert torch.equal(k, k.round()) and k.min() == 0 and k.max() == 65535
    counts = torch.bincount(k.long(), minlength=65536).double()
    chi2 = float(((counts - 20) ** 2 / 20).sum())
    assert abs(chi2 - 65535) < 4 * (2 * 65535) ** 0.5


def test_mean_variance_and_independence_between_elements() -> None:
    u = draw() - 0.5
    n = len(u)
    assert abs(float(u.mean())) < 4 / (12 * n) ** 0.5
    assert float(u.square().mean()) == pytest.approx(1 / 12, abs=4 * (1 / 180 / n) ** 0.5)
    for lag in (1, 2, 3, 4, 5, 8, 64, 1000):  # four neighbours come from one 64-bit word
        pairs = u[:-lag] * u[lag:]
        assert abs(float(pairs.mean())) < 4.5 / 12 / n**0.5, lag
        squares = (u[:-lag] ** 2 - 1 / 12) * (u[lag:] ** 2 - 1 / 12)
        assert abs(float(squares.mean())) < 4.5 / 180 / n**0.5, lag


def test_a_draw_is_a_function_of_seed_name_and_position_alone() -> None:
    first = draw()
    assert torch.equal(first, draw())
    for other in (draw(seed=1), draw(name="gate.fc2"), draw(position=4)):
        agreement = float(((first - 0.5) * (other - 0.5)).mean())
        assert not torch.equal(first, other) and abs(agreement) < 4.5 / 12 / len(first) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 4, 5), (0, 7)])
def test_shapes_and_types(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    found = uniform16(1, "a", 2, shape, dtype)
    assert found.shape == shape and found.dtype == dtype
    exact = uniform16(1, "a", 2, shape, torch.float64)
    torch.testing.assert_close(found, exact.to(dtype), rtol=0, atol=0)


def test_what_others_draw_is_as_it_was() -> None:
    torchs = torch.rand(4, generator=generator(1, "a", 2))
    assert torch.equal(Draws(1, 2, CPU).get("a", "uniform", (4,), torch.float32), torchs)
