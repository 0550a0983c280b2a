"""Feedback weights on functional weights: replaced where a weight has a place of its own, else refused or named."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.rules.backward.feedback_weights import Transpose
from credit.rules.base import Rule

FEEDBACK = ["fa", "dfa", "usf", "frsf", "brsf"]


class Net(nn.Module):
    """Three layers of weights; ``call(self, layer, x)`` applies a layer's parameters."""

    def __init__(self, call: Callable[[Any, nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 7), nn.Linear(7, 5), nn.Linear(5, 4)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.a, self.b):
            x = torch.relu(self.call(self, layer, x))
        return self.call(self, self.c, x)


CALLS: dict[str, Callable[[Any, nn.Linear, Tensor], Tensor]] = {
    "module": lambda net, layer, x: layer(x),
    "linear": lambda net, layer, x: F.linear(x, layer.weight, layer.bias),
    "matmul": lambda net, layer, x: x @ layer.weight.t() + layer.bias,
    "addmm": lambda net, layer, x: torch.addmm(layer.bias, x, layer.weight.T),
    "einsum": lambda net, layer, x: torch.einsum("bi,oi->bo", x, layer.weight) + layer.bias,
    "conv": lambda net, layer, x: F.conv1d(x.unsqueeze(2), layer.weight.unsqueeze(2), layer.bias).flatten(1),
}


def batch() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.randn(8, 6, generator=source).double(), torch.randint(0, 4, (8,), generator=source)


def made(rule: str, call: str, **options: Any) -> Rule:
    return credit.rule(rule, Net(CALLS[call]).double(), precision="float64", example=batch()[0], **options)


RULES = [*FEEDBACK, "kolen_pollack", "dp", "eqprop", "rec_lra", "dtp", "lisp_margin", "lfp_epsilon"]
# A bias that is added by itself is none of the layer's: no normalizer scales it, and LFP has no reading of it.
PAIRS = [(rule, call) for rule in RULES for call in ("linear", "addmm")] + [
    (rule, call) for rule in RULES[:-2] for call in ("matmul", "einsum")
]


@pytest.mark.parametrize(("rule", "call"), PAIRS)
def test_functional_weights_learn_as_the_modules_do(rule: str, call: str) -> None:
    options: dict[str, Any] = {"feedback_weights": rule} if rule == "kolen_pollack" else {}
    name = "fa" if rule == "kolen_pollack" else rule
    own, modules = made(name, call, **options), made(name, "module", **options)
    if rule == "dfa":
        for given, theirs in zip(list(own.buffers), modules.buffers.values(), strict=True):
            own.buffers[given] = theirs
    mine, expected = own.updates(*batch()).updates, modules.updates(*batch()).updates
    for key, update in expected.items():
        if rule == "brsf" and key != "c.weight" and key != "c.bias":
            continue  # draws of their own
        torch.testing.assert_close(mine[key], update, rtol=1e-9, atol=1e-12, msg=key)


@pytest.mark.parametrize("rule", [*FEEDBACK, "kolen_pollack"])
def test_functional_weights_are_no_backprop(rule: str) -> None:
    options: dict[str, Any] = {"feedback_weights": rule} if rule == "kolen_pollack" else {}
    updates = made("fa" if rule == "kolen_pollack" else rule, "linear", **options).updates(*batch()).updates
    exact = made("bp", "linear").updates(*batch()).updates
    for name in ("a.weight", "b.weight"):
        assert F.cosine_similarity(updates[name].flatten(), exact[name].flatten(), dim=0) < 0.99


def centred(weight: Tensor) -> Tensor:
    return weight - weight.mean(1, keepdim=True)


def test_a_computed_weight_is_replaced_and_its_gradient_goes_on_to_its_parameter() -> None:
    model = Net(lambda net, layer, x: F.linear(x, centred(layer.weight), layer.bias)).double()
    x, y = batch()
    rule = credit.rule("fa", model, precision="float64", example=x)
    assert list(rule.buffers) == ["feedback.c.linear_2", "feedback.b.linear_1"]
    updates = rule.updates(x, y).updates
    with torch.no_grad():
        inputs = [x]
        for layer in (model.a, model.b):
            inputs.append(torch.relu(F.linear(inputs[-1], centred(layer.weight), layer.bias)))
        logits = F.linear(inputs[-1], centred(model.c.weight), model.c.bias)
        signal = (logits.softmax(1) - F.one_hot(y, 4)) / len(x)
    for layer, name, h in zip((model.c, model.b, model.a), "cba", reversed(inputs), strict=True):
        torch.testing.assert_close(updates[f"{name}.bias"], signal.sum(0))
        torch.testing.assert_close(updates[f"{name}.weight"], centred(signal.t() @ h))
        if name != "a":
            key = f"feedback.{name}.linear_{2 if name == 'c' else 1}"
            assert rule.buffers[key].shape == layer.weight.shape
            signal = (signal @ rule.buffers[key]) * (h > 0)


@pytest.mark.parametrize("rule", ["rec_lra", "dtp", "lisp_margin", "tp"])
def test_rules_that_send_derivatives_take_computed_weights(rule: str) -> None:
    """A weight that is computed, but equal to its parameter, learns as the parameter itself."""
    x, y = batch()
    own = credit.rule(
        rule, Net(lambda net, layer, x: F.linear(x, layer.weight * 1, layer.bias * 1)).double(), precision="float64"
    )
    mine, expected = own.updates(x, y).updates, made(rule, "module").updates(x, y).updates
    for name, update in expected.items():
        torch.testing.assert_close(mine[name], update, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        ("dp", {}, "is computed from parameters in forward"),
        ("eqprop", {}, "is computed from parameters in forward"),
        ("lfp_epsilon", {}, "of which layer-wise feedback propagation has no reading"),
        ("fa", {"feedback_weights": "kolen_pollack"}, "has no update of its own"),
    ],
)
def test_rules_that_need_a_parameter_refuse_a_computed_weight(rule: str, options: dict[str, Any], words: str) -> None:
    model = Net(lambda net, layer, x: F.linear(x, layer.weight * 2, layer.bias))
    with pytest.raises(UserError, match=words):
        credit.rule(rule, model, **options)


