"""What a plan cannot take is refused before the first step, in words that name the place and the way out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.plan import Capabilities, Plan


class Net(nn.Module):
    """Two linear layers with ``between`` their outputs' way."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.fc1, self.fc2, self.between = nn.Linear(4, 4), nn.Linear(4, 2), between

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.between(self.fc1(x)))
        return out


def refusal(model: nn.Module, local: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        Plan(model, Capabilities(local_autograd=local))
    return str(caught.value)


def _branch(x: Tensor) -> Tensor:
    return x * 2 if x.sum() > 0 else x


def test_a_branch_on_values_names_file_and_line() -> None:
    said = refusal(Net(_branch))
    line = _branch.__code__.co_firstlineno + 1
    assert f"test_refusals.py, line {line}: return x * 2 if x.sum() > 0 else x" in said
    assert said.startswith("Net cannot be traced") and "torch.fx says" in said and "__init__" in said


def test_an_unknown_op_names_node_op_model_and_the_way_out() -> None:
    said = refusal(Net(lambda x: torch.logsumexp(x, 1, keepdim=True).expand(-1, 4)))
    for word in ("'logsumexp'", "torch.logsumexp", "Net", "rule has a row", "rule.local_autograd=true"):
        assert word in said, word
    said = refusal(Net(nn.Softshrink()))
    assert "'between' (Softshrink) in Net" in said and "local_autograd=true" in said


def test_sync_batch_norm_names_the_norm_to_write() -> None:
    said = refusal(Net(nn.SyncBatchNorm(4)))
    assert "'between' (SyncBatchNorm) in Net" in said and "nn.BatchNorm1d" in said


def test_an_unknown_argument_names_node_op_and_argument() -> None:
    said = refusal(Net(lambda x: x.mean(1, keepdim=True, dtype=torch.float64)))
    assert "'mean' (Tensor.mean) in Net" in said and "dtype" in said


class Two(nn.Module):
    def __init__(self, out: Any = None) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(3, 2), out

    def forward(self, x: Tensor) -> Any:
        return self.out(self.fc(x))


@pytest.mark.parametrize("out", [lambda x: (x, x), lambda x: {"logits": x}, lambda x: x.chunk(2), lambda x: x.shape])
def test_anything_but_one_tensor_of_logits(out: Any) -> None:
    said = refusal(Two(out))
    assert "Two.forward returns" in said and "one tensor of logits" in said


def test_a_second_argument_is_named() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            out: Tensor = self.fc(x * mask)
            return out

    assert "Pair.forward takes a second argument 'mask' without a default" in refusal(Pair())

    class Many(Pair):
        def forward(self, *xs: Tensor) -> Tensor:
            out: Tensor = self.fc(xs[0])
            return out

    assert "Many.forward takes '*xs'" in refusal(Many())


class Mutating(nn.Module):
    """Overwrites h in one of several ways, then reads it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.fc, self.relu, self.way = nn.Linear(4, 4), nn.ReLU(inplace=True), way

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.fc(x)
        kept = h
        if self.way == "module":
            out = self.relu(h)
        elif self.way == "function":
            out = F.relu(h, inplace=True)
        elif self.way == "function_":
            out = F.relu_(h)
        elif self.way == "method":
            out = h.add_(1)
        elif self.way == "augmented":
            h += 1
            out = h
        elif self.way == "divided":
            h /= 2
            out = h
        elif self.way == "view":
            out = self.relu(h.view(-1, 2, 2)).flatten(1)
        else:
            kept = h.view(-1, 2, 2).flatten(1)
            out = h.mul_(3)
        return out * kept


WAYS = ["module", "function", "function_", "method", "augmented", "divided", "view", "earlier view"]


@pytest.mark.parametrize("way", WAYS)
def test_overwriting_what_is_read_again(way: str) -> None:
    said = refusal(Mutating(way))
    assert "Mutating" in said and "in place" in said and "afterwards" in said and "inplace=False" in said


def test_an_unused_trainable_parameter() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)
            self.sized = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x) * self.sized.shape[0]
            return out

    said = refusal(Unused())
    assert "Unused" in said and "spare.weight" in said and "spare.bias" in said and "requires_grad_(False)" in said
    model = Unused()
    model.spare.requires_grad_(False)
    assert "1 trainable parameter(s)" in refusal(model) and "sized" in refusal(model)
    model.sized.requires_grad_(False)
    Plan(model)


def test_nothing_to_train() -> None:
    assert "no trainable parameter" in refusal(nn.Sequential(nn.Linear(2, 2)).requires_grad_(False))


def _with_another_parameter() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.scale = nn.Parameter(torch.ones(4))
    return layer


@pytest.mark.parametrize(
    ("between", "words"),
    [
        (_with_another_parameter(), ["does not read (scale)", "parametrize"]),
        (nn.Softmax(), ["Softmax without dim"]),
        (lambda x: F.softmax(x, 1, dtype=torch.float64), ["softmax with dtype"]),
        (lambda x: torch.cat(x.chunk(2, 1), 1), ["all pieces at once", "a, b ="]),
        (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), ["slice of the pieces"]),
        (nn.MaxPool1d(1, return_indices=True), ["return_indices=False"]),
        (lambda x: F.leaky_relu(x, x.shape[1]), ["computed in forward()", "number"]),
    ],
)
def test_forms_without_a_row(between: Any, words: list[str]) -> None:
    said = refusal(Net(between))
    assert all(word in said for word in [*words, "Net"]), said


@pytest.mark.parametrize(
    "between",
    [
        nn.AlphaDropout(0.2),
        nn.RReLU(),
        nn.Sequential(nn.Unflatten(1, (2, 2)), nn.LSTM(2, 2, num_layers=2, dropout=0.1)),
        lambda x: x + torch.rand_like(x),
        lambda x: x + torch.randn(4),
        lambda x: F.feature_alpha_dropout(x, 0.2),
    ],
)
def test_global_randomness_is_refused_even_by_local_autograd(between: Any) -> None:
    said = refusal(Net(between), local=True)
    assert "global generator" in said and "nn.Dropout" in said


def test_local_autograd_refuses_modules_that_overwrite_their_input() -> None:
    said = refusal(Net(nn.Threshold(0.1, 0.0, inplace=True)), local=True)
    assert "'between' (Threshold) in Net works in place" in said and "inplace=False" in said
