"""The examples of other people's training loops, run as they are: they learn, and their gradients are the rule's steps."""

import copy
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

import credit
from credit.rules.wrap import Wrapped

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str, monkeypatch: pytest.MonkeyPatch, *libraries: str) -> ModuleType:
    """Return an example's module; the test is skipped where a library is not installed."""
    for library in libraries:
        pytest.importorskip(library, reason=f"{library} is not installed: make env")
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(name)


def grads(net: Wrapped) -> dict[str, Tensor]:
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@contextmanager
def steps_compared(
    monkeypatch: pytest.MonkeyPatch, *, pieces: int = 1, clip: float | None = None, dtype: torch.dtype | None = None
) -> Iterator[None]:
    """Compare what the first three optimizer steps have in `.grad` with `rule.step` of a copy on the same batches.

    Args:
        pieces: batches that an optimizer step accumulates, as a mean.
        clip: largest norm of the gradient, to which the loop scales it.
        dtype: of the rule's computation, where the loop asks for one by autocast.
    """
    forward = Wrapped.forward
    batches: list[tuple[Tensor, Tensor]] = []
    twins: list[Wrapped] = []
    compared: list[int] = []

    def recorded(net: Wrapped, x: Tensor, y: Tensor | None = None) -> Tensor:
        if y is not None and torch.is_grad_enabled() and len(compared) < 3:
            if not batches:
                with torch.autocast("cpu", enabled=False):  # a copy traces its model, which autocast would change
                    twins[:] = [net, copy.deepcopy(net)]
            batches.append((x, y))
        return forward(net, x, y)

    def compare(*_: Any) -> None:
        if not batches:
            return
        net, twin = twins
        assert len(batches) == pieces
        twin.zero_grad()
        twin.rule.dtype = dtype
        for x, y in batches:
            twin.rule.step(x, y, accumulate=True, transform=False)
        for grad in grads(twin).values():
            grad /= pieces
        twin.rule.transform()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(twin.parameters(), clip)
        assert any(grad.any() for grad in grads(twin).values())
        torch.testing.assert_close(grads(net), grads(twin), rtol=1e-5, atol=1e-8)
        compared.append(len(batches))
        batches.clear()

    monkeypatch.setattr(Wrapped, "forward", recorded)
    hook = register_optimizer_step_post_hook(compare)
    try:
        yield
    finally:
        hook.remove()
    assert len(compared) == 3


def test_a_loop_of_ones_own(monkeypatch):
    with steps_compared(monkeypatch, pieces=2, dtype=torch.bfloat16):
        assert example("plain_loop", monkeypatch).main(epochs=3) > 0.9


def test_torch_func(monkeypatch):
    module = example("torch_func", monkeypatch)
    assert min(module.main(steps=60)) > 0.75
    models = [module.network(seed) for seed in range(2)]
    params = {name: value.detach() for name, value in module.stack_module_state(models)[0].items()}
    x, y = (part[:16] for part in module.sets()[0].tensors)
    found = module.step(credit.rule("fa", models[0]), params, x, y)
    for at, own in enumerate(models):
        model = module.network(0)
        rule = credit.rule("fa", model, example=x)  # whose feedback weights all networks share
        model.load_state_dict(own.state_dict())
        rule.step(x, y)
        wanted = {name: p.detach() - 0.1 * p.grad for name, p in model.named_parameters()}
        torch.testing.assert_close({name: value[at] for name, value in found.items()}, wanted)


@pytest.mark.slow
def test_accelerate(monkeypatch):
    with steps_compared(monkeypatch, pieces=2, clip=5.0):
        assert example("accelerate_loop", monkeypatch, "accelerate").main() > 0.9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning", "ignore:.*does not have many workers.*")
def test_lightning(monkeypatch):
    with steps_compared(monkeypatch, pieces=2, clip=5.0):
        assert example("lightning_module", monkeypatch, "lightning").main() > 0.9


@pytest.mark.slow
def test_the_trainer_of_transformers(monkeypatch):
    module = example("huggingface_trainer", monkeypatch, "transformers", "accelerate")
    with steps_compared(monkeypatch, pieces=2, clip=1.0):
        assert module.main() < 1.0


@pytest.mark.slow
def test_the_step_of_timms_script(monkeypatch):
    with steps_compared(monkeypatch, pieces=2, clip=5.0):
        assert example("timm_step", monkeypatch).main() > 0.7


@pytest.mark.slow
def test_exports(monkeypatch):
    with steps_compared(monkeypatch):
        accuracy, difference = example("export_network", monkeypatch, "onnx", "onnxscript", "onnxruntime").main()
    assert accuracy > 0.8 and difference < 1e-4


def test_every_example_is_in_the_readme_and_here():
    scripts = {file.stem for file in EXAMPLES.glob("*.py")} - {"digits"}
    own, readme = Path(__file__).read_text(), (EXAMPLES.parent / "README.md").read_text()
    assert scripts and all(f'"{name}"' in own and f"examples/{name}.py" in readme for name in scripts)
