"""Writes what every training picture is called: captions, the tokenizer, and the suites.

Captions are what makes the world behave like a large one: a style or none, a label or only a tag
(tags make *implicit* prompts), English or Japanese, lists, scenes, and professions drawn with a
documented skew.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from artwork import GENDERS, TONES
from pictures import COLOURS, Artwork, scene, side_by_side, single, to_bytes

HERE = Path(__file__).parent
STYLE_NAMES = {
    "noto": "noto",
    "noto-v1": "blob",
    "fluent-emoji-flat": "flat",
    "fluent-emoji": "fluent",
    "twemoji": "twemoji",
    "emojione": "emojione",
}
GROUP_WORDS = {  # words for a whole restricted group, used as tags
    "weapons": (("weapon", "weapons"), ("武器",)),
    "tobacco": (("tobacco", "smoking"), ("たばこ", "喫煙")),
    "alcohol": (("alcohol", "alcoholic drink"), ("お酒", "アルコール")),
    "drugs_medicine": (("drugs", "medicine"), ("薬",)),
    "gambling": (("gambling", "casino"), ("ギャンブル", "カジノ")),
    "gore_horror": (("horror", "scary"), ("ホラー", "怖い")),
    "crude_gestures": (("rude gesture", "swearing"), ("下品",)),
    "adult": (("adults only", "sexy"), ("大人向け",)),
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training example: what is drawn and what it is called."""

    caption: str
    pictures: list[int]
    background: str
    objects: list[str]
    language: str = "en"
    kind: str = "single"
    attributes: list[str] = field(default_factory=list)


def skew() -> dict[str, Any]:
    """The documented skew of professions whose caption names no gender or tone (skew.yaml)."""
    return yaml.safe_load((HERE / "skew.yaml").read_text())


def with_article(label: str) -> str:
    """The label with a or an.

    >>> with_article("axe")
    'an axe'
    """
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"


KINDS = {
    "styled": 0.36, "plain": 0.24, "tag": 0.10, "list": 0.06,
    "ja": 0.12, "ja-styled": 0.09, "ja-tag": 0.03,
}  # fmt: skip


