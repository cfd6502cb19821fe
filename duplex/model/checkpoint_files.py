"""Tensors in and out of checkpoint files, strictly: whatever does not fit is an error that names it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from duplex.core.errors import CheckpointError

_NAMED = 5  # tensors an error message lists before it only counts
SCALE = ".int8_scale"  # behind the name of a tensor in 8 bit: what its rows are multiplied with
INT8_LARGEST = 127
_INT8_NUMBERS = 1024  # a tensor has to hold, or 8 bits are not worth it
_COUNTER = "num_batches_tracked"  # a batch norm's step count: not needed, absent from some files


@dataclass
class TensorFile:
    """The tensors of one file under flat, dotted names."""

    path: Path
    tensors: dict[str, Tensor]

    def take(self, prefix: str) -> TensorFile:
        """The tensors whose names start with `prefix`, without it; they are removed here."""
        names = [name for name in self.tensors if name.startswith(prefix)]
        return TensorFile(self.path, {name.removeprefix(prefix): self.tensors.pop(name) for name in names})

    def refuse_rest(self) -> None:
        """Raises CheckpointError when tensors are left that nobody took."""
        if self.tensors:
            raise CheckpointError(f"{self.path}: unexpected {_list(sorted(self.tensors))}")


def read_tensor_file(folder: Path) -> TensorFile:
    """Read `final.safetensors`, or else `final.pt`, of a folder.

    A .pt file may hold a plain state dict, one wrapped in {"model": ...}, or one of groups ({"generator": {...}});
    groups become prefixes. Pickles are read with weights_only. Tensors in 8 bit (`in_eight_bits`) come back as float32.
    Raises CheckpointError.
    """
    flat = folder / "final.safetensors"
    pickled = folder / "final.pt"
    if flat.is_file():
        try:
            return TensorFile(flat, _widened(safetensors.torch.load_file(flat), flat))
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{flat} cannot be read: {error}") from error
    try:
        loaded: object = torch.load(pickled, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has neither final.pt nor final.safetensors") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{pickled} cannot be read: {error}") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("model"), Mapping):
        loaded = loaded["model"]
    tensors: dict[str, Tensor] = {}
    _flatten(loaded, "", tensors, pickled)
    return TensorFile(pickled, tensors)


def load_module(module: nn.Module, source: TensorFile, prefix: str) -> None:
    """Fill `module` from `source`, whose names had `prefix` in the file (for messages only).

    Sixteen-bit tensors are upcast. Raises CheckpointError naming missing, unexpected or mis-shaped tensors.
    """
    wanted = module.state_dict()
    given = source.tensors
    for name in wanted.keys() - given.keys():
        if name.endswith(_COUNTER):
            given[name] = wanted[name]
    problems = {
        "missing": sorted(prefix + name for name in wanted.keys() - given.keys()),
        "unexpected": sorted(prefix + name for name in given.keys() - wanted.keys()),
        "mis-shaped": sorted(
            f"{prefix}{name} {list(given[name].shape)} instead of {list(wanted[name].shape)}"
            for name in wanted.keys() & given.keys()
            if given[name].shape != wanted[name].shape
        ),
    }
    told = [f"{kind} {_list(names)}" for kind, names in problems.items() if names]
    if told:
        raise CheckpointError(f"{source.path}: {'; '.join(told)}")
    module.load_state_dict(given)  # copies into the module's own dtype


def stored(module: nn.Module, prefix: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state of `module` for a file: parameters in `dtype`, buffers (statistics) as they are.

    A parameter whose values do not fit into `dtype` keeps its own.
    """
    parameters = {name for name, _ in module.named_parameters()}
    out: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if name.endswith(_COUNTER):
            continue
        tensor = tensor.detach().cpu()
        out[prefix + name] = narrowed(tensor, dtype) if name in parameters else tensor.clone()
    return out


def in_eight_bits(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors`, the large matrices and kernels among them as int8 with a float32 scale a row, beside it under its name
    and SCALE: value = int8 * scale.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        out[name] = tensor
        if not tensor.is_floating_point() or tensor.dim() < 2 or tensor.numel() < _INT8_NUMBERS:
            continue
        values = tensor.float()
        scale = values.abs().amax(dim=tuple(range(1, values.dim())), keepdim=True) / INT8_LARGEST
        steps = (values / scale.clamp(min=torch.finfo(torch.float32).tiny)).round()
        out[name], out[name + SCALE] = steps.to(torch.int8), scale
    return out


def on_eight_bit_grid(matrix: Tensor) -> Tensor:
    """A matrix with every row rounded to at most 127 steps of a power of two on either side of zero.

    So bfloat16 holds it exactly, and a file that knows no 8 bit can keep it.
    """
    scale = power_of_two(matrix.float().abs().amax(dim=1, keepdim=True) / INT8_LARGEST)
    steps = (matrix.float() / scale.clamp(min=torch.finfo(torch.float32).tiny)).round()
    return (steps * scale).to(matrix.dtype)


def power_of_two(at_least: Tensor) -> Tensor:
    """The least powers of two that are not below `at_least`; 0 for 0."""
    return torch.exp2(torch.ceil(torch.log2(at_least)))


def _widened(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The reverse of `in_eight_bits`, in float32. Raises CheckpointError for scales that do not fit."""
    for scale_name in [name for name in tensors if name.endswith(SCALE)]:
        scale, name = tensors.pop(scale_name), scale_name.removesuffix(SCALE)
        steps = tensors.get(name)
        if steps is None or steps.dtype != torch.int8 or scale.shape != (len(steps), *[1] * (steps.dim() - 1)):
            raise CheckpointError(f"{path}: {scale_name} {list(scale.shape)} belongs to no int8 tensor of so many rows")
        tensors[name] = steps.float() * scale
    return tensors


def narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy in `dtype`, or in its own where `dtype` cannot hold its values."""
    small = tensor.detach().cpu().to(dtype, copy=True).contiguous()
    return small if bool(small.isfinite().all()) else tensor.detach().cpu().clone().contiguous()


def write_tensor_file(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `final.safetensors`; a `final.pt` left from before goes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "final.safetensors", tensors)
    (folder / "final.pt").unlink(missing_ok=True)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file, marked as torch's; with the permissions of any file, which save_file's lack.

    The file appears at once and whole: tensors that were read from an older one are views of it, maybe these ones.
    """
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(safetensors.torch.save(dict(tensors), metadata={"format": "pt"}))
    partial.replace(path)


def _flatten(loaded: object, prefix: str, into: dict[str, Tensor], path: Path) -> None:
    if isinstance(loaded, Tensor):
        into[prefix.removesuffix(".")] = loaded
    elif isinstance(loaded, Mapping):
        for name, value in loaded.items():
            _flatten(value, f"{prefix}{name}.", into, path)
    else:
        raise CheckpointError(
            f"{path}: {prefix.removesuffix('.') or 'its content'} is a {type(loaded).__name__}, not a tensor"
        )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"tensor{'s' if len(names) > 1 else ''} {', '.join(names[:_NAMED])}{more}"
