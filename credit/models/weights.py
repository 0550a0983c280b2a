"""Weights from a file: what may be read, whose layers they are, and which of them a network takes.

No file can run code: safetensors holds tensors alone, and torch's own format is read with ``weights_only``.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.core.reading import reading

TORCH = (".pt", ".pth")
"""Suffixes of torch's own format."""
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of names that wrappers of a network add."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of real numbers that a file may have; they are converted to the network's own."""


def read_weights(path: str) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a file, and a note on their names, which may be empty.

    The file is ``.safetensors``, or a state dict that `torch.save` wrote (``.pt``, ``.pth``).

    Args:
        path: as given with ``arch.pretrained``.

    Raises:
        UserError: an empty path, no such file, another format, a damaged file, one that holds more than tensors, or a tensor
            that is quantised, sparse, complex, of 8-bit floats or not finite (named).
    """
    from safetensors.torch import load_file

    if not path.strip():
        raise UserError(
            "arch.pretrained= is empty (from a variable that is not set?): give the path of the weights, true for the published "
            "ones, or false for none"
        )
    file = Path(path).expanduser()
    given = f"arch.pretrained={path!r}"
    if file.suffix not in (".safetensors", *TORCH):
        raise UserError(
            f"{given} is no .safetensors file and no state dict of torch ({', '.join(TORCH)}); other checkpoint formats may "
            f"hold code and are not opened. Convert it with safetensors.torch.save_file"
        )
    if not file.is_file():
        raise UserError(f"{given}: there is no such file; give the path of the weights")
    with reading(file, "a file of tensors alone", "fetch or save it again, as tensors alone"):
        if file.suffix == ".safetensors":
            return _own_names(_usable(load_file(file), given))
        state = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):  # as training scripts wrap it
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise UserError(f"{given} holds no state dict (tensors by name): save model.state_dict()")
    return _own_names(_usable(state, given))


def _own_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return tensors by their names without the prefixes of wrappers (DataParallel, torch.compile), and a note on these."""
    names, removed = list(state), ""
    while names and any(all(name.startswith(prefix) for name in names) for prefix in WRAPPERS):
        removed += names[0].partition(".")[0] + "."
        names = [name.partition(".")[2] for name in names]
    note = f"; the prefix {removed} of all names was left out" if removed else ""
    return dict(zip(names, state.values(), strict=True)), note


def _usable(state: Mapping[str, Tensor], given: str) -> dict[str, Tensor]:
    """Return the tensors, refusing the first that no network's weights can be."""
    for name, value in state.items():
        what = None
        if value.is_quantized or value.layout != torch.strided or value.is_meta:
            what = "is quantised, sparse or without content"
        elif value.is_complex() or (value.is_floating_point() and value.dtype not in FLOATS):
            what = f"is {str(value.dtype).removeprefix('torch.')}"
        elif value.is_floating_point() and not (finite := value.isfinite()).all():
            what = f"has {int((~finite).sum())} of {value.numel()} numbers that are not finite (nan or infinite)"
        if what is not None:
            raise UserError(f"{given}: tensor '{name}' {what}; give weights of finite real numbers, saved as float32")
    return dict(state)


def conversions(own: Mapping[str, Tensor], state: Mapping[str, Tensor], given: str) -> str:
    """Return what a note says of tensors that were converted to the network's own type; nothing where there are none.

    Args:
        own: the network's tensors.
        state: the file's, by the same names.
        given: what was asked for, for messages.

    Raises:
        UserError: whole numbers where the network has real ones, or the reverse; the tensor is named.
    """
    kinds: dict[str, int] = {}
    for name in own.keys() & state.keys():
        here, there = own[name].dtype, state[name].dtype
        if here.is_floating_point != there.is_floating_point:
            raise UserError(
                f"{given}: tensor '{name}' is {str(there).removeprefix('torch.')}, and the network's is "
                f"{str(here).removeprefix('torch.')}; give the weights as they are before quantisation"
            )
        if here != there and here.is_floating_point:
            kind = f"from {str(there).removeprefix('torch.')} to {str(here).removeprefix('torch.')}"
            kinds[kind] = kinds.get(kind, 0) + 1
    return "".join(f"; {count} tensors were converted {kind}" for kind, count in sorted(kinds.items()))


def fit(model: nn.Module, state: Mapping[str, Tensor], head: Iterable[str], given: str) -> str:
    """Copy weights into a network; a head for another number of classes stays as it was initialised. Return a note on it.

    Args:
        model: changed in place.
        state: tensors by the names of the model's own parameters and buffers.
        head: names of the last layer's parameters.
        given: what was asked for, as in ``arch.pretrained='vgg16.pth'``, for messages.

    Raises:
        UserError: tensors that are missing, belong to no layer, have another shape or are whole numbers: named.
    """
    own, head = model.state_dict(), tuple(head)
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in own]
    if missing or unknown:
        raise UserError(
            f"{given}: the weights do not fit this network: {misfit(missing, unknown)}. Give a file saved from this architecture "
            f"with these options"
        )
    shapes = {name: (tuple(state[name].shape), tuple(own[name].shape)) for name in state}
    replaced = any(shapes[name][0] != shapes[name][1] for name in head)
    wrong = [name for name, (there, here) in shapes.items() if there != here and name not in head]
    if wrong:
        there, here = shapes[wrong[0]]
        raise UserError(
            f"{given}: the weights do not fit this network: '{wrong[0]}' is {there}, here {here}"
            f"{f' (and {len(wrong) - 1} more)' if len(wrong) > 1 else ''}. Give a file saved from this architecture with these "
            f"options"
        )
    converted = conversions(own, state, given)
    model.load_state_dict(
        {name: value for name, value in state.items() if not (replaced and name in head)}, strict=False
    )
    if not replaced:
        return f"{given}: all weights are pretrained, the head's too{converted}"
    name = head[0]
    return (
        f"{given}: the head starts fresh, for {shapes[name][1][0]} classes (the weights' are {shapes[name][0][0]}); all other "
        f"layers are pretrained{converted}"
    )


def misfit(missing: Sequence[str], unknown: Sequence[str]) -> str:
    """Return which of a network's tensors a file lacks and which of the file's belong to no layer; one of both is not empty."""
    parts = [f"{len(missing)} of its tensors are missing ({', '.join(missing[:3])})"] if missing else []
    if unknown:
        parts.append(f"{len(unknown)} of the file's belong to no layer ({', '.join(unknown[:3])})")
    return ", ".join(parts)