def test_clipping_that_spares_the_output_layer_spares_what_its_weight_is_computed_from() -> None:
    model = Net(lambda net, layer, x: F.linear(x, layer.weight * 2, layer.bias)).double()
    rule = credit.rule("bp", model, precision="float64", clip=1e-3, clip_output=False)
    exact = credit.rule("bp", model, precision="float64").updates(*batch()).updates
    rule.step(*batch())
    assert model.b.weight.grad is not None and model.c.weight.grad is not None
    assert torch.equal(model.c.weight.grad, exact["c.weight"])
    assert model.b.weight.grad.norm() < 1.01e-3 * model.b.weight.norm()


# ---------------------------------------------------------------- what is not reached


class Attention(nn.Module):
    """Attention with keys and values of its own beside the input's, which has no row."""

    own = True

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner, self.head = (
            nn.Linear(6, 6),
            nn.MultiheadAttention(6, 2, add_bias_kv=self.own, batch_first=True),
            nn.Linear(6, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).unsqueeze(1)
        return self.head(self.inner(x, x, x)[0].flatten(1))


class Plain(Attention):
    own = False


@pytest.mark.parametrize("rule", [*FEEDBACK, "kolen_pollack", "lisp_margin"])
def test_attentions_layers_are_reached(rule: str) -> None:
    """Its four maps are layers of weights, so that every rule that changes what crosses weights changes what reaches them."""
    options: dict[str, Any] = {"feedback_weights": rule} if rule == "kolen_pollack" else {}
    torch.manual_seed(0)
    model = Plain().double()
    made = credit.rule("fa" if options else rule, model, precision="float64", example=batch()[0], **options)
    found = made.updates(*batch()).updates
    exact = credit.rule("bp", model, precision="float64").updates(*batch()).updates
    assert {"inner.in_proj_weight", "inner.out_proj.weight"} <= {op.params.get("weight") for op in made.plan.back}
    if rule != "lisp_margin":  # its signal alone differs
        for name in ("embed.weight", "inner.in_proj_weight"):
            assert F.cosine_similarity(found[name].flatten(), exact[name].flatten(), dim=0) < 0.99, name


def between(call: Callable[[nn.Parameter, Tensor], Tensor], *shape: int) -> nn.Module:
    """A product with a parameter between two layers."""

    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.c = nn.Linear(6, 6), nn.Linear(6, 4)
            self.w = nn.Parameter(torch.randn(*shape))

        def forward(self, x: Tensor) -> Tensor:
            return self.c(call(self.w, torch.relu(self.a(x))))

    torch.manual_seed(0)
    return Between()


def _batched(w: nn.Parameter, x: Tensor) -> Tensor:
    return (x.unflatten(1, (2, 3)).transpose(0, 1) @ w).transpose(0, 1).flatten(1)


def _masked(w: nn.Parameter, x: Tensor) -> Tensor:
    x = x.unsqueeze(1)
    return F.scaled_dot_product_attention(x, x, x, attn_mask=w).flatten(1)


UNREACHED: dict[str, Callable[[], nn.Module]] = {
    "inner[0] (MultiheadAttention)": Attention,
    "einsum (torch.functional.einsum)": lambda: between(lambda w, x: torch.einsum("bi,oi,o->bo", x, w, w[0]), 6, 6),
    "linear (torch._C._nn.linear)": lambda: between(lambda w, x: F.linear(w, x).t(), 6, 6),
    "mul (mul)": lambda: between(lambda w, x: (x.unsqueeze(1) * w).sum(-1), 6, 6),
    "matmul (matmul)": lambda: between(_batched, 2, 3, 3),
    "bilinear (torch.bilinear)": lambda: between(lambda w, x: F.bilinear(x, torch.ones_like(x), w), 6, 6, 6),
}  # fmt: skip


@pytest.mark.parametrize("rule", [*FEEDBACK, "kolen_pollack"])
@pytest.mark.parametrize("what", UNREACHED)
def test_what_feedback_does_not_reach_is_refused_by_name(what: str, rule: str) -> None:
    name, _, kind = what.partition(" ")
    options: dict[str, Any] = {"feedback_weights": rule} if rule == "kolen_pollack" else {}
    with pytest.raises(UserError) as refused:
        credit.rule("fa" if rule == "kolen_pollack" else rule, UNREACHED[what](), local_autograd=True, **options)
    assert f"'{name}' {kind}" in str(refused.value)
    assert "1 op(s)" in str(refused.value) and "rule.unreached=backprop" in str(refused.value)


def test_many_are_counted_and_the_first_named() -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.c = nn.Linear(6, 6), nn.Linear(6, 4)
            self.w = nn.ParameterList(torch.randn(6, 6) for _ in range(9))

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            for w in self.w:
                x = torch.einsum("bi,oi,o->bo", x, w, w[0])
            return self.c(x)

    with pytest.raises(UserError, match=r"9 op\(s\) of Many .*'einsum_3' \(torch.functional.einsum\) and 5 more"):
        credit.rule("fa", Many(), local_autograd=True)
    rule = credit.rule("fa", Many(), local_autograd=True, unreached="backprop")
    note = next(note for note in rule.notes if note.startswith("unreached"))
    assert all(f"'einsum{end}'" in note for end in ("", *(f"_{at}" for at in range(1, 9))))


def test_unreached_backprop_crosses_by_the_adjoint_and_is_noted() -> None:
    model = between(lambda w, x: torch.einsum("bi,oi,->bo", x, w, torch.ones((), dtype=torch.float64)), 6, 6).double()
    x, y = batch()
    rule = credit.rule("fa", model, precision="float64", local_autograd=True, unreached="backprop")
    assert [note for note in rule.notes if "crossed by backprop" in note] == [
        "unreached by feedback weights, crossed by backprop: 'einsum' (torch.functional.einsum)"
    ]
    updates = rule.updates(x, y).updates
    parts: Any = model
    with torch.no_grad():
        h = torch.relu(parts.a(x))
        signal = (model(x).softmax(1) - F.one_hot(y, 4)) / len(x) @ rule.buffers["feedback.c.weight"]
        torch.testing.assert_close(updates["w"], signal.t() @ h)
        torch.testing.assert_close(updates["a.weight"], ((signal @ parts.w) * (h > 0)).t() @ x)


def test_unreached_backprop_without_such_ops_would_change_nothing() -> None:
    with pytest.raises(UserError, match=r"rule.unreached=backprop would change nothing: rule 'fa' replaces"):
        credit.rule("fa", Net(CALLS["module"]), unreached="backprop")
    with pytest.raises(
        UserError, match=r"rule.unreached=backprop would change nothing: none of this rule's choices read it"
    ):
        credit.rule("bp", Net(CALLS["module"]), unreached="backprop")


@pytest.mark.parametrize(
    "model",
    [
        lambda: nn.Sequential(nn.Linear(6, 6), nn.PReLU(), nn.Linear(6, 4)),
        lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 4)),
        lambda: between(lambda w, x: x * w, 6),
        lambda: between(lambda w, x: torch.addcmul(x, w, x), 1, 6),
        lambda: between(lambda w, x: x + w, 1, 6),
        lambda: between(lambda w, x: F.layer_norm(x, (6,), w), 6),
        lambda: between(_masked, 1, 1),
        lambda: Net(CALLS["conv"]),
    ],
)  # fmt: skip
def test_scales_norms_sums_and_masks_are_crossed_as_they_are(model: Callable[[], nn.Module]) -> None:
    rule = credit.rule("fa", model(), local_autograd=True, example=batch()[0].float())
    assert not any("unreached" in note for note in rule.notes)
    rule.step(batch()[0].float(), batch()[1])


