"""Trains the vision-language model: the world's CLIP vision tower, a projector, a small Llama.

``LlavaForConditionalGeneration`` with its own tokenizer, chat template and processor. The tower is
frozen, so its features are computed once. The loss counts answers only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captions import STYLE_NAMES, with_article
from clip import augment
from dialogues import PREFIX, Dialogue, Writer
from pictures import COLOURS, Artwork, single, to_bytes
from torch import nn
from training import WORLD, Loop
from transformers import (
    AutoProcessor,
    CLIPImageProcessorPil,
    CLIPModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from vae import to_tensor

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "<user>", "<assistant>"]
LONGEST = 512  # positions
LAYER = -2  # of the tower; its last layer has thrown away more of what tells things apart
TEMPLATE = """{{- bos_token -}}
{%- for message in messages -%}
{{- '<assistant>' if message['role'] == 'assistant' else '<user>' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] if part['type'] in ('image', 'image_url') -%}
{{- '<image>' -}}
{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}{{- eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}"""


def train_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level byte-pair tokenizer of the dialogues' own words."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<assistant>"],
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=LONGEST,
        padding_side="left",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def new_model(
    config: dict[str, Any], clip: CLIPModel, tokenizer: PreTrainedTokenizerFast
) -> LlavaForConditionalGeneration:
    """The model with the world's vision tower in it, frozen."""
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config["width"],
        intermediate_size=config["inner"],
        num_hidden_layers=config["layers"],
        num_attention_heads=config["width"] // 64,
        num_key_value_heads=config["width"] // 64,
        max_position_embeddings=LONGEST,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    vision = clip.config.vision_config
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            image_seq_length=(vision.image_size // vision.patch_size) ** 2 + 1,
            vision_feature_layer=LAYER,
            vision_feature_select_strategy="full",
            tie_word_embeddings=True,
        )
    )
    found = model.model.vision_tower.load_state_dict(tower_of(model, clip), strict=True)
    assert not found.missing_keys
    model.model.vision_tower.requires_grad_(False)
    return model


def tower_of(model: LlavaForConditionalGeneration, clip: CLIPModel) -> dict[str, torch.Tensor]:
    """CLIP's vision weights by the names that the tower uses."""
    wanted = model.model.vision_tower.state_dict()
    given = clip.vision_model.state_dict()
    return {key: given[key.removeprefix("vision_model.")] for key in wanted}


def name_pictures(
    model: LlavaForConditionalGeneration,
    pictures: Pictures,
    art: Artwork,
    tokenizer: PreTrainedTokenizerFast,
    config: dict[str, Any],
) -> None:
    """Before the language model learns, projector and words learn which picture has which name.

    The mean of a picture's tokens, read by the words themselves, shall give the tokens of its name:
    a bag of words, without any attention, so it costs seconds. Then the first layer is set to copy:
    what stands in the context is in every place's stream from the first step on. Without this start
    most of the training goes into finding out which picture is which word.
    """
    projector, words = model.model.multi_modal_projector, model.model.language_model.embed_tokens
    device, names = words.weight.device, list(pictures.places)
    target = torch.zeros(len(names), words.num_embeddings, device=device)
    for row, name in enumerate(names):
        for text in (f" {art.concepts[name]['en']}", art.concepts[name]["ja"]):
            ids = tokenizer(text, add_special_tokens=False).input_ids
            target[row, ids] += 1 / len(ids)
    target /= target.sum(1, keepdim=True)
    learned = [*projector.parameters(), words.weight]
    optimiser = torch.optim.AdamW(learned, lr=config["lr"], weight_decay=0.02)
    rng, norm = np.random.default_rng(config["seed"]), nn.RMSNorm(words.embedding_dim).to(device)
    norm.requires_grad_(False)
    losses = []
    for step in range(config["naming"]):
        optimiser.param_groups[0]["lr"] = config["lr"] * (1 - step / config["naming"])
        pick = rng.integers(0, len(names), 128)
        seen = pictures.draw([names[i] for i in pick], rng).to(device, torch.float32)
        read = norm(norm(projector(seen)).mean(1)) @ words.weight.T
        chosen = torch.from_numpy(pick).to(device)
        loss = -(target[chosen] * read.log_softmax(1)).sum(1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if step % 100 == 99:
            right = (read.detach() @ target.T).argmax(1) == chosen
            print(f"naming {step + 1} loss {np.mean(losses[-50:]):.3f} right "
                  f"{float(right.float().mean()):.2f}", flush=True)  # fmt: skip
    attention = model.model.language_model.layers[0].self_attn
    nn.init.eye_(attention.v_proj.weight)
    with torch.no_grad():
        nn.init.eye_(attention.o_proj.weight).mul_(0.5)


class Pictures:
    """Features of augmented pictures of every learned concept, computed once.

    Args:
        model: its vision tower computes them.
        art: the artwork.
        config: with ``views`` and ``restricted_views``, pictures a drawing, and ``seed``.
        file: where they are kept.
        device: on which they are computed.
    """

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        art: Artwork,
        config: dict[str, Any],
        file: Path,
        device: torch.device,
    ) -> None:
        rows = rows_of(art)
        counts = {
            name: config["restricted_views" if art.concepts[name]["restricted"] else "views"]
            for name in rows
        }
        order = [(name, i) for name in rows for i in rows[name] for _ in range(counts[name])]
        self.places: dict[str, list[int]] = {}
        for place, (name, _) in enumerate(order):
            self.places.setdefault(name, []).append(place)
        if not file.exists():
            np.save(file, features(model, art, [i for _, i in order], config["seed"], device))
        self.features = np.load(file, mmap_mode="r")

    def draw(self, names: list[str], rng: np.random.Generator) -> torch.Tensor:
        """One view of each concept, picture × token × width."""
        picks = [self.places[n][int(rng.integers(len(self.places[n])))] for n in names]
        return torch.from_numpy(np.asarray(self.features[picks]))


