"""Scheduler settings and adapter files of a pipeline, for as long as a ``with`` lasts."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.errors import BadFile, BadInput, UnknownName, shown

if TYPE_CHECKING:
    import torch


@contextmanager
def scheduled(pipe: Any, settings: Mapping[str, Any]) -> Iterator[None]:
    """Another scheduler, or other settings of the same one, inside the block.

    Args:
        pipe: any pipeline with a scheduler.
        settings: ``name`` is the class of a scheduler that fits the pipeline's own; the other keys
            change its configuration. Empty changes nothing.

    Raises:
        UnknownName: no fitting scheduler has this name, or it has no such setting.
    """
    if not settings:
        yield
        return
    before = pipe.scheduler
    pipe.scheduler = _scheduler(before, settings)
    try:
        yield
    finally:
        pipe.scheduler = before


def _scheduler(own: Any, settings: Mapping[str, Any]) -> Any:
    """A scheduler made from a pipeline's own; diffusers leaves few-step ones off its list."""
    import diffusers

    few_step = (diffusers.LCMScheduler, diffusers.TCDScheduler)
    fitting = {cls.__name__: cls for cls in (type(own), *own.compatibles)}
    if isinstance(own, few_step) or diffusers.DDIMScheduler in own.compatibles:
        fitting |= {cls.__name__: cls for cls in (diffusers.DDIMScheduler, *few_step)}
    name = str(settings.get("name", type(own).__name__))
    if name not in fitting:
        raise UnknownName("scheduler", name, fitting)
    changed = {key: value for key, value in settings.items() if key != "name"}
    known = {key for key in fitting[name].from_config(own.config).config if key[0] != "_"}
    for key in changed:
        if key not in known:
            raise UnknownName(f"setting of {name}", key, known)
    return fitting[name].from_config(own.config, **changed)


def fuse(pipe: Any, file: str, settings: Mapping[str, Any]) -> None:
    """Writes one LoRA file into the weights, for good, and sets the scheduler it was made for.

    Args:
        pipe: a pipeline that takes LoRA files and has none loaded.
        file: a safetensors file.
        settings: of the scheduler, as for `scheduled`.

    Raises:
        BadInput: the pipeline takes no LoRA, or has adapters already.
        BadFile: the file is no safetensors file that fits the pipeline.
        UnknownName: no fitting scheduler has this name, or it has no such setting.
    """
    scheduler = _scheduler(pipe.scheduler, settings)
    with adapted(pipe, [file]):
        pipe.fuse_lora()
    pipe.scheduler = scheduler


@contextmanager
def adapted(pipe: Any, files: Sequence[str]) -> Iterator[None]:
    """LoRA files on a pipeline inside the block, all at full weight.

    Raises:
        BadInput: the pipeline takes no LoRA, or has adapters already.
        BadFile: a file is no safetensors file that fits the pipeline.
    """
    if not files:
        yield
        return
    from safetensors import SafetensorError

    if not hasattr(pipe, "load_lora_weights") or pipe.get_list_adapters():
        raise BadInput("Adapters need a pipeline that takes LoRA files and has none loaded yet.")
    names = [f"file{place}" for place in range(len(files))]
    try:
        for file, name in zip(files, names, strict=True):
            if not Path(file).is_file() or Path(file).suffix != ".safetensors":
                raise BadFile(f"{shown(file, 300)} is not a .safetensors file.")
            try:
                pipe.load_lora_weights(file, adapter_name=name)
            except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as error:
                raise BadFile(f"{shown(file, 300)} does not fit this pipeline: {error}") from error
        pipe.set_adapters(names)
        yield
    finally:
        if pipe.get_list_adapters():
            pipe.unload_lora_weights()


def lighten(pipe: Any, dtype: str) -> None:
    """Runs the denoiser alone in another precision; texts, latents and schedulers stay as they are.

    On processors with bfloat16 instructions this halves the time of a step.

    Args:
        pipe: a pipeline with a ``unet`` or ``transformer``; it is changed for good.
        dtype: ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        UnknownName: another precision.
        BadInput: the pipeline has no denoiser of a known name.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise UnknownName("precision", dtype, known)
    denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    if denoiser is None:
        raise BadInput("Only a pipeline with a unet or a transformer has a denoiser to lighten.")
    for parameter in (*denoiser.parameters(), *denoiser.buffers()):
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(known[dtype])
    inner = type(denoiser).forward.__get__(denoiser)

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        given = [_cast(value, known[dtype]) for value in args]
        named = {name: _cast(value, known[dtype]) for name, value in kwargs.items()}
        return _cast(inner(*given, **named), torch.float32)

    denoiser.forward = forward


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors of at least one axis in another precision, also inside tuples."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() and value.ndim else value
    if type(value) in (tuple, list):
        return type(value)(_cast(each, dtype) for each in value)
    if isinstance(value, dict):
        changed = {key: _cast(each, dtype) for key, each in value.items()}
        return changed if type(value) is dict else type(value)(**changed)
    return value


def file_hash(path: str) -> str:
    """SHA-256 of a file's bytes, ``sha256:…``.

    Raises:
        BadFile: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadFile(f"Cannot read {shown(path, 300)}: {error}") from error