def test_a_first_layer_that_no_signal_crosses_is_not_refused() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.c = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.einsum("bi,oi,o->bo", x, self.w, self.w[0]))

    rule = credit.rule("fa", First(), local_autograd=True)
    with pytest.raises(UserError, match="einsum"):
        rule.keep_input_signal = True


def test_the_attention_of_a_vision_transformer_is_reached() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=16, depth=1, num_classes=4)
    rule = credit.rule("fa", model, local_autograd=True)
    assert {"feedback.blocks.0.attn.qkv.weight", "feedback.blocks.0.attn.proj.weight"} <= set(rule.buffers)
    rule.step(torch.randn(2, 3, 32, 32), torch.tensor([0, 3]))


def test_standardised_convolutions_of_timm_are_reached() -> None:
    model = timm.create_model("nf_resnet26", num_classes=4, channels=(16, 32, 64, 128), stem_chs=8)
    x, y = torch.randn(2, 3, 32, 32), torch.tensor([0, 3])
    rule = credit.rule("dfa", model, local_autograd=True, example=x)
    assert len(rule.buffers) == 29  # 28 of 29 convolutions, and the head; nothing crosses the first
    rule.step(x, y)
    updates = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    exact = credit.rule("bp", model, local_autograd=True).updates(x, y).updates
    name = "stages.1.0.conv2.weight"
    assert abs(float(F.cosine_similarity(updates[name].flatten(), exact[name].flatten(), dim=0))) < 0.9


