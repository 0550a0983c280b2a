"""Write a trained network for use elsewhere. A file gets its name after the network read back from it gave the same outputs."""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from credit.core.errors import UserError, nearest
from credit.data.statistics import statistics
from credit.data.targets import recorded_task
from credit.diagnostics.networks import as_input, float_dtype
from credit.training.state.loading import Trained, run_data

FORMATS = {"safetensors": ".safetensors", "torch_export": ".pt2", "onnx": ".onnx"}
"""Suffix of the file by format."""
_ONNX = ("onnx", "onnxscript", "onnxruntime")
_BATCHES = (3, 5)
"""Sizes of the batches on which the file's outputs are compared: two, because the batch's size is not fixed in it."""


def export(trained: Trained, to: str, path: Path | None = None) -> Path:
    """Write a trained network to a file, and return its path.

    ``safetensors``: parameters and buffers by name. ``torch_export``: `torch.export.save`. ``onnx``: from ``x`` to ``logits``.
    All have what belongs to the network beside it (`record_of`): in the file's metadata, as JSON under ``credit``.
    The exported network takes preprocessed inputs (B, ...), B any number.

    Args:
        trained: see `credit.training.state.loading.load`.
        to: one of `FORMATS`.
        path: the file; None: ``model`` with the format's suffix in the run's folder.

    Raises:
        UserError: an unknown format, packages that are not installed, a rule that is evaluated by settling where the format has the
            forward pass alone, a network that cannot be exported, or outputs that differ.
    """
    check_format(to)
    if trained.settles and to != "safetensors":
        raise UserError(
            f"rule={trained.rule.name} is evaluated by settling, and {to} has the forward pass alone, which answers otherwise: "
            "write --to safetensors (the weights), and use credit.load in Python"
        )
    path = path or trained.folder / f"model{FORMATS[to]}"
    if path.suffix != FORMATS[to] or not path.parent.is_dir():
        raise UserError(f"{path}: {to} is written to an existing folder, as *{FORMATS[to]}")
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    write = {"safetensors": _safetensors, "torch_export": _torch_export, "onnx": _onnx}[to]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporters about themselves
            again = write(trained, beside, json.dumps(record_of(trained)))
            _compare(trained, again, to)
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        beside.unlink(missing_ok=True)
    return path


def check_format(to: str) -> None:
    """Refuse an unknown format, and one whose packages are not installed.

    Raises:
        UserError: naming the formats or the packages.
    """
    if to not in FORMATS:
        raise UserError(f"--to {to}: {nearest(to, FORMATS)}")
    missing = [name for name in _ONNX if find_spec(name) is None]
    if to == "onnx" and missing:
        raise UserError(
            f"--to onnx needs {', '.join(missing)}: pip install {' '.join(_ONNX)}; or write --to torch_export"
        )


def record_of(trained: Trained) -> dict[str, Any]:
    """Return what belongs to an exported network: configuration, ``shape``, ``names``, ``top`` and ``preprocessing``.

    See `credit.data.statistics.statistics`; ``preprocessing`` is null for a whitening, whose matrix is not exported.
    """
    held = trained.result["data"]
    if "preprocessing" not in held:  # of a run before results had it
        held = held | statistics(run_data(trained.config, trained.result, "cpu"))
    record = {key: held[key] for key in ("shape", "names", "top", "preprocessing")}
    about = {"run": trained.folder.name, "weights": trained.weights, "step": trained.step}
    return {**about, **record, "config": trained.config.as_dict()}


def _examples(trained: Trained, size: int) -> Tensor:
    source = torch.Generator().manual_seed(size)
    x, _ = trained.task.example(trained.shape, recorded_task(trained.result["data"])[1], size, source)
    return as_input(x.to(next(trained.parameters()).device), float_dtype(trained.network))


def _safetensors(trained: Trained, path: Path, record: str) -> Callable[[Tensor], Tensor]:
    from safetensors import safe_open
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous().clone() for name, value in trained.network.state_dict().items()}
    save_file(state, path, metadata={"format": "pt", "credit": record})
    with safe_open(path, framework="pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a function of safetensors
    if held.keys() != state.keys() or not all(torch.equal(held[name], value) for name, value in state.items()):
        raise UserError("the tensors read back from the safetensors file are not those of the network")
    return trained


def _torch_export(trained: Trained, path: Path, record: str) -> Callable[[Tensor], Tensor]:
    program = _program(trained.network, _examples(trained, _BATCHES[0]))
    with open(path, "wb") as file:
        torch.export.save(program, file, extra_files={"credit": record})
    with open(path, "rb") as file:
        found: nn.Module = torch.export.load(file).module()
    return found


def _program(network: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # of any kind: the exporter runs the network's own code
        raise UserError(f"torch.export cannot export this network: {_line(error)}. Write --to safetensors") from error


def _onnx(trained: Trained, path: Path, record: str) -> Callable[[Tensor], Tensor]:
    import onnx
    import onnxruntime

    program = _program(trained.network.cpu(), _examples(trained, _BATCHES[0]).cpu())
    try:
        made = torch.onnx.export(program, dynamo=True, input_names=["x"], output_names=["logits"], verbose=False)
        assert made is not None
        model = made.model_proto
    except Exception as error:
        raise UserError(f"torch.onnx cannot export this network: {_line(error)}. Write --to torch_export") from error
    onnx.helper.set_model_props(model, {"credit": record})
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.cpu().numpy()})[0])


def _compare(trained: Trained, again: Callable[[Tensor], Tensor], to: str, sizes: Sequence[int] = _BATCHES) -> None:
    """Refuse a file whose network gives other outputs.

    Raises:
        UserError: naming the difference.
    """
    for size in sizes:
        x = _examples(trained, size)
        with torch.no_grad():
            own = trained(x).double().cpu()
            try:
                found = again(x).double().cpu()
            except Exception as error:
                raise UserError(f"the {to} file cannot be computed with on {size} examples: {_line(error)}") from error
        if found.shape != own.shape or not torch.allclose(found, own, rtol=1e-3, atol=1e-4 * float(own.abs().max())):
            raise UserError(
                f"the network read back from the {to} file gives other outputs on {size} random examples; nothing was written"
            )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
