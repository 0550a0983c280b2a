"""Maps from node to node: linear in weight and error, their product and adjoint, and every unit reached."""

import itertools

import pytest
import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.rules.targets import synapses
from credit.rules.targets.options import Synapses
from credit.rules.targets.synapses import Synapse
from tests.rules.lfp.test_lfp_twins import close

CASES: dict[str, tuple[Synapses, tuple[int, ...], tuple[int, ...]]] = {
    "vectors": ("dense", (7,), (5,)),
    "maps from a vector": ("dense", (3, 4, 5), (6,)),
    "maps from maps": ("dense", (3, 4, 5), (2, 2, 3)),
    "every position alike": ("conv", (3, 4, 5), (6,)),
    **{
        f"{height}x{width} from {rows}x{columns}": ("conv", (3, height, width), (2, rows, columns))
        for height, width, rows, columns in (
            (6, 6, 6, 6), (6, 6, 3, 3), (7, 6, 4, 3), (8, 8, 2, 2), (5, 5, 1, 1), (24, 24, 8, 8), (9, 4, 3, 4), (10, 10, 4, 4),
            (1, 1, 1, 1), (28, 28, 10, 10), (11, 11, 1, 1), (4, 4, 1, 1),
        )
    },
}  # fmt: skip


def made(word: str) -> tuple[Synapse, Tensor, Tensor, Tensor]:
    """A map, a weight, errors and activations."""
    kind, target, source = CASES[word]
    synapse = synapses.make(kind, target, source, "error.low.high", "rec_lra")
    draw = torch.Generator().manual_seed(1)
    shapes = synapse.shape, (4, *source), (4, *target)
    E, e, z = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    return synapse, E, e, z


@pytest.mark.parametrize("word", CASES)
def test_carrying_is_bilinear(word: str) -> None:
    synapse, E, e, z = made(word)
    other, more = E.flip(0) + 0.3, e.flip(0) - 0.2
    for eager in (False, True):
        d = synapse.carry(E, e, eager)
        assert d.shape == z.shape
        close(synapse.carry(2 * E - 0.5 * other, e, eager), 2 * d - 0.5 * synapse.carry(other, e, eager), "in E")
        close(synapse.carry(E, 2 * e - 0.5 * more, eager), 2 * d - 0.5 * synapse.carry(E, more, eager), "in e")


@pytest.mark.parametrize("word", CASES)
def test_products_and_adjoints_by_their_identity(word: str) -> None:
    """<z, carry(E, e)> = <product(z, e), E> = <back(E, z), e>, and the product is its gradient by finite differences."""
    synapse, E, e, z = made(word)
    value = float((z * synapse.carry(E, e)).sum())
    for eager in (False, True):
        product = synapse.product(z, e, eager)
        assert product.shape == E.shape
        assert float((product * E).sum()) == pytest.approx(value, rel=1e-9)
    assert float((synapse.back(E, z) * e).sum()) == pytest.approx(value, rel=1e-9)
    assert synapse.back(E, z).shape == e.shape
    flat = E.flatten()
    for at in range(0, flat.numel(), max(1, flat.numel() // 20)):
        sides = []
        for step in (0.5, -0.5):
            moved = flat.clone()
            moved[at] += step
            sides.append(float((z * synapse.carry(moved.view(E.shape), e)).sum()))
        assert sides[0] - sides[1] == pytest.approx(float(product.flatten()[at]), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("word", CASES)
def test_gradients_by_autograd(word: str) -> None:
    synapse, E, e, z = made(word)
    leaves = E.clone().requires_grad_(), e.clone().requires_grad_()
    by_weight, by_error = torch.autograd.grad((z * synapse.carry(*leaves)).sum(), leaves)
    close(synapse.product(z, e), by_weight, "product")
    close(synapse.back(E, z), by_error, "back")


@pytest.mark.parametrize("word", CASES)
def test_every_unit_is_reached_and_every_error_used(word: str) -> None:
    """What no synapse reaches would have no target, for good."""
    synapse, E, e, z = made(word)
    assert bool((synapse.carry(E.abs(), e.abs()) > 0).all())
    assert bool((synapse.back(E.abs(), z.abs()) > 0).all())
    product = synapse.product(z.abs(), e.abs())
    assert bool((product.flatten(2).sum(2) > 0 if product.dim() == 4 else product > 0).all())


@pytest.mark.parametrize(
    ("rows", "height"), [(r, h) for r, h in itertools.product(range(1, 9), range(1, 33)) if r <= h]
)
def test_sizes_that_strides_lead_to(rows: int, height: int) -> None:
    """Where some stride leads from one size to the other, no row is left out; else the pair is refused."""
    if rows not in {-(-height // step) for step in range(1, height + 1)}:
        with pytest.raises(UserError, match="no convolution of any stride leads from one size to the other"):
            synapses.make("conv", (1, height, height), (1, rows, rows), "E", "rec_lra")
        return
    synapse = synapses.make("conv", (1, height, height), (1, rows, rows), "E", "rec_lra")
    assert bool((synapse.carry(torch.ones(synapse.shape), torch.ones(1, 1, rows, rows)) > 0).all())


@pytest.mark.parametrize(
    ("target", "source", "kind"),
    [((7,), (5,), synapses.Dense), ((3, 4, 5), (6,), synapses.Dense), ((6,), (3, 4, 5), synapses.Dense),
     ((3, 4, 4), (2, 2, 2), synapses.Transposed), ((512, 64, 64), (1000,), synapses.Shared)],
)  # fmt: skip
def test_what_auto_takes(target: tuple[int, ...], source: tuple[int, ...], kind: type[Synapse]) -> None:
    assert type(synapses.make("auto", target, source, "E", "rec_lra")) is kind


@pytest.mark.parametrize("word", CASES)
def test_units_that_one_unit_hears(word: str) -> None:
    """What the first weights are scaled by: carried noise has about the size of the errors."""
    kind, target, source = CASES[word]
    synapse = synapses.make(kind, (40, *target[1:]), (60, *source[1:]), "E", "rec_lra")
    draw = torch.Generator().manual_seed(2)
    E = torch.randn(synapse.shape, generator=draw) / synapse.inputs**0.5
    size = float(synapse.carry(E, torch.randn((30, *synapse.source), generator=draw)).square().mean().sqrt())
    assert 0.7 < size < 1.3
