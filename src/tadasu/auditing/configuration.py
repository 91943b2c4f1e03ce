"""What peft's configuration says about factors: alpha and rank, per part and per module.

The text is a stranger's. peft runs its patterns as regular expressions on module names; here a
pattern of few plain pieces is compared the same way, and one that could run for long refuses the
file. Options that change what the factors mean and are not read refuse it as well; options that
are not known are doubts, with which no file is clear.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from tadasu.auditing.adapter import PARTS
from tadasu.auditing.containers import Limits, PlainFile
from tadasu.auditing.formats.group import Settings
from tadasu.errors import BadFile, shown

#: Where diffusers keeps the configurations of all parts, in safetensors metadata.
METADATA_KEY = "lora_adapter_metadata"
FILE = "adapter_config.json"
_LONGEST = 4_000_000


#: Types of peft whose files are read.
READ = frozenset({"LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT"})
#: Options that do not change what the stored tensors mean.
_HARMLESS = frozenset(
    """auto_mapping base_model_name_or_path revision task_type inference_mode peft_version
    target_modules exclude_modules layers_to_transform layers_pattern lora_dropout bias
    modules_to_save rank_dropout module_dropout rank_dropout_scale megatron_core qalora_group_size
    runtime_config eva_config corda_config lora_ga_config loftq_config ensure_weight_tying
    total_step tinit tfinal deltaT beta1 beta2 orth_reg_weight target_r init_weights
    init_ia3_weights use_effective_conv2d decompose_both decompose_factor oft_block_size eps
    parent_library library_name format""".split()
)
#: Options that are read.
_READ = frozenset(
    """peft_type r alpha lora_alpha rank_pattern alpha_pattern use_rslora use_dora lora_bias
    init_lora_weights init_r feedforward_modules use_cayley_neumann num_cayley_neumann_terms coft
    block_share""".split()
)
#: Options that change what the tensors mean in a way that is not read.
_UNREAD = frozenset(
    """fan_in_fan_out use_qalora layer_replication target_parameters trainable_token_indices
    use_bdlora arrow_config kasa_config velora_config monteclora_config alora_invocation_tokens
    megatron_config""".split()
)
#: peft's own alpha and rank where the document names none.
DEFAULT = 8


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Configurations by part (``unet``, …); ``""`` for a file of one part.

    Attributes:
        parts: the documents.
    """

    parts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def settings(self, name: str, raw: str = "") -> Settings:
        """What holds for one module.

        Args:
            name: canonical name.
            raw: its name in the file, which peft's patterns are compared with.

        Raises:
            BadFile: for a pattern that is not compared.
        """
        part, _, module = name.partition(".")
        document = self.parts.get(part) or self.parts.get("") or {}
        if not document:
            return Settings()
        seen = _plain_name(raw) or module
        alpha = _pattern(document, "alpha_pattern", seen)
        if alpha is None:
            alpha = document.get("lora_alpha", document.get("alpha", DEFAULT))
        rank = _pattern(document, "rank_pattern", seen)
        return Settings(
            alpha=_number(alpha),
            rank=_whole(document.get("r", DEFAULT) if rank is None else rank),
            rank_stabilised=document.get("use_rslora") is True,
            options=document,
        )

    def doubts(self) -> tuple[str, ...]:
        """Options whose meaning is not known, as sentences.

        Raises:
            BadFile: for a type or an option that is known not to be read.
        """
        unknown: dict[str, None] = {}
        for document in self.parts.values():
            kind = str(document.get("peft_type", "LORA")).upper()
            if kind not in READ:
                raise BadFile(
                    f"It is a {shown(kind, 40)} adapter of peft, which is not read "
                    f"(read are {', '.join(sorted(READ))})."
                )
            for option, value in document.items():
                if value in _NOTHING or option in _HARMLESS | _READ:
                    continue
                if option in _UNREAD:
                    raise BadFile(f"Its configuration uses peft's option {option}: not read.")
                unknown[option] = None
        return tuple(f"Its configuration has the unknown option {shown(each)}." for each in unknown)