def _pooled(product: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.c, self.v = nn.Linear(6, 6), nn.Linear(6, 4), nn.Parameter(torch.randn(6))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.a(x))
            out: Tensor = self.c(h * product(self, h).unsqueeze(1))
            return out

    return Pooled().double()


@pytest.mark.parametrize(
    "product", [lambda m, h: h @ m.v, lambda m, h: torch.mv(h, m.v), lambda m, h: F.linear(h, m.v)]
)
def test_a_vector_of_weights_gets_feedback(product: Callable[[Any, Tensor], Tensor]) -> None:
    x, y = batch()
    rule = credit.rule("fa", _pooled(product), precision="float64", example=x)
    (name,) = (key for key in rule.buffers if key != "feedback.c.weight")
    assert rule.buffers[name].shape == (1, 6)
    before = rule.updates(x, y).updates
    rule.buffers[name] = -rule.buffers[name]
    after = rule.updates(x, y).updates
    assert torch.equal(before["v"], after["v"]) and not torch.equal(before["a.weight"], after["a.weight"])


@pytest.mark.parametrize(
    "product", [lambda m, h: h @ (2 * m.v), lambda m, h: m.v @ h.t(), lambda m, h: F.linear(h, 2 * m.v)]
)
def test_other_products_with_vectors_are_refused_in_words(product: Callable[[Any, Tensor], Tensor]) -> None:
    with pytest.raises(UserError, match="vector: give it a second dimension"):
        credit.rule("bp", _pooled(product), precision="float64").step(*batch())


@pytest.mark.usefixtures("registry_as_it_was")
def test_weights_of_ones_own_are_refused_where_they_do_not_reach() -> None:
    class Halved(Transpose):
        def backproject(self, op: Any, run: Any, signal: Tensor) -> Tensor:
            return super().backproject(op, run, signal) / 2

    class Allowed(Halved):
        unreached = "backprop"

    credit.register("feedback_weights", "halved")(Halved)
    credit.register("feedback_weights", "allowed")(Allowed)
    model = between(lambda w, x: torch.einsum("bi,oi,o->bo", x, w, w[0]), 6, 6).double()
    with pytest.raises(UserError, match=r'would be backprop.* unreached = "backprop" in the class Halved'):
        credit.rule("bp", model, feedback_weights="halved", local_autograd=True)
    rule = credit.rule("bp", model, feedback_weights="allowed", local_autograd=True)
    assert any("unreached by feedback weights" in note for note in rule.notes)
