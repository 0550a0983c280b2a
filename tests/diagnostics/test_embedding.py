"""The picture of the top representation: what is taken, that the network stays, and that near points are alike."""

import copy

import pytest
import torch
from torch import nn

import credit
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Data, load
from credit.diagnostics.embedding import embedding, last_layer, representation, shown
from credit.models import build
from credit.runs import read_metrics, run_folder
from credit.training import train
from tests.support.small_runs import small_config


@pytest.fixture(scope="module")
def data() -> Data:
    return load(DataConfig(limit_train=300, limit_test=100, batch_size=50), NoiseConfig(), seed=0, device="cpu")


class Branches(nn.Module):
    """Two ways that meet before the head, which is not the last module that is named; beside it one that is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 10)
        self.norm = nn.BatchNorm1d(6)
        self.left, self.right = nn.Linear(64, 6), nn.Linear(64, 6)

    def before_head(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return torch.cat([torch.tanh(self.norm(self.left(x))), torch.relu(self.right(x))], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.before_head(x))


def test_the_input_of_the_last_layer_in_the_forward_pass_is_taken(data: Data) -> None:
    torch.manual_seed(0)
    model = Branches()
    model(data.prepare(data.train.x))  # BatchNorm has seen something
    plan = credit.rule("bp", model).plan
    assert last_layer(plan, model) == "head"
    before = copy.deepcopy(model.state_dict())
    x = data.prepare(shown(data)[0])
    found = representation(model, "head", x, 7)
    torch.testing.assert_close(found, model.before_head(x).detach())  # in evaluation mode, in which it was left
    embedding(plan, model, data)
    assert model.training and not model.head._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_convolution_may_be_the_last_layer(data: Data) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).train()
    plan = credit.rule("bp", model).plan
    assert last_layer(plan, model) == "2"
    x = data.prepare(shown(data)[0])
    torch.testing.assert_close(representation(model, "2", x, 50), model[:2](x).flatten(1).detach())


def test_examples_are_spread_over_the_test_part_or_else_the_validation_part(data: Data) -> None:
    x, y = shown(data, 25)
    assert torch.equal(x, data.test.x[::4]) and torch.equal(y, data.test.y[::4])
    assert torch.equal(shown(data)[1], data.test.y)
    none = copy.copy(data)
    none.test = type(data.test)(data.test.x[:0], data.test.y[:0])
    assert torch.equal(shown(none)[1], data.val.y)


class Knows(nn.Module):
    """Turns pixel 0 of an example, its class here, into a corner of its own, with a little noise from the other pixels."""

    def __init__(self, spread: float, width: int = 10) -> None:
        super().__init__()
        self.first = nn.Linear(64, width, bias=False)
        self.head = nn.Linear(width, 10)
        self.spread = spread

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        corner = nn.functional.one_hot(flat[:, 0].round().long(), self.head.in_features).to(flat.dtype)
        return self.head(self.spread * corner + 0.01 * self.first(flat))


def with_class_in_pixel_0(data: Data) -> Data:
    known = load(
        DataConfig(limit_train=300, limit_test=100, batch_size=50, normalize="none"),
        NoiseConfig(),
        seed=0,
        device="cpu",
    )
    known.test.x[:, 0, 0, 0] = known.test.y.to(torch.uint8)
    return known


def test_what_is_alike_comes_to_lie_together(data: Data) -> None:
    torch.manual_seed(0)
    known, model = with_class_in_pixel_0(data), Knows(50.0)
    plan = credit.rule("bp", nn.Sequential(nn.Flatten(), nn.Linear(64, 10))).plan
    plan.ops[-1].name = "head"
    got = embedding(plan, model, known)
    assert got["neighbours"] == 1.0 and got["examples"] == len(got["x"]) == len(got["y"]) == len(got["label"]) == 100
    points, y = torch.tensor([got["x"], got["y"]]).T, torch.tensor(got["label"])
    far = torch.cdist(points, points).fill_diagonal_(float("inf"))
    assert (y[far.argmin(1)] == y).double().mean() > 0.95
    assert got == embedding(plan, model, known), "the same network gives the same picture"
    assert embedding(plan, Knows(0.0), known)["neighbours"] < 1.0


def test_a_network_that_makes_the_same_of_every_example_has_one_point_and_one_number_is_enough(data: Data) -> None:
    for width, dead in ((3, True), (1, False)):
        model = build({"kind": "mlp", "widths": [width]}, (1, 8, 8), 10, seed=0)
        if dead:
            with torch.no_grad():
                for p in model.parameters():
                    p.zero_()
        got = embedding(credit.rule("bp", model).plan, model, data)
        assert (set(got["x"]) == {0.0} == set(got["y"])) == dead and (got["kl"] == 0) == dead


def test_it_is_measured_once_at_the_end_and_of_few_examples_too() -> None:
    cfg = small_config(data={"limit_test": 12}, trainer={"epochs": 3, "measure": ["embedding"], "measure_every": 0.5})
    train(cfg, console=False)
    rows = read_metrics(run_folder(cfg))
    assert ["embedding" in row for row in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1]["embedding"]["examples"] == 12 and rows[-1]["embedding"]["classes"] == [str(c) for c in range(10)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "eqprop"}, "rule 'eqprop' is evaluated where its states settle"),
        ({"data": {"limit_test": 5}}, "neither has 8: raise data.limit_test"),
        ({"arch": {"kind": "spiking_mlp", "widths": [8], "steps": 3}}, "sees 3 rows an example"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_has_no_such_picture_is_refused(settings, words) -> None:
    rule = settings.pop("rule", "bp")
    with pytest.raises(UserError) as refusal:
        train(small_config(rule, trainer={"epochs": 1, "measure": ["embedding"]}, **settings), console=False)
    assert words in str(refusal.value)


def test_a_network_without_such_a_layer_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight)

    model = Bare()
    with pytest.raises(UserError, match=r"the last nn\.Linear or convolution, and Bare has none that rules know"):
        last_layer(credit.rule("bp", model, local_autograd=True).plan, model)