_NOTHING: tuple[object, ...] = (None, False, "", "none", [], {}, 0)
#: A pattern that is compared: no group is repeated, and few pieces are of any length.
_PLAIN = re.compile(r"\^?[\w.\-]+\$?\Z")
_SAFE = re.compile(r"[\w.\-\\^$*+?|()\[\]]{1,300}\Z")
_MOST_REPEATS = 2


def _plain_name(raw: str) -> str:
    """A module's name as peft has it inside the model: without prefix and part."""
    name = raw.removeprefix("base_model.model.")
    for part in (*PARTS, "diffusion_model"):
        name = name.removeprefix(f"{part}.")
    return name if "." in name else ""


def _pattern(document: Mapping[str, object], key: str, module: str) -> object:
    """The value of the first pattern that fits, as peft looks it up."""
    table = document.get(key)
    items = table.items() if isinstance(table, dict) else ()
    for pattern, value in items:
        if _fits(str(pattern), module):
            found: object = value
            return found
    return None


def _fits(pattern: str, module: str) -> bool:
    r"""Whether peft's ``(.*\.)?(pattern)$`` matches a module's name.

    >>> _fits(".*attn2.*", "mid_block.attn2.to_k"), _fits("attn2", "mid_block.attn2.to_k")
    (True, False)
    """
    if _PLAIN.match(pattern):  # of fixed length, so that it can only be the name's end
        body = pattern.removeprefix("^").removesuffix("$")
        start = len(module) - len(re.sub(r"\\.", "x", body))
        free = start > 0 and module[start - 1] == "." and not pattern.startswith("^")
        return (start == 0 or free) and bool(_compiled(body).fullmatch(module, start))
    if not _SAFE.match(pattern) or re.search(r"\)[*+?{]", pattern):
        raise BadFile(f"Its configuration has a pattern that is not compared: {shown(pattern)}.")
    if len(re.findall(r"(?<!\\)[*+]", pattern)) > _MOST_REPEATS:
        raise BadFile(f"Its configuration has a pattern of many repeats: {shown(pattern)}.")
    return _compiled(rf"(.*\.)?({pattern})$").match(module) is not None


@lru_cache(maxsize=10_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BadFile(f"Its configuration has a damaged pattern: {shown(pattern)}.") from error


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 0 < number < 10**6 else None


def configuration(path: Path, metadata: Mapping[str, str], limits: Limits) -> Configuration:
    """The configuration inside the file, or beside it where peft puts it.

    Raises:
        BadFile: when there is one and it is damaged.
    """
    beside = path.parent / FILE
    if METADATA_KEY in metadata:
        return Configuration(parts=_by_part(_document(metadata[METADATA_KEY])))
    if path.name.startswith("adapter_model.") and (beside.is_file() or beside.is_symlink()):
        plain = PlainFile.open(beside, limits)
        if plain.size > _LONGEST:
            raise BadFile(f"{FILE} has {plain.size:,} bytes; at most {_LONGEST:,} are read.")
        try:
            text = plain.read(0, plain.size).decode()
        except UnicodeDecodeError as error:
            raise BadFile(f"{FILE} is not text.") from error
        return Configuration(parts={"": _document(text)})
    return Configuration()


def _document(text: str) -> dict[str, object]:
    try:
        found = json.loads(text[: _LONGEST + 1])
    except (ValueError, RecursionError) as error:
        raise BadFile("The file's adapter configuration is not JSON.") from error
    if not isinstance(found, dict):
        raise BadFile("The file's adapter configuration is not a map.")
    return found


def _by_part(flat: Mapping[str, object]) -> dict[str, dict[str, object]]:
    parts: dict[str, dict[str, object]] = {}
    for key, value in flat.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = value
    return parts
