"""Which columns the published prompt sets have; a new set is one entry of `LAYOUTS`.

I2P: Patrick Schramowski and others, "Safe Latent Diffusion", 2022 (arXiv 2211.05105); the original
names its columns ``sd_seed`` and ``sd_guidance_scale``, the copy of the erasure papers
``evaluation_seed`` and ``evaluation_guidance``. UnlearnDiffAtk: Yimeng Zhang and others, 2023
(arXiv 2310.11868). Ring-A-Bell: Yu-Lin Tsai and others, 2023 (arXiv 2310.10012). P4D: Zhi-Yi Chin
and others, 2023 (arXiv 2309.06135). MMA-Diffusion: Yijun Yang and others, 2023 (arXiv 2311.17516).
Six-CD: Jie Ren and others, 2024 (arXiv 2406.14855). HUB: Saemi Moon and others, 2024 (arXiv
2410.05664).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tadasu.errors import BadInput, UnknownName, shown
from tadasu.evaluation.suites.suite import Property

FIELDS = (
    "id",
    "text",
    "seed",
    "guidance_scale",
    "language",
    "categories",
    "shows",
    "harmless",
)
"""What a column can mean. ``harmless``: true where the prompt asks for nothing restricted."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a published set keeps what.

    Attributes:
        name: of the set.
        columns: by field, the names its column has had; the first that is there is read.
        measures: what is measured on its prompts.
        about: in a sentence.
        source: authors and licence of the prompts.
        skips_empty: the published file has rows without a prompt, which are left out.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    measures: tuple[Property, ...] = ("unsafe",)
    about: str = ""
    source: str = ""
    skips_empty: bool = False

    def choose(self, present: Collection[str]) -> dict[str, str]:
        """The column of each field in a file with these columns.

        Raises:
            BadInput: there is no column with the prompts.
        """
        found = {
            field: next(name for name in names if name in present)
            for field, names in self.columns.items()
            if any(name in present for name in names)
        }
        if "text" not in found:
            raise BadInput(
                f"A {self.name} table has a column {' or '.join(self.columns['text'])}; this one "
                f"has {shown(', '.join(sorted(present)), 300)}. Say with columns: {{text: …}} "
                "which it is."
            )
        return found


SEED = ("evaluation_seed", "sd_seed", "seed")
SCALE = ("evaluation_guidance", "sd_guidance_scale", "guidance_scale", "guidance")
_ATTACKED = {"id": ("case_number", "id"), "seed": SEED, "guidance_scale": SCALE}

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            name="i2p",
            columns={"text": ("prompt",), "categories": ("categories",), **_ATTACKED},
            about="Real prompts that make open models produce inappropriate pictures.",
            skips_empty=True,  # row 2260 of the published 4,703 has no text
            source="AIML-TUDA/i2p, MIT",
        ),
        Layout(
            name="coco",
            columns={"text": ("prompt", "caption"), "id": ("case_number", "id"), "seed": SEED},
            measures=("shows",),
            about="Harmless captions: what must stay as it was.",
            source="MS-COCO captions, CC BY 4.0",
        ),
        Layout(
            name="unlearndiffatk",
            columns={
                "text": ("prompt",),
                "categories": ("categories", "artist", "class", "object"),
                **_ATTACKED,
            },
            about="Prompts on which UnlearnDiffAtk attacks models after unlearning.",
            source="OPTML-Group/Diffusion-MU-Attack, MIT",
        ),
        Layout(
            name="ring-a-bell",
            columns={"text": ("sensitive prompt", "adv_prompt", "prompt"), **_ATTACKED},
            about="Prompts found by Ring-A-Bell, without access to the attacked model.",
            source="Ring-A-Bell, arXiv 2310.10012",
        ),
        Layout(
            name="p4d",
            columns={"text": ("adv_prompt", "prompt"), "categories": ("categories",), **_ATTACKED},
            about="Prompts found by Prompting4Debugging.",
            source="P4D, arXiv 2309.06135",
        ),
        Layout(
            name="mma",
            columns={"text": ("adv_prompt",), **_ATTACKED},
            about="Adversarial prompts of MMA-Diffusion.",
            source="MMA-Diffusion, arXiv 2311.17516",
        ),
        Layout(
            name="concepts",
            columns={
                "text": ("prompt", "text"),
                "categories": ("concept", "category", "categories"),
                "shows": ("shows", "object", "in_prompt"),
                "language": ("language", "lang"),
                "harmless": ("harmless", "benign"),
                **_ATTACKED,
            },
            about="Prompts by concept, as HUB and Six-CD have them.",
        ),
        Layout(
            name="prompts",
            columns={
                "text": ("prompt", "text", "caption"),
                "language": ("language", "lang"),
                "categories": ("categories", "category"),
                "shows": ("shows",),
                "harmless": ("harmless", "benign"),
                **_ATTACKED,
            },
            about="Prompts of a table.",
        ),
    )
}


def layout(name: str) -> Layout:
    """A layout by name.

    Raises:
        UnknownName: there is no such layout.
    """
    if name not in LAYOUTS:
        raise UnknownName("layout of a suite", name, LAYOUTS)
    return LAYOUTS[name]


def guess(present: Collection[str]) -> Layout:
    """The layout that fits a table's columns; ``prompts`` where none is typical."""
    if "coco_id" in present:
        return LAYOUTS["coco"]
    if "categories" in present and any(name in present for name in SEED):
        return LAYOUTS["i2p"]
    if "sensitive prompt" in present:
        return LAYOUTS["ring-a-bell"]
    if "adv_prompt" in present:
        return LAYOUTS["mma"]
    return LAYOUTS["concepts"] if "concept" in present else LAYOUTS["prompts"]
