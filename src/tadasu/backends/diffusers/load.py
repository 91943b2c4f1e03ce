"""Loads any pipeline that diffusers loads, and says in one line what is wrong where it cannot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu import files
from tadasu.backends.transformers.load import check_hub, quietly
from tadasu.errors import BadFile, BadInput, MissingPart, TadasuError, shown
from tadasu.references import located

if TYPE_CHECKING:
    import torch

INDEX = "model_index.json"


def load(ref: str, *, device: str | None = None, dtype: torch.dtype | None = None) -> Any:
    """A diffusers pipeline from a folder or a hub id, on its device, without progress bars.

    Args:
        ref: a folder with ``model_index.json``, a hub id, or ``world``, the bundled model.
        device: a torch device; None for CUDA where there is one, else the CPU.
        dtype: of the weights; None for float32 on the CPU and on MPS, and elsewhere for the half
            precision of the family (bfloat16 where float16 overflows).

    Raises:
        BadFile: the folder lacks a part, or its content is damaged or something else.
        BadInput: there is no such device.
        MissingPart: the extra ``diffusers`` is not installed, or the hub is not reachable.
    """
    try:
        import diffusers
        import torch
    except ImportError as error:
        raise MissingPart.extra("loading a text-to-image model", "diffusers") from error
    ref = located(ref, "pipeline")
    folder = Path(ref)
    if folder.exists():
        check_folder(folder)
    elif folder.is_absolute() or ref.startswith(".") or ref.count("/") > 1:
        raise BadFile(f"There is no model folder {shown(ref, 300)}.")
    else:
        check_hub(ref, "a diffusers pipeline", INDEX)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = dtype or default_dtype(ref, where)
    try:
        with _quietly():
            pipe = diffusers.DiffusionPipeline.from_pretrained(ref, dtype=kind)
    except TadasuError:
        raise
    except Exception as error:  # a damaged folder makes loaders raise nearly anything
        reason = " ".join(str(error).split())
        raise BadFile(
            f"{shown(ref, 300)} cannot be loaded as a diffusers pipeline: {shown(reason, 300)}"
        ) from error
    try:
        pipe = pipe.to(where)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"The device {shown(where)} is not usable here: {error}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def default_dtype(ref: str, device: str) -> torch.dtype:
    """The number format in which a model is loaded when none is given.

    Args:
        ref: a model folder or hub id.
        device: a torch device.
    """
    import torch
    from diffusers import DiffusionPipeline

    from tadasu.backends.diffusers.families import half_of

    if device.partition(":")[0] in ("cpu", "mps"):
        return torch.float32
    named: torch.dtype = torch.bfloat16
    try:
        named = getattr(torch, half_of(str(DiffusionPipeline.load_config(ref)["_class_name"])))
    except (OSError, KeyError):  # loading itself says what is wrong with it
        return named
    return named


def save(pipe: Any, folder: Path, *, like: str) -> None:
    """Save a pipeline in the number formats of the model that it was loaded from.

    Args:
        pipe: what is saved; its parts are cast in place.
        folder: a new one.
        like: the reference of the model.
    """
    for name, dtype in stored_dtypes(located(like, "pipeline")).items():
        part = getattr(pipe, name, None)
        if part is not None:
            part.to(dtype)
    pipe.save_pretrained(folder)
    files.open_to_others(folder)


def stored_dtypes(ref: str) -> dict[str, torch.dtype]:
    """The floating-point format in which each part of a model is stored, by the part's name."""
    import diffusers
    import torch
    from safetensors import safe_open

    place = Path(ref)
    if not place.is_dir():
        place = Path(diffusers.DiffusionPipeline.download(ref, local_files_only=True))
    formats = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
    found: dict[str, torch.dtype] = {}
    for file in sorted(place.glob("*/*.safetensors")):
        with safe_open(file, "pt") as content:
            kinds = {content.get_slice(key).get_dtype() for key in content.keys()}  # noqa: SIM118
        known = [formats[kind] for kind in formats if kind in kinds]
        if known and file.parent.name not in found:
            found[file.parent.name] = known[0] if len(known) == 1 else torch.float32
    return found


@contextmanager
def _quietly() -> Iterator[None]:
    """Loading without both libraries' progress bars, which are left as they were."""
    import diffusers.utils.logging as log

    shows = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        with quietly():
            yield
    finally:
        if shows:
            log.enable_progress_bar()