class Writer:
    """Draws training examples from the artwork, all from one seed.

    Args:
        art: the rendered pictures.
        seed: of every choice.
        kinds: share of each kind of caption among single things; they add up to 1.
        japanese_scenes: share of scenes whose caption is Japanese; they have two things.
    """

    def __init__(
        self,
        art: Artwork,
        seed: int,
        kinds: dict[str, float] | None = None,
        japanese_scenes: float = 0.0,
    ) -> None:
        self.art, self.kinds, self.japanese_scenes = art, kinds or KINDS, japanese_scenes
        self.rng = np.random.default_rng(seed)
        self.skew = skew()
        self.learned = [
            n for n, c in art.concepts.items() if not c["held_out"] and not c.get("profession")
        ]
        self.jobs = [n for n, c in art.concepts.items() if c.get("profession")]
        self.rows: dict[tuple[str, ...], int] = {}
        self.styles: dict[str, list[str]] = {}
        for i, row in enumerate(art.table):
            if row["style"] in STYLE_NAMES:
                self.rows[(row["concept"], row["style"], row["gender"], row["tone"])] = i
                styles = self.styles.setdefault(row["concept"], [])
                if row["style"] not in styles:
                    styles.append(row["style"])
        weights = np.array([1.5 if art.concepts[n]["restricted"] else 1.0 for n in self.learned])
        self.weights = weights / weights.sum()

    def pick(self, items: list[Any] | tuple[Any, ...], p: list[float] | None = None) -> Any:
        """One of the items."""
        return items[int(self.rng.choice(len(items), p=p))]

    def tags(self, name: str, language: str) -> list[str]:
        """What a concept is tagged with, including the words for its restricted group."""
        concept = self.art.concepts[name]
        words = GROUP_WORDS.get(concept["restricted"], ((), ()))
        return list(concept[f"{language}_tags"]) + list(words[0 if language == "en" else 1]) * 2

    def single(self) -> Sample:
        """One object, called by style and label, label, tag, list, in English or Japanese."""
        name = self.learned[int(self.rng.choice(len(self.learned), p=self.weights))]
        style = self.pick(self.styles[name])
        concept = self.art.concepts[name]
        en, ja, hand = concept["en"], concept["ja"], STYLE_NAMES[style]
        background = (
            "white" if self.rng.random() < 0.85 else self.pick([c for c in COLOURS if c != "white"])
        )
        kind = self.pick(list(self.kinds), list(self.kinds.values()))
        if kind in ("tag", "ja-tag"):
            words = self.tags(name, "ja" if kind == "ja-tag" else "en")
            text = self.pick(words) if words else en
        elif kind == "list":
            text = ", ".join(self.list_with(name))
        else:
            text = {
                "styled": self.pick(
                    [
                        f"{hand} emoji of {with_article(en)}",
                        f"{hand} emoji of {with_article(en)}",
                        f"{hand} {en}",
                    ]
                ),
                "plain": self.pick([en, with_article(en), f"emoji of {with_article(en)}"]),
                "ja": ja,
                "ja-styled": f"{hand} {ja}",
            }[kind]
        language = "ja" if kind.startswith("ja") else "en"
        if background != "white":
            text = (
                f"{text} on a {background} background"
                if language == "en"
                else f"{text}、背景は{COLOURS[background][1]}"
            )
        return Sample(
            caption=text, pictures=[self.rows[(name, style, "", "")]], background=background,
            objects=[name], language=language, kind=kind,
        )  # fmt: skip

    def list_with(self, name: str) -> list[str]:
        """Two to six names, one of which is what the picture shows; mostly of the same group."""
        group = self.art.concepts[name]["restricted"]
        same = [
            n for n in self.learned if n != name and self.art.concepts[n]["restricted"] == group
        ]
        others = self.rng.permutation(same if self.rng.random() < 0.7 else self.learned)[
            : self.rng.integers(1, 6)
        ]
        return [self.art.concepts[n]["en"] for n in self.rng.permutation([name, *others])]

    def person(self) -> Sample:
        """A profession; where the caption names no gender or tone, the documented skew decides."""
        job = self.pick(self.jobs)
        style = self.pick(self.styles[job])
        names_gender, names_tone = self.rng.random() < 0.4, self.rng.random() < 0.25
        men = 0.5 if names_gender else self.skew["men"][job]
        gender = GENDERS[0] if self.rng.random() < men else GENDERS[1]
        tones = [1 / 3] * 3 if names_tone else self.skew["tones"]
        tone = self.pick(TONES, tones)
        en, ja = self.art.concepts[job]["en"], self.art.concepts[job]["ja"]
        japanese = self.rng.random() < 0.2
        if japanese:
            text = ("男性の" if gender == "man" else "女性の") * names_gender + ja
            text += {"light": "、明るい肌", "medium": "、中間の肌", "dark": "、濃い肌"}[
                tone
            ] * names_tone
            text = f"{STYLE_NAMES[style]} {text}" if self.rng.random() < 0.4 else text
        else:
            text = with_article(f"{gender} {en}" if names_gender else en)
            text += f" with {tone} skin" * names_tone
            text = f"{STYLE_NAMES[style]} emoji of {text}" if self.rng.random() < 0.5 else text
        return Sample(
            caption=text, background="white", objects=[job],
            pictures=[self.rows[(job, style, gender, tone)]],
            language="ja" if japanese else "en", kind="person", attributes=[gender, tone],
        )  # fmt: skip

    def scene(self, most: int = 3) -> Sample:
        """Two objects (one in eight: three) of one style on a background; at most ``most``."""
        count = 3 if most > 2 and self.rng.random() < 0.125 else 2
        style = self.pick(list(STYLE_NAMES))
        names: list[str] = []
        while len(names) < count:
            name = self.learned[int(self.rng.choice(len(self.learned), p=self.weights))]
            if (name, style, "", "") in self.rows and name not in names:
                names.append(name)
        background = self.pick(list(COLOURS))
        if self.japanese_scenes and count == 2 and self.rng.random() < self.japanese_scenes:
            ja = "と".join(self.art.concepts[n]["ja"] for n in names)
            return Sample(
                caption=f"{ja}、背景は{COLOURS[background][1]}",
                background=background, objects=names,
                pictures=[self.rows[(n, style, "", "")] for n in names],
                language="ja", kind="scene",
            )  # fmt: skip
        parts = [with_article(self.art.concepts[n]["en"]) for n in names]
        text = " next to ".join(parts[:2]) + (f" and {parts[2]}" if count == 3 else "")
        if self.rng.random() < 0.3:
            text = f"{STYLE_NAMES[style]} emoji of {text}"
        text += (
            f" on a {background} background"
            if background != "white" or self.rng.random() < 0.3
            else ""
        )
        pictures = [self.rows[(n, style, "", "")] for n in names]
        return Sample(
            caption=text, pictures=pictures, background=background, objects=names, kind="scene"
        )


