"""Names of tensors that are known and not read, so that a message can say what a file is."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: (pattern in a tensor's name, what it belongs to).
_KNOWN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"vera_lambda_|vera_[AB]\b", "VeRA (peft)"),
        (r"\bboft_[RS]", "BOFT (peft)"),
        (r"\bhra_u", "HRA (peft)"),
        (r"fourierft_spectrum", "FourierFT (peft)"),
        (r"waveft_spectrum", "WaveFT (peft)"),
        (r"randlora_", "RandLoRA (peft)"),
        (r"c3a_kernel", "C3A (peft)"),
        (r"\bmiss_block|\bbone_", "MiSS or Bone (peft)"),
        (r"\broad_(?:theta|alpha)", "RoAd (peft)"),
        (r"shira_weight", "SHiRA (peft)"),
        (r"delora_(?:A|B|lambda)", "DeLoRA (peft)"),
        (r"gralora_[AB]", "GraLoRA (peft)"),
        (r"glora_[A-E]\b", "GLoRA of peft"),
        (r"vblora_|unilora_|tinylora_|psoft_|hira_", "an adapter of peft that is not read"),
        (r"\bp_layer\.|\bq_layer\.|\blambda_layer", "T-LoRA (LyCORIS)"),
        (r"\bip_adapter|to_[kv]_ip\b|image_proj\.", "an IP-Adapter"),
        (r"controlnet_cond_embedding|zero_convs?\.|control_model\.", "a ControlNet"),
        (r"motion_modules?\.", "a motion module (AnimateDiff)"),
        (r"\bdora_scale$|\blora_magnitude_vector", "a DoRA whose factors are missing"),
    )
)


def known(names: Iterable[str]) -> str:
    """What some tensor names belong to; empty where nothing is known of them.

    >>> known(["base_model.model.to_q.vera_lambda_b"])
    'VeRA (peft)'
    """
    for name in names:
        for pattern, what in _KNOWN:
            if pattern.search(name):
                return what
    return ""
