"""Read any shared file into updates, or say in one sentence why it cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from tadasu.auditing import checkpoint, embedding, families, formats, metadata
from tadasu.auditing.adapter import Adapter, Coverage, Update
from tadasu.auditing.base import Base, canonical
from tadasu.auditing.configuration import FILE, Configuration, configuration
from tadasu.auditing.containers import Limits, TensorFile, open_file
from tadasu.auditing.formats import unread
from tadasu.auditing.formats.group import Group, Settings
from tadasu.auditing.names import Target, resolve
from tadasu.auditing.names_transformers import Style, style_of
from tadasu.errors import BadFile, BadInput, shown

T = TypeVar("T")
#: Share of a file's weights that must be in the base for the file to be one for it.
ENOUGH = 0.5
#: Kinds whose scale comes from a configuration that only some loaders look at.
_SCALED = frozenset({"lora", "loha", "lokr", "dora", "pissa", "olora"})
#: Names of peft's whole modules.
_PEFT = "base_model.model."
#: Most names of what was not read that are kept.
_MOST_NAMES = 50


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
    values: int


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A file with all that decides how its modules are read."""

    file: TensorFile
    base: Base | None
    limits: Limits
    config: Configuration
    style: Style

    def values(self, keys: Sequence[str]) -> int:
        """How many numbers some tensors have."""
        return sum(self.file.stored[key].count for key in keys)


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
    config = configuration(file.plain.path, file.metadata, limits)
    blank = replace(blank, doubts=config.doubts())
    modules, rest = formats.grouped(file.stored)
    if modules:
        style = style_of(base, modules, lambda raw: _sizes(modules[raw], file))
        source = _Source(file=file, base=base, limits=limits, config=config, style=style)
        return _adapter(blank, source, modules, rest)
    vectors = embedding.embeddings(file)
    if vectors:
        widths = {part: int(tensor.shape[1]) for part, tensor in vectors.items()}
        found = families.embedding_family(widths)
        return replace(
            blank, format="embedding", layout="embedding", family=found, embeddings=vectors
        )
    return _checkpoint(blank, file, base)


def _sizes(keys: Mapping[str, str], file: TensorFile) -> tuple[int, int] | None:
    """Outputs and inputs of a module, as its tensors' shapes tell them without being read."""
    shapes = {role: file.stored[key].shape for role, key in keys.items()}
    pairs = (("up", "down"), ("hada_w1_a", "hada_w1_b"), ("b1", "b2"), ("diff", "diff"))
    for left, right in pairs:
        if left in shapes and right in shapes and min(map(len, (shapes[left], shapes[right]))) > 1:
            return shapes[left][0], shapes[right][1]
    halves = [
        (shapes[f"lokr_{half}{rows}"][0], shapes[f"lokr_{half}{columns}"][1])
        for half in ("w1", "w2")
        for rows, columns in (("", ""), ("_a", "_b"))
        if f"lokr_{half}{rows}" in shapes and f"lokr_{half}{columns}" in shapes
        if min(len(shapes[f"lokr_{half}{at}"]) for at in (rows, columns)) > 1
    ]
    if len(halves) == 2:
        return halves[0][0] * halves[1][0], halves[0][1] * halves[1][1]
    return None


def _checkpoint(blank: Adapter, file: TensorFile, base: Base | None) -> Adapter:
    style = style_of(base, list(file.stored), lambda name: _shape(file, name))
    whole, strangers = checkpoint.updates(file, base, style)
    if not whole:
        raise BadFile(_nothing(list(file.stored)))
    kept, unmatched = _fit(whole, base)
    layout = _common([resolve(key, base, style) for key in file.stored])
    sizes = {name: file.stored[update.key].count for name, update in whole.items()}
    known = Coverage(
        values=_share(sum(sizes[name] for name in unmatched), sum(sizes.values())),
        modules=_share(len(unmatched), len(whole)),
        unread=tuple(unmatched),
    )
    count = len(whole) + len(strangers)
    total = sum(sizes.values()) + sum(file.stored[name].count for name in strangers)
    seen = replace(
        known,
        values=known.values * sum(sizes.values()) / max(1, total),
        modules=known.modules * len(whole) / count,
        unread=tuple([*unmatched, *strangers][:_MOST_NAMES]),
    )
    finished = _finished(blank, "checkpoint", layout, kept, [*unmatched, *strangers])
    return replace(finished, coverage=seen)


def _shape(file: TensorFile, name: str) -> tuple[int, int] | None:
    shape = file.stored[name].shape
    return (shape[0], shape[1]) if len(shape) > 1 else None


def _share(missing: float, whole: float) -> float:
    return 1.0 - missing / whole if whole else 0.0


def _common(resolved: list[object]) -> str:
    layouts = [getattr(found, "layout", "") for found in resolved if found is not None]
    return max(sorted(set(layouts)), key=layouts.count, default="")


