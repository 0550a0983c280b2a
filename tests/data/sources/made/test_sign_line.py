"""Points on a line: the inputs, their classes, what is held out, and what is refused."""

import pytest
import torch

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Data, describe, load
from credit.data.sources.made.sign_line import line


def sign_line(seed: int = 0, **options: object) -> Data:
    given = {"kind": "sign_line", "normalize": "none", "val_fraction": 0.0, "batch_size": 8, **options}
    return load(DataConfig(**given), NoiseConfig(), seed=seed, device="cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize(("step", "count"), [(5e-4, 16001), (0.02, 401), (1.0, 9), (8 / 3, 4)])
def test_the_line_goes_from_end_to_end_and_its_middle_is_negative(step: float, count: int) -> None:
    x, y = line(step)
    assert x.shape == (count, 1) and x.dtype == torch.float32 and y.dtype == torch.int64
    assert x[[0, -1], 0].tolist() == [-4, 4] and torch.equal(x, -x.flip(0))
    assert torch.allclose(x.diff(dim=0), torch.tensor(step), atol=1e-6)
    assert torch.equal(y == 1, x[:, 0] > 0)
    if count % 2:
        assert x[count // 2] == 0 and y[count // 2] == 0


def test_a_hundred_inputs_are_held_out_at_random_by_the_split_seed() -> None:
    data = sign_line()
    assert (len(data.train), len(data.val), len(data.test)) == (15901, 0, 100)
    whole = torch.cat([data.train.x, data.test.x]).sort(dim=0).values
    assert torch.equal(whole, line(5e-4)[0])
    assert torch.equal(data.test.y, (data.test.x[:, 0] > 0).long()) and 30 < int(data.test.y.sum()) < 70
    assert torch.equal(data.prepare(data.test.x), data.test.x)  # as they are
    again, other, own = sign_line(5), sign_line(split_seed=5), sign_line(5, split_seed=None)
    assert torch.equal(again.test.x, data.test.x) and again.digest == data.digest
    assert not torch.equal(other.test.x, data.test.x) and other.digest != data.digest
    assert torch.equal(own.test.x, other.test.x)


def test_sizes_are_known_before() -> None:
    spec = describe(DataConfig(kind="sign_line", normalize="none", step=0.02, held_out=40, val_fraction=0.0))
    assert (spec.shape, spec.outputs, spec.train_size, spec.test_size) == ((1,), 2, 361, 40)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step": 0.3}, "data.step=0.3 does not lead from -4 to 4 in whole steps; write data.step=0.2962962963"),
        ({"step": 9.0}, "data.step=9: is the distance of neighbours between -4 and 4"),
        ({"step": float("nan")}, "data.step=nan: must be a finite number in (0, inf)"),
        ({"step": 1e-7}, "data.step=1e-07 makes 80000001 inputs; write data.step=9.5e-07 or more"),
        ({"step": 1.0}, "data.held_out=100 of the 9 inputs that data.step=1 makes"),
        ({"held_out": 0}, "data.held_out=0 is outside [1, inf)"),
        ({"normalize": "gcn"}, "is for images"),
        ({"augment": ["flip"]}, "data.augment=[flip] would change nothing"),
        ({"test_fraction": 0.2}, "data.test_fraction=0.2 would change nothing"),
        ({"dimension": 3}, "data.dimension=3 would change nothing: it is read with data=ones alone"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as error:
        sign_line(**options)  # type: ignore[arg-type]
    assert words in str(error.value)


def test_other_sets_have_no_step() -> None:
    with pytest.raises(UserError, match=r"data.step=0.1 would change nothing: it is read with data=sign_line alone"):
        describe(DataConfig(kind="digits", step=0.1))
