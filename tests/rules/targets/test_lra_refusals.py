"""What local representation alignment refuses, by the words: numbers, connectivities, synapses, networks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from tests.support import dual_nets, nets
from tests.support.architectures import cifar_resnet, suc
from tests.support.lra_nets import Stacked

WIDTHS = (6, 7, 7, 7, 5)


def stacked(activation: str = "tanh", widths: tuple[int, ...] = WIDTHS) -> Stacked:
    return Stacked(activation, widths)


def refusal(model: nn.Module, name: str = "rec_lra", **options: Any) -> str:
    with pytest.raises(UserError) as found:
        credit.rule(name, model, **options)
    return str(found.value)


CASES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"beta": 0.0}, ("rule.beta=0 is outside (0, inf)", "every layer is at its target")),
    ({"beta": -0.1}, ("rule.beta=-0.1 is outside (0, inf)",)),
    ({"beta": float("nan")}, ("rule.beta=nan", "finite")),
    ({"gamma": 0.0}, ("rule.gamma=0 is outside (0, inf)", "rule.error_update=fixed leaves them as they are")),
    ({"gamma": -1.0}, ("rule.gamma=-1 is outside (0, inf)",)),
    ({"error_update": "fixed", "gamma": 0.5}, ("rule.gamma=0.5 would change nothing", "other than fixed")),
    ({"error_update": "fixed", "error_lr": 0.1}, ("rule.error_lr=0.1 would change nothing",)),
    ({"error_update": "lra-e"}, ("rule.error_update=lra-e", "did you mean 'lra_e'")),
    ({"error_std": 0.0}, ("rule.error_std=0 is outside (0, inf)", "first weights", "null")),
    ({"error_lr": -0.1}, ("rule.error_lr=-0.1 is outside (0, inf)", "learning rate of the error synapses")),
    ({"p": 0.5}, ("rule.p=0.5 is outside [1, inf)", "not convex")),
    ({"q": 0.0}, ("rule.q=0 is outside [1, inf)",)),
    ({"p": float("inf")}, ("rule.p=inf", "finite")),
    ({"depth": 0}, ("rule.depth=0 is outside [1, inf)", "null")),
    ({"depth": -2}, ("rule.depth=-2",)),
    ({"depth": 2, "inner": "backprop"}, ("rule.depth=2 has no meaning with rule.inner=backprop", "rule.inner=local")),
    ({"kappa": [1.0, 0.5]}, ("rule.kappa has 2 values", "Stacked has 4 nodes with targets (act1, act2, act3, output)",
                             "give 4 values")),
    ({"kappa": [1.0] * 4, "depth": 1}, ("rule.kappa has 4 values", "3 nodes with targets (act2, act3, output)")),
    ({"kappa": []}, ("rule.kappa has 0 values",)),
    ({"kappa": 0.0}, ("rule.kappa=0 is outside (0, inf)", "requires_grad_(False)")),
    ({"kappa": [1.0, 1.0, -1.0, 1.0]}, ("rule.kappa=-1 is outside (0, inf)",)),
    ({"reproject": 0.0}, ("rule.reproject=0 is outside (0, inf)", "radius of the Frobenius ball", "null: off")),
    ({"reproject": -1.0}, ("rule.reproject=-1 is outside (0, inf)",)),
    ({"workers": 0}, ("rule.workers=0 is outside [1, inf)", "threads")),
    ({"workers": 2, "compile": "eager"}, ("rule.workers=2", "a compiled step is one program", "rule.workers=1")),
    ({"loss": "hinge"}, ("rule.loss=hinge", "ce, half_sse")),
    ({"inner": "back"}, ("rule.inner=back", "did you mean 'backprop'")),
    ({"synapses": "convolution"}, ("rule.synapses=convolution", "auto, conv, dense")),
    ({"bta": 0.1}, ("rule.bta=0.1: rule 'rec_lra' has no such option", "did you mean 'beta'")),
    # gaps
    ({"skip_gap": 4}, ("rule.skip_gap=4", "Stacked has 3 nodes (act1, act2, act3)", "a gap from 1 to 3", "0 for none")),
    ({"skip_gap": -1}, ("rule.skip_gap=-1 is outside [0, inf)", "each so many-th layer")),
    ({"skip_gap": "block"}, ("rule.skip_gap=block", "auto", "blocks")),
    # connectivities
    ({"error_connectivity": {"act1": "act2", "act2": "act1"}},
     ("rule.error_connectivity sends errors round in a circle", "act2 <- act1 <- act2", "receive the error of output")),
    ({"error_connectivity": {"act1": "act1"}}, ("round in a circle (act1 <- act1)",)),
    ({"error_connectivity": {"act3": "act1"}, "skip_gap": 0}, ("round in a circle", "act3 <- act1 <- act2 <- act3")),
    ({"error_connectivity": {"act1": ["output", "act2"], "act2": ["act3", "act1"]}}, ("round in a circle",)),
    ({"error_connectivity": {"act4": "output"}},
     ("rule.error_connectivity={act4: ...}", "there is no node of this name in Stacked", "act1, act2, act3")),
    ({"error_connectivity": {"act1": "akt2"}},
     ("rule.error_connectivity={act1: akt2}", "there is no node of this name", "did you mean 'act2'", "output")),
    ({"error_connectivity": {"output": "act1"}}, ("rule.error_connectivity={output: ...}", "valid: act1, act2, act3")),
    ({"error_connectivity": {"fc2": "output"}},
     ("rule.error_connectivity={fc2: ...}", "'fc2' is no activation but linear 'fc2'", "targets are set at activations")),
    ({"error_connectivity": {"act1": ["output", "head"]}},
     ("rule.error_connectivity={act1: head}", "'head' is no activation but linear 'head'")),
    ({"error_connectivity": {"act2": None}},
     ("'act1' receives the error of 'act2', which receives none", "rule.error_connectivity={act2: null}", "another one")),
    ({"error_connectivity": {f"act{k}": None for k in (1, 2, 3)}},
     ("rule.error_connectivity leaves Stacked no node that receives an error", "act1, act2, act3")),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), CASES)
@pytest.mark.parametrize("name", ["rec_lra", "lra_e"])
def test_options(name: str, options: dict[str, Any], words: tuple[str, ...]) -> None:
    words = tuple(word.replace("rec_lra", name) for word in words)
    told = refusal(stacked(), name, **({"skip_gap": 2} | options))  # of both rules the same connectivity
    for word in words:
        assert word in told, told


@pytest.mark.parametrize(
    "options",
    [{"skip_gap": 3}, {"skip_gap": 1, "error_connectivity": {"act1": None}},
     {"error_connectivity": {"act3": ["act1"], "act1": ["output"]}},
     {"p": 1.0, "q": 5.0},
     {"depth": 50}, {"beta": 100.0}, {"kappa": [1.0, 2.0, 1.0], "depth": 1}, {"error_update": "paper", "gamma": 0.01}],
)  # fmt: skip
def test_what_is_close_to_it_is_taken(options: dict[str, Any]) -> None:
    model = stacked()
    x, y = nets.batch(model, (6,))
    credit.rule("rec_lra", model, precision="float64", **options).step(x, y)
    for name, p in model.named_parameters():
        assert p.grad is not None and bool(torch.isfinite(p.grad).all()) and bool(p.grad.any()), name


@pytest.mark.parametrize(
    ("options", "at"),
    [({"depth": 1}, "act1"), ({"inner": "backprop"}, "act3"), ({"error_connectivity": {"act2": None, "act1": "output"}}, "act2")],
)  # fmt: skip
def test_errors_through_derivatives_that_are_zero(options: dict[str, Any], at: str) -> None:
    """Nothing below would learn, and nobody would notice."""
    told = refusal(stacked("sign"), **options)
    for word in (f"the derivative of sign at '{at}' in Stacked", "zero everywhere", "rule.inner=local"):
        assert word in told, told
    credit.rule("rec_lra", stacked(), **options)


POOLED: list[tuple[Callable[[], nn.Module], dict[str, Any], tuple[str, ...]]] = [
    (lambda: dual_nets.conv("act-max"), {"error_connectivity": {"2": "output"}},
     ("'2' is no activation but max_pool '2'", "targets are set at activations")),
    (lambda: dual_nets.conv("act-max"), {"error_connectivity": {"3": "output"}}, ("'3' is no activation but conv '3'",)),
    (lambda: cifar_resnet((3, 8, 8), 5, depth=8, width=3), {"error_connectivity": {"act": "stage1_block1.norm2"}},
     ("'stage1_block1.norm2' is no activation but batch_norm", "errors are at activations")),
    (lambda: nn.Sequential(nn.Linear(4, 3)), {}, ("Sequential has no activation between its layers", "arch=mlp", "rule=bp")),
    (lambda: suc((4,), 2), {}, ("SingleUnit gives one number, the probability of class 1", "rule=bp")),
]  # fmt: skip


@pytest.mark.parametrize(("make", "options", "words"), POOLED)
def test_networks_and_their_nodes(
    make: Callable[[], nn.Module], options: dict[str, Any], words: tuple[str, ...]
) -> None:
    told = refusal(make(), **options)
    for word in words:
        assert word in told, told


class Named(nn.Module):
    """An activation that is called what the rules call the network's output."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.output, self.two, self.act, self.head = (
            nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 5),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self.two(self.output(self.one(x)))))
        return out


