"""The examples of other people's training loops, run as they are."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str, monkeypatch: pytest.MonkeyPatch, *libraries: str) -> ModuleType:
    """Return an example's module; the test is skipped where a library is not installed."""
    for library in libraries:
        pytest.importorskip(library, reason=f"{library} is not installed: uv pip install 'credit[integrations]'")
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setitem(sys.modules, name, None)
    del sys.modules[name]
    return importlib.import_module(name)


def test_a_loop_of_ones_own(monkeypatch):
    assert example("plain_loop", monkeypatch).main(epochs=3) > 0.9


def test_torch_func(monkeypatch):
    assert min(example("torch_func", monkeypatch).main(steps=60)) > 0.75


@pytest.mark.slow
def test_accelerate(monkeypatch):
    assert example("accelerate_loop", monkeypatch, "accelerate").main() > 0.9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*")
def test_lightning(monkeypatch):
    assert example("lightning_module", monkeypatch, "lightning").main() > 0.9


@pytest.mark.slow
def test_the_trainer_of_transformers(monkeypatch):
    assert example("huggingface_trainer", monkeypatch, "transformers", "accelerate").main() < 1.0


@pytest.mark.slow
def test_the_step_of_timms_script(monkeypatch):
    assert example("timm_step", monkeypatch).main() > 0.6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exports(monkeypatch):
    assert example("export_network", monkeypatch, "onnx", "onnxscript", "onnxruntime").main() < 1e-4


def test_every_example_is_in_the_readme_and_here():
    scripts = {file.stem for file in EXAMPLES.glob("*.py")} - {"digits"}
    own, readme = Path(__file__).read_text(), (EXAMPLES.parent / "README.md").read_text()
    assert scripts and all(f'"{name}"' in own and f"examples/{name}.py" in readme for name in scripts)