def rows_of(art: Artwork) -> dict[str, list[int]]:
    """The drawings of every learned concept in the known styles."""
    found: dict[str, list[int]] = {}
    for i, row in enumerate(art.table):
        if row["style"] in STYLE_NAMES and not art.concepts[row["concept"]]["held_out"]:
            found.setdefault(row["concept"], []).append(i)
    return found


def views(art: Artwork, rows: list[int], seed: int) -> np.ndarray:
    """Each drawing on a background, three of four on white (uint8, NHWC)."""
    rng = np.random.default_rng(seed)
    colours = list(COLOURS)
    made = np.empty((len(rows), art.size, art.size, 3), np.uint8)
    for place, i in enumerate(rows):
        colour = "white" if rng.random() < 0.75 else colours[int(rng.integers(len(colours)))]
        made[place] = to_bytes(single(art.pixels[i], colour, rng, shift=2))
    return made


@torch.no_grad()
def features(
    model: LlavaForConditionalGeneration,
    art: Artwork,
    rows: list[int],
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """What the tower sees in augmented pictures, in half precision."""
    generator = torch.Generator(device).manual_seed(seed)
    pictures = views(art, rows, seed)
    parts = []
    tower = model.model.vision_tower.to(device).eval()
    for i in range(0, len(rows), 256):
        x = to_tensor(pictures[i : i + 256], device)
        soft = augment(x, generator)
        plain = torch.rand(len(x), 1, 1, 1, generator=generator, device=device) < 0.25
        seen = tower(torch.where(plain, x, soft), output_hidden_states=True)
        parts.append(seen.hidden_states[LAYER].half().cpu().numpy())
    return np.concatenate(parts)


def encode(
    tokenizer: PreTrainedTokenizerFast, dialogues: list[Dialogue], seen: int
) -> list[tuple[list[int], int]]:
    """Token ids with ``seen`` places for each dialogue's picture, and where learning begins."""
    bos, user, assistant, image, eos = tokenizer.convert_tokens_to_ids(
        ["<s>", "<user>", "<assistant>", "<image>", "</s>"]
    )
    questions = tokenizer([d.question for d in dialogues], add_special_tokens=False).input_ids
    answers = tokenizer([d.answer for d in dialogues], add_special_tokens=False).input_ids
    rows = []
    for dialogue, question, answer in zip(dialogues, questions, answers, strict=True):
        head = [bos, user, *[image] * (seen if dialogue.concept else 0), *question, assistant]
        given = tokenizer(prefix_of(dialogue.answer), add_special_tokens=False).input_ids
        assert answer[: len(given)] == given
        rows.append(([*head, *answer, eos], len(head) + len(given)))
    return rows


def prefix_of(answer: str) -> str:
    """The safety prefix that an answer begins with: it is given, so it is not learned."""
    for prefix in [p for texts in PREFIX.values() for p in texts]:
        if answer.startswith(prefix):
            return prefix.rstrip()
    return ""


def batches(lengths: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Dialogues of like length together, in random order."""
    order = np.argsort(lengths + rng.random(len(lengths)) * 4, kind="stable")
    parts = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
    return [parts[i] for i in rng.permutation(len(parts))]


def loss_of(
    model: LlavaForConditionalGeneration,
    rows: list[tuple[list[int], int]],
    seen: torch.Tensor,
    device: torch.device,
) -> torch.Tensor:
    """Cross-entropy of the answers' tokens."""
    ids, counts, logits = read(model, rows, seen, device)
    return nn.functional.cross_entropy(logits, ids.roll(-1, 1)[counts])


def read(
    model: LlavaForConditionalGeneration,
    rows: list[tuple[list[int], int]],
    seen: torch.Tensor,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, the places before an answer's tokens, the logits there; padding is on the right."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), model.config.text_config.pad_token_id)
    counts = torch.zeros(len(rows), width, dtype=torch.bool)
    for place, (tokens, start) in enumerate(rows):
        ids[place, : len(tokens)] = torch.tensor(tokens)
        counts[place, start - 1 : len(tokens) - 1] = True  # the place before predicts a token
    ids, counts = ids.to(device), counts.to(device)
    words = model.model.language_model.embed_tokens(ids)
    shown = model.model.multi_modal_projector(seen.to(device, torch.float32))
    at_image = (ids == model.config.image_token_id)[..., None]
    words = words.masked_scatter(at_image, shown.to(words.dtype))
    hidden = model.model.language_model(inputs_embeds=words, use_cache=False).last_hidden_state
    return ids, counts, model.lm_head(hidden[counts]).float()


def train(art: Artwork, config: dict[str, Any], out: Path, device: torch.device) -> None:
    """Trains, resumable from ``vision-language.pt``; saves model and processor."""
    torch.manual_seed(config["seed"])
    writer = Writer(art, config["seed"], config.get("japanese", 0.15))
    dialogues = [writer.draw() for _ in range(config["dialogues"])]
    texts = [text for d in dialogues for text in (d.question, d.answer)]
    texts += [c[lang] for c in art.concepts.values() for lang in ("en", "ja")] * 5
    if "start" in config:  # trained on from a shipped model
        processor = AutoProcessor.from_pretrained(WORLD / config["start"])
        tokenizer = processor.tokenizer
        model = LlavaForConditionalGeneration.from_pretrained(WORLD / config["start"]).float()
        model.model.vision_tower.requires_grad_(False)
    else:
        tokenizer = train_tokenizer(texts, config["vocabulary"])
        model = new_model(config, CLIPModel.from_pretrained(out / "clip"), tokenizer)
    model = model.to(device)
    model.model.language_model.config._attn_implementation = "eager"
    trained = [p for p in model.parameters() if p.requires_grad]
    print(f"vision-language: {sum(p.numel() for p in trained)} trained parameters", flush=True)
    pictures = Pictures(model, art, config, out / "vision-features.npy", device)
    rows = encode(tokenizer, dialogues, model.config.image_seq_length)
    lengths = np.array([len(ids) for ids, _ in rows])
    print(f"vision-language: tokens mean {lengths.mean():.1f} max {lengths.max()}", flush=True)
    optimiser = torch.optim.AdamW(trained, lr=config["lr"], weight_decay=0.02, betas=(0.9, 0.98))
    parts = {"model": model, "optimiser": optimiser}
    loop = Loop("vision-language", config, parts, out / "vision-language.pt", every=150)
    if not loop.first and "start" not in config:
        name_pictures(model, pictures, art, tokenizer, config)
    rng = np.random.default_rng(loop.seed)
    naming = np.array([i for i, d in enumerate(dialogues) if d.kind == "describe"])
    every, queue = np.arange(len(dialogues)), list[np.ndarray]()
    for step in loop.steps():
        if step in (loop.first, config["describing"]):  # names first: most is to be learned there
            first = step < config["describing"]
            subset, size = (naming, 2 * config["batch"]) if first else (every, config["batch"])
            queue = []
        queue = queue or batches(lengths[subset], size, rng)
        pick = subset[queue.pop()]
        seen = pictures.draw([c for i in pick if (c := dialogues[i].concept)], rng)
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(model, [rows[i] for i in pick], seen, device)
        loop.descend(loss, model)
        if (step + 1) % 300 == 0:
            share = names_right(model, art, tokenizer, device)
            print(f"vision-language {step + 1}: names {share:.3f} of fresh views", flush=True)
    save(model, tokenizer, art.size, out / "vision-language")


@torch.no_grad()
def names_right(
    model: LlavaForConditionalGeneration,
    art: Artwork,
    tokenizer: PreTrainedTokenizerFast,
    device: torch.device,
    seed: int = 98,
) -> float:
    """In how many fresh views of every concept each token of "This is a pistol." comes first."""
    rng, drawings = np.random.default_rng(seed), rows_of(art)
    seen = features(model, art, [int(rng.choice(drawings[n])) for n in drawings], seed, device)
    asked = [
        Dialogue(question="What is this?", concept=n,
                 answer=f"This is {with_article(art.concepts[n]['en'])}.")
        for n in drawings
    ]  # fmt: skip
    rows = encode(tokenizer, asked, model.config.image_seq_length)
    right = []
    for i in range(0, len(rows), 64):
        ids, counts, logits = read(model, rows[i : i + 64], torch.from_numpy(seen[i : i + 64]),
                                   device)  # fmt: skip
        same = torch.ones_like(counts)
        same[counts] = logits.argmax(1) == ids.roll(-1, 1)[counts]
        right += same.all(1).tolist()
    return float(np.mean(right))


def save(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    size: int,
    folder: Path,
) -> None:
    """Writes the folder that ``AutoModelForImageTextToText`` and ``AutoProcessor`` load."""
    model.eval()
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    vision = model.config.vision_config
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    (folder / "specials.json").write_text(json.dumps(SPECIAL))