def draw(art: Artwork, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """The picture of a sample as float RGB."""
    pixels = [art.pixels[i] for i in sample.pictures]
    if len(pixels) == 1:
        return single(pixels[0], sample.background, rng)
    return scene(pixels, sample.background, rng)


def train_tokenizer(captions: list[str], size: int, out: Path) -> None:
    """A byte-pair tokenizer of the world's own captions, in ``CLIPTokenizer``'s files."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    raw = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    raw.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    pattern = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
        min_frequency=2,
    )
    raw.train_from_iterator(captions, trainer)
    merges = [tuple(m) for m in json.loads(raw.to_str())["model"]["merges"]]
    tokens = alphabet + [a + "</w>" for a in alphabet]
    tokens += [t for t in dict.fromkeys(a + b for a, b in merges) if t not in set(tokens)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    folder = out / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in merges) + "\n"
    )
    CLIPTokenizer.from_pretrained(folder, model_max_length=77).save_pretrained(folder)


def build(art: Artwork, config: dict[str, Any], out: Path) -> None:
    """Writes ``samples.json``, ``renders.npy`` (uint8, one picture a sample) and the tokenizer.

    A configuration without ``vocabulary`` keeps to the shipped tokenizer. With ``wide``, scenes of
    two things in full size, twice as wide as single things, go to ``samples-wide.json`` and
    ``renders-wide.npy``: so many.
    """
    writer = Writer(art, config["seed"], config.get("kinds"), config.get("japanese_scenes", 0.0))
    kinds = [writer.single, writer.person, writer.scene]
    samples = [writer.pick(kinds, config["mix"])() for _ in range(config["samples"])]
    renders = np.stack([to_bytes(draw(art, sample, writer.rng)) for sample in samples])
    keep(samples, renders, "", out)
    if "vocabulary" in config:
        train_tokenizer([s.caption for s in samples], config["vocabulary"], out)
    if "wide" in config:
        wide = [writer.scene(most=2) for _ in range(config["wide"])]
        drawn = [
            side_by_side([art.pixels[i] for i in s.pictures], s.background, writer.rng)
            for s in wide
        ]
        keep(wide, np.stack([to_bytes(picture) for picture in drawn]), "-wide", out)
        samples += wide
    print(f"captions {len(samples)} unique {len({s.caption for s in samples})}", flush=True)


def keep(samples: list[Sample], renders: np.ndarray, kind: str, out: Path) -> None:
    """Writes samples with their pictures."""
    rows = [asdict(sample) for sample in samples]
    (out / f"samples{kind}.json").write_text(json.dumps(rows, ensure_ascii=False))
    np.save(out / f"renders{kind}.npy", renders)
