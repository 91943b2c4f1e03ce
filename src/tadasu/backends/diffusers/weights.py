"""Where weights really lie: offloading takes them off their modules.

Sequential offloading leaves tensors without data on the modules and keeps the values in its hooks;
group offloading to disk leaves memory with arbitrary content and keeps the values in files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from tadasu.errors import BadInput


def tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight and buffer that a checkpoint of a module would hold, sorted by name.

    Raises:
        BadInput: a weight has no data and no known hook holds it.
    """
    files = on_disk(module)
    for name, tensor in sorted(module.state_dict(keep_vars=True).items()):
        if isinstance(tensor, Tensor):
            yield name, value(module, name, tensor, files)


def value(
    module: nn.Module, name: str, tensor: Tensor, files: Mapping[int, tuple[str, str]]
) -> Tensor:
    """The values of one weight, wherever they are.

    Args:
        module: a module that has it.
        name: dotted, inside the module.
        tensor: as the module shows it.
        files: of the outermost module, from `on_disk`.

    Raises:
        BadInput: it has no data and no known hook holds it.
    """
    if id(tensor) in files:
        return _read(*files[id(tensor)])
    if tensor.device.type != "meta":
        return tensor.detach()
    path, _, last = name.rpartition(".")
    for holder, key in ((module.get_submodule(path), last), (module, name)):
        for held in _maps(holder):
            if key in held:
                found: Tensor = held[key]
                return found.detach()
    raise BadInput(
        f"The weight {name} has no data (device meta) and no offloading hook that holds it. Load "
        "the model completely, or take the offloading off first."
    )


def on_disk(module: nn.Module) -> dict[int, tuple[str, str]]:
    """File and key of every weight that diffusers' group offloading put on disk, by identity."""
    found = {}
    for part in module.modules():
        registry: Any = getattr(part, "_diffusers_hook", None)
        for hook in getattr(registry, "hooks", {}).values():
            group: Any = getattr(hook, "group", None)
            if getattr(group, "offload_to_disk_path", None):
                for tensor, key in group.tensor_to_key.items():
                    found[id(tensor)] = str(group.safetensors_file_path), str(key)
    return found


def _maps(module: nn.Module) -> Iterator[Mapping[str, Tensor]]:
    """What the hooks of accelerate on a module hold for it."""
    hook: Any = getattr(module, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):
        held = getattr(each, "weights_map", None)
        if held is not None:
            yield held


def _read(file: str, key: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        found: Tensor = opened.get_tensor(key)
    return found