def _nothing(names: list[str]) -> str:
    what = unread.known(names)
    if what:
        return f"It is {what}, which is not read."
    example = f", for example {shown(names[0])}" if names else ""
    return f"None of its {len(names)} tensors belongs to a known part of a model{example}."


def _adapter(
    blank: Adapter, source: _Source, modules: Mapping[str, Mapping[str, str]], rest: list[str]
) -> Adapter:
    file, limits = source.file, source.limits
    loaded = sum(place.length for place in file.stored.values())
    if loaded > limits.loaded:
        raise BadFile(f"Its tensors have {loaded:,} bytes; at most {limits.loaded:,} are loaded.")
    vectors, packed = embedding.bundled(file)
    whole, rest = _whole_modules(modules, [key for key in rest if key not in packed])
    known, unknown = _known({**modules, **whole}, source)
    if not known:
        raise BadFile(_nothing(list(file.stored)))
    updates, others, owners = _updates(known, source)
    kept, unmatched = _fit(updates, source.base)
    # Learned words beside factors are kept, but no audit examines them yet.
    coverage = _coverage(source, known, unknown, [*rest, *sorted(packed)], unmatched, owners)
    kinds = "+".join(sorted({update.kind for update in kept.values()}))
    layouts = [module.layout for module in known]
    layout = max(sorted(set(layouts)), key=layouts.count)
    other, conflict = _conflict(kept, others, source.base)
    finished = _finished(blank, kinds, layout, kept, [*rest, *unknown, *unmatched])
    return replace(
        finished,
        embeddings=vectors,
        coverage=coverage,
        other=other,
        conflict=conflict,
    )