@pytest.mark.parametrize(
    ("name", "options"), [("rec_lra", {}), ("lra_e", {}), ("dtp", {"first_target": "logits"}), ("tp", {})]
)
def test_an_activation_called_output(name: str, options: dict[str, Any]) -> None:
    """It would be taken for the network's, and learn nothing."""
    told = refusal(Named(), name, **options)
    for word in (f"rule '{name}' calls the network's output 'output'", "in Named", "give that module another name"):
        assert word in told, told


@pytest.mark.parametrize("name", ["rec_lra", "dtp"])
def test_an_example_of_another_precision(name: str) -> None:
    told = refusal(stacked(), name, example=torch.zeros(2, 6))
    for word in (
        "given an example of torch.float32",
        "the model's parameters are torch.float64",
        "convert one of them",
    ):
        assert word in told, told


def test_shared_synapses_between_vectors_would_change_nothing() -> None:
    told = refusal(stacked(), synapses="conv", example=torch.zeros(2, 6, dtype=torch.float64))
    for word in ("rule.synapses=conv would change nothing", "Stacked are vectors", "leave it out"):
        assert word in told, told


def test_layers_under_which_nothing_learns_have_no_node() -> None:
    model = stacked()
    for p in model.get_submodule("fc1").parameters():
        p.requires_grad_(False)
    told = refusal(model, error_connectivity={"act1": "output"})
    assert "nothing learns under 'act1' before the next node below" in told and "valid: act2, act3" in told


