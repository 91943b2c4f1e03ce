"""Read any shared file into updates, or say in one sentence why it cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tadasu.auditing import checkpoint, embedding, families, formats, metadata
from tadasu.auditing.adapter import Adapter, Update
from tadasu.auditing.base import Base, canonical
from tadasu.auditing.configuration import FILE, Configuration, configuration
from tadasu.auditing.containers import Limits, TensorFile, open_file
from tadasu.auditing.formats.group import Group
from tadasu.auditing.names import Target, resolve
from tadasu.errors import BadFile, BadInput, shown

#: Share of a file's modules that must be known for the rest to count as merely unexamined.
ENOUGH = 0.5


def read(path: str | Path, base: Base | None = None, limits: Limits | None = None) -> Adapter:
    """Read one shared file.

    Args:
        path: a file, or a folder that holds peft's ``adapter_model.safetensors``.
        base: the model it is meant for; its names and shapes decide where the file is ambiguous,
            and a file that does not fit it is refused.
        limits: what is too much.

    Raises:
        BadFile: with the one reason why it cannot be read.
    """
    limits = limits or Limits()
    file = open_file(_file(Path(path)), limits)
    try:
        return _read(file, base, limits)
    except BadFile:
        raise
    except (BadInput, MemoryError, RecursionError) as error:
        raise BadFile(str(error) or "It needs more memory than there is.") from error


def _file(path: Path) -> Path:
    """The file itself; in a folder of peft the weights."""
    if path.is_symlink() or not path.is_dir():
        return path
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (path / name).is_file():
            return path / name
    raise BadFile(f"The folder holds no adapter ({FILE} with adapter_model.safetensors).")


@dataclass(frozen=True, kw_only=True)
class _Module:
    """One module of a file with what its name means."""

    raw: str
    keys: Mapping[str, str]
    targets: tuple[Target, ...]
    layout: str


def _read(file: TensorFile, base: Base | None, limits: Limits) -> Adapter:
    blank = Adapter(
        path=file.plain.path,
        digest=file.plain.digest(),
        format="",
        layout="",
        family=families.UNKNOWN,
        updates={},
        metadata=metadata.parse(file.metadata),
    )
    modules, rest = formats.grouped(file.stored)
    if modules:
        return _adapter(blank, file, modules, rest, base, limits)
    vectors = embedding.embeddings(file)
    if vectors:
        widths = {part: int(tensor.shape[1]) for part, tensor in vectors.items()}
        found = families.embedding_family(widths)
        return replace(
            blank, format="embedding", layout="embedding", family=found, embeddings=vectors
        )
    whole = checkpoint.updates(file, base)
    if whole:
        kept, unmatched = _fit(whole, base)
        layout = _common([resolve(key, base) for key in file.stored])
        return _finished(blank, "checkpoint", layout, kept, unmatched)
    raise BadFile(_nothing(list(file.stored)))


def _common(resolved: list[object]) -> str:
    layouts = [getattr(found, "layout", "") for found in resolved if found is not None]
    return max(sorted(set(layouts)), key=layouts.count, default="")


def _nothing(names: list[str]) -> str:
    example = f", for example {shown(names[0])}" if names else ""
    return f"None of its {len(names)} tensors belongs to a known part of a model{example}."


def _adapter(
    blank: Adapter,
    file: TensorFile,
    modules: Mapping[str, Mapping[str, str]],
    rest: list[str],
    base: Base | None,
    limits: Limits,
) -> Adapter:
    loaded = sum(place.length for place in file.stored.values())
    if loaded > limits.loaded:
        raise BadFile(f"Its tensors have {loaded:,} bytes; at most {limits.loaded:,} are loaded.")
    config = configuration(file.plain.path, file.metadata, limits)
    known: list[_Module] = []
    unknown: list[str] = [*rest]
    for raw, keys in modules.items():
        resolved = resolve(raw, base)
        if resolved is None or set(keys) == {"alpha"}:  # a scale of nothing changes nothing
            unknown.append(raw)
        else:
            known.append(
                _Module(raw=raw, keys=keys, targets=resolved.targets, layout=resolved.layout)
            )
    if not known:
        raise BadFile(_nothing(list(file.stored)))
    updates: dict[str, Update] = {}
    for module in known:
        for name, update in _build(module, file, config, base, limits).items():
            if name in updates:
                raise BadFile(f"Two modules of the file change {shown(name, 120)}.")
            updates[name] = update
    kept, unmatched = _fit(_second_encoder(updates), base)
    kinds = "+".join(sorted({update.kind for update in kept.values()}))
    layouts = [module.layout for module in known]
    layout = max(sorted(set(layouts)), key=layouts.count)
    return _finished(blank, kinds, layout, kept, [*unknown, *unmatched])


def _second_encoder(updates: Mapping[str, Update]) -> Mapping[str, Update]:
    """Kohya's scripts number FLUX's T5 as the third text encoder; in diffusers it is the second."""
    if not any(name.startswith("transformer.single_transformer_blocks.") for name in updates):
        return updates
    third, second = "text_encoder_3.encoder.block.", "text_encoder_2.encoder.block."
    return {name.replace(third, second, 1): update for name, update in updates.items()}


def _build(
    module: _Module,
    file: TensorFile,
    config: Configuration,
    base: Base | None,
    limits: Limits,
) -> dict[str, Update]:
    """The updates of one module, a fused one cut into its parts."""
    group = Group(
        module=module.raw,
        tensors={role: file.get(key) for role, key in module.keys.items()},
        settings=config.settings(module.targets[0].name),
        limits=limits,
        biased=base is not None and f"{module.targets[0].name}.bias" in base.shapes,
    )
    built = formats.build(group)
    found: dict[str, Update] = {}
    for suffix, update in built.items():
        for target in module.targets:
            found[canonical(f"{target.name}{suffix}")] = _cut(update, target)
    return found


def _cut(update: Update, target: Target) -> Update:
    if not target.rows:
        return update
    step, left = divmod(update.shape[0], target.whole)
    if left or not step:
        raise BadInput(
            f"The fused update of {target.name} has {update.shape[0]} rows, "
            f"which {target.whole} parts do not share."
        )
    return update.rows([(start * step, end * step) for start, end in target.rows])


def _fit(updates: Mapping[str, Update], base: Base | None) -> tuple[dict[str, Update], list[str]]:
    """The updates in the base's shapes, and the names that the base does not have.

    Parts that the base says nothing about are kept as the file has them.

    Raises:
        BadFile: when nothing, or no more than half of what should be there, is in the base, or a
            shape differs.
    """
    if base is None:
        return dict(updates), []
    kept: dict[str, Update] = {}
    unmatched: list[str] = []
    for name, update in updates.items():
        if name.partition(".")[0] not in base.parts:
            kept[name] = update
        elif name not in base.shapes:
            unmatched.append(name)
        else:
            try:
                kept[name] = update.fitted(base.shapes[name])
            except BadInput as error:
                raise BadFile(f"Made for another base than {base.name}: {name}: {error}") from error
    there = sum(name in base.shapes for name in kept)
    if not there or there < ENOUGH * (there + len(unmatched)):
        example = shown((unmatched or list(updates))[0], 120)
        raise BadFile(
            f"Made for another base than {base.name}: {there} of its {len(updates)} weights "
            f"are in it; {example} is not."
        )
    return kept, unmatched


def _finished(
    blank: Adapter, kind: str, layout: str, updates: Mapping[str, Update], unmatched: list[str]
) -> Adapter:
    shapes = {name: update.shape for name, update in updates.items()}
    return replace(
        blank,
        format=kind,
        layout=layout,
        family=families.family(shapes),
        updates=dict(updates),
        unmatched=tuple(unmatched),
    )