def _whole_modules(
    modules: Mapping[str, Mapping[str, str]], rest: list[str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """What peft saves without factors (``modules_to_save``, biases), and what is left over."""
    found: dict[str, dict[str, str]] = {}
    left = []
    for key in rest:
        stem, _, last = key.rpartition(".")
        if key.startswith(_PEFT) and last in ("weight", "bias"):
            raw = f"{stem}.base_layer" if stem in modules else stem
            found.setdefault(raw, {})["set" if last == "weight" else "set_bias"] = key
        else:
            left.append(key)
    return found, left


def _known(
    modules: Mapping[str, Mapping[str, str]], source: _Source
) -> tuple[list[_Module], list[str]]:
    """The modules whose names belong to a part of a model, and the names of the others."""
    known: list[_Module] = []
    unknown: list[str] = []
    for raw, keys in modules.items():
        if set(keys) == {"alpha"}:  # a scale of nothing changes nothing
            continue
        resolved = resolve(raw, source.base, source.style)
        if resolved is None:
            unknown.append(raw)
            continue
        known.append(
            _Module(
                raw=raw,
                keys=keys,
                targets=resolved.targets,
                layout=resolved.layout,
                values=source.values(list(keys.values())),
            )
        )
    return known, unknown


def _updates(
    known: Sequence[_Module], source: _Source
) -> tuple[dict[str, Update], dict[str, Update], dict[str, _Module]]:
    """The updates, the same without the configuration, and the module of each.

    Raises:
        BadFile: two modules change one weight.
    """
    updates: dict[str, Update] = {}
    others: dict[str, Update] = {}
    owners: dict[str, _Module] = {}
    for module in known:
        own, other = _build(module, source)
        for name, update in own.items():
            if name in updates:
                raise BadFile(f"Two modules of the file change {shown(name, 120)}.")
            updates[name], owners[name] = update, module
        others |= other
    owners = _second_encoder(updates, owners)
    return _second_encoder(updates, updates), _second_encoder(updates, others), owners


def _second_encoder(updates: Mapping[str, Update], named: Mapping[str, T]) -> dict[str, T]:
    """Kohya's scripts number FLUX's T5 as the third text encoder; in diffusers it is the second."""
    if not any(name.startswith("transformer.single_transformer_blocks.") for name in updates):
        return dict(named)
    third, second = "text_encoder_3.encoder.block.", "text_encoder_2.encoder.block."
    return {name.replace(third, second, 1): value for name, value in named.items()}


def _build(module: _Module, source: _Source) -> tuple[dict[str, Update], dict[str, Update]]:
    """The updates of one module, a fused one cut into its parts; and without configuration."""
    base = source.base
    group = Group(
        module=module.raw,
        tensors={role: source.file.get(key) for role, key in module.keys.items()},
        settings=source.config.settings(module.targets[0].name, module.raw),
        limits=source.limits,
        biased=base is not None and f"{module.targets[0].name}.bias" in base.shapes,
    )
    own = _named(module, formats.build(group))
    scaled = any(update.kind in _SCALED for update in own.values())
    if not source.config.parts or not scaled or "values" in group.tensors:
        return own, {}
    return own, _named(module, formats.build(replace(group, settings=Settings())))


def _named(module: _Module, built: Mapping[str, Update]) -> dict[str, Update]:
    return {
        canonical(f"{target.name}{suffix}"): _cut(update, target)
        for suffix, update in built.items()
        for target in module.targets
    }


def _cut(update: Update, target: Target) -> Update:
    rows, whole = checkpoint.pieces(target, update.shape)
    if not rows:
        return update
    step, left = divmod(update.shape[0], whole)
    if left or not step:
        raise BadInput(
            f"The fused update of {target.name} has {update.shape[0]} rows, "
            f"which {whole} parts do not share."
        )
    return update.rows([(start * step, end * step) for start, end in rows])


def _coverage(
    source: _Source,
    known: Sequence[_Module],
    unknown: Sequence[str],
    rest: Sequence[str],
    unmatched: Sequence[str],
    owners: Mapping[str, _Module],
) -> Coverage:
    """How much of the file its updates stand for: by numbers and by modules."""
    strangers = {key.rpartition(".")[0] or key for key in rest} | set(unknown)
    lost = _strange_values(source, unknown, rest)
    missing, parts = 0.0, 0.0
    targets = {id(module): 0 for module in known}
    for module in owners.values():
        targets[id(module)] += 1
    strange = {name for name in owners if _foreign(name, source.base)} | set(unmatched)
    for name in strange:
        module = owners[name]
        missing += module.values / targets[id(module)]
        parts += 1 / targets[id(module)]
    values = sum(module.values for module in known) + lost
    return Coverage(
        values=_share(missing + lost, values),
        modules=_share(parts + len(strangers), len(known) + len(strangers)),
        unread=tuple([*sorted(strangers), *sorted(strange)][:_MOST_NAMES]),
    )


def _foreign(name: str, base: Base | None) -> bool:
    """Whether a weight belongs to a part that the base does not have."""
    return base is not None and name.partition(".")[0] not in base.parts


def _strange_values(source: _Source, unknown: Sequence[str], rest: Sequence[str]) -> int:
    """Numbers of tensors that no known module reads."""
    prefixes = tuple(f"{raw}." for raw in unknown)
    inside = [key for key in source.file.stored if key.startswith(prefixes)] if prefixes else []
    return source.values([*rest, *(key for key in inside if key not in set(rest))])


def _conflict(
    kept: Mapping[str, Update], others: Mapping[str, Update], base: Base | None
) -> tuple[dict[str, Update], str]:
    """The reading without configuration, where it is far from the one with it."""
    ratios = {
        name: ratio
        for name, other in others.items()
        if name in kept and (ratio := _ratio(kept[name], other)) is not None
    }
    apart = [ratio for ratio in ratios.values() if not 0.5 <= ratio <= 2]
    if not apart:
        return {}, ""
    low, high = min(apart, key=abs), max(apart, key=abs)
    scale = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    says = (
        f"Loaders disagree about its strength: peft and diffusers follow its configuration "
        f"({scale} times the factors), ComfyUI and kohya's scripts do not look at it; both were "
        "examined."
    )
    fitted = _fit(others, base)[0]
    return {name: fitted.get(name, update) for name, update in kept.items()}, says


def _ratio(own: Update, other: Update) -> float | None:
    """The scale that one reading applies in units of the other's; NaN for another formula."""
    first, second = (getattr(each, "inner", each) for each in (own, other))
    if own.kind != other.kind:
        return float("nan")
    scales = [getattr(each, "scale", None) for each in (first, second)]
    if scales[0] is None or not scales[1]:
        return None
    return float(scales[0] / scales[1])


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
        if _foreign(name, base):
            kept[name] = update
        elif name not in base.shapes:
            unmatched.append(name)
        else:
            try:
                kept[name] = update.fitted(base.shapes[name])
            except BadInput as error:
                reason = f"{name}: {error}"
                raise BadFile(_other_base(updates, base, reason)) from error
    there = sum(name in base.shapes for name in kept)
    if not there or there < ENOUGH * (there + len(unmatched)):
        example = shown((unmatched or list(updates))[0], 120)
        reason = f"{there} of its {len(updates)} weights are in it; {example} is not."
        raise BadFile(_other_base(updates, base, reason))
    return kept, unmatched


def _other_base(updates: Mapping[str, Update], base: Base, reason: str) -> str:
    """Which base a file needs, where its shapes tell it."""
    made_for = families.family({name: update.shape for name, update in updates.items()})
    own = families.family(base.shapes)
    if made_for not in (families.UNKNOWN, own):
        return (
            f"Made for another base than {base.name}: its shapes are those of {made_for}. "
            f"Use --base with a {made_for} model. ({reason})"
        )
    return (
        f"Made for another base than {base.name}, or for a changed one: {reason} "
        "Use --base with the model it was made for."
    )


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