# --- synapses that cannot be -----------------------------------------------------------------------------------------------


def big(kernel: int = 3, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, kernel, stride, padding=1), nn.Tanh(), nn.Flatten(),
        nn.LazyLinear(5),
    )  # fmt: skip


def test_dense_synapses_between_big_feature_maps() -> None:
    model = big()
    x = torch.randn(2, 1, 40, 40)
    model(x)
    rule = credit.rule("lra_e", model, synapses="dense")
    with pytest.raises(UserError) as found:
        rule.step(x, torch.zeros(2, dtype=torch.int64))
    for word in ("rule.synapses=dense: 'error.1.3' of rule 'lra_e' would map 8x40x40 to 8x40x40 by 163,840,000 weights",
                 "0.6 GiB", "rule.synapses=conv"):  # fmt: skip
        assert word in str(found.value), str(found.value)
    credit.rule("lra_e", model).step(x, torch.zeros(2, dtype=torch.int64))


def test_maps_that_no_stride_leads_between() -> None:
    """A skip-error to a node of another size."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(2 * 5 * 5, 5)
    )  # fmt: skip
    x, y = torch.randn(2, 1, 9, 9), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(UserError) as found:
        credit.rule("lra_e", model).step(x, y)
    for word in ("'error.1.3' of rule 'lra_e' leads from feature maps of 2x5x5 to 2x7x7", "no convolution of any stride",
                 "take another source for this node (rule.error_connectivity)", "rule.synapses=dense"):  # fmt: skip
        assert word in str(found.value), str(found.value)
    credit.rule("lra_e", model, synapses="dense").step(x, y)
    credit.rule("rec_lra", model, skip_gap=1).step(x, y)


def test_maps_from_vectors_to_maps_and_back() -> None:
    """A vector cannot have weights shared among positions; an error that goes upwards may come to one."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(2 * 7 * 7, 4), nn.Tanh(), nn.Linear(4, 5)
    )
    x, y = torch.randn(2, 1, 9, 9), torch.zeros(2, dtype=torch.int64)
    rule = credit.rule(
        "rec_lra", model, synapses="conv", error_connectivity={"1": "output", "4": ["1", "output"]}, example=x
    )
    assert {name: tuple(p.shape) for name, p in rule.named_parameters()} == {
        "error.1.output": (2, 5), "error.4.1": (4, 98), "error.4.output": (4, 5),
    }  # fmt: skip
    rule.step(x, y)


# --- what a compiled step cannot do ----------------------------------------------------------------------------------------


def test_a_compiled_step_does_not_tell_its_errors() -> None:
    rule: Any = credit.rule("rec_lra", stacked(), compile="eager")
    with pytest.raises(UserError, match="a compiled step does not return its errors; make it without compile=True"):
        rule.keep_errors = True