def check_folder(folder: Path) -> None:
    """Names what a model folder lacks before anything is loaded.

    Raises:
        BadFile: no folder, no index, an index that is damaged, or a part that is not there.
    """
    if not folder.is_dir():
        raise BadFile(f"{shown(folder, 300)} is a file; give the folder of a diffusers model.")
    index = folder / INDEX
    if not index.is_file():
        raise BadFile(
            f"{shown(folder, 300)} has no {INDEX}; give the folder that save_pretrained wrote."
        )
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        parts = {
            name: entry
            for name, entry in content.items()
            if not name.startswith("_") and isinstance(entry, list)
        }
    except (ValueError, AttributeError, OSError) as error:
        raise BadFile(f"{shown(index, 300)} is damaged: {error}") from error
    lost = [
        name
        for name, entry in parts.items()
        if entry and entry[0] is not None and not (folder / name).is_dir()
    ]
    if lost:
        raise BadFile(f"{shown(folder, 300)} lacks the parts {', '.join(lost)} that {INDEX} names.")


def system_hash(pipe: Any) -> str:
    """Content-addressed id of a model: SHA-256 over every weight and setting, ``sha256:…``.

    Two pipelines have the same id exactly when their classes, configurations and weights are
    equal, wherever they lie. Cost: one pass over the weights, about a second per gigabyte.
    """
    from tadasu.backends.diffusers.weights import tensors

    digest = hashlib.sha256(type(pipe).__name__.encode())
    for name, part in sorted(pipe.components.items()):
        digest.update(f"|{name}:{type(part).__name__}".encode())
        config = getattr(part, "config", None)
        if config is not None:
            digest.update(_plain(config).encode())
        if hasattr(part, "state_dict"):
            for key, tensor in tensors(part):
                digest.update(f"|{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(_bytes(tensor))
        elif hasattr(part, "get_vocab"):
            digest.update(json.dumps(part.get_vocab(), sort_keys=True).encode())
    return "sha256:" + digest.hexdigest()


class Watched:
    """Notices that weights of a pipeline were replaced or written, without reading them all.

    Offloading moves weights between devices at every call; that is not a change. Weights that were
    written in place through ``.data`` show only where a sample of them is looked at.
    """

    def __init__(self) -> None:
        self._places: object = None
        self._known: object = None
        self._version = 0

    def version(self, pipe: Any) -> int:
        """A number that grows whenever weights are others than before; costs milliseconds."""
        modules = [part for _, part in sorted(pipe.components.items()) if hasattr(part, "buffers")]
        weights = [weight for part in modules for weight in part.parameters()]
        others = [buffer for part in modules for buffer in part.buffers()]
        places = tuple((each.data_ptr(), each._version) for each in (*weights, *others))
        if places == self._places:
            return self._version
        # A moved weight is the same object with the same numbers; a buffer is a new object.
        objects = tuple((id(each), each._version) for each in weights)
        known = objects, _sample((*weights, *others))
        self._version += known != self._known
        self._places, self._known = places, known
        return self._version


def _sample(tensors: Sequence[torch.Tensor], each: int = 16) -> str:
    """A hash over a few numbers of every tensor, wherever it lies; one copy for each device."""
    import torch

    found: dict[torch.device, list[torch.Tensor]] = {}
    order = []
    for tensor in tensors:
        if tensor.device.type != "meta" and tensor.numel():
            flat = tensor.detach().reshape(-1)
            order.append((tensor.device, len(found.setdefault(tensor.device, []))))
            few = flat[:: max(1, len(flat) // each)][:each].to(torch.float32)
            found[tensor.device].append(torch.nn.functional.pad(few, (0, each - len(few))))
    rows = {device: torch.stack(parts).cpu() for device, parts in found.items()}
    digest = hashlib.sha256()
    for device, row in order:
        digest.update(rows[device][row].numpy().tobytes())
    return digest.hexdigest()


def _plain(config: Any) -> str:
    """A configuration without the paths and versions that do not change what the model does."""
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    kept = {
        key: value
        for key, value in values.items()
        if not key.startswith("_") and key not in ("transformers_version", "dtype", "torch_dtype")
    }
    return json.dumps(kept, sort_keys=True, default=str)


def _bytes(tensor: torch.Tensor) -> bytes:
    import torch

    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
