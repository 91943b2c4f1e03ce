from __future__ import annotations

import pytest

from tadasu.editing.tokens import MODES, Mode, Span, paired, rows, span
from tadasu.errors import BadInput, UnknownName

BOS, EOS = 90, 91


def _clip(words: int, length: int = 8) -> Span:
    """CLIP pads with its end token."""
    ids = [BOS, *range(1, words + 1), *[EOS] * (length - words - 1)]
    return span(ids, [1] * (words + 2) + [0] * (length - words - 2), bos=BOS, eos=EOS)


def _openclip(words: int, length: int = 8) -> Span:
    """OpenCLIP pads with id 0."""
    ids = [BOS, *range(1, words + 1), EOS, *[0] * (length - words - 2)]
    return span(ids, [1] * (words + 2) + [0] * (length - words - 2), bos=BOS, eos=EOS)


def _t5(words: int, length: int = 8) -> Span:
    """T5 writes no start token."""
    ids = [*range(5, words + 5), 1, *[0] * (length - words - 1)]
    return span(ids, [1] * (words + 1) + [0] * (length - words - 1), bos=None, eos=1)


def _llama(words: int, length: int = 8, *, left: bool = False) -> Span:
    """Llama writes no end token and often pads with it."""
    real, pads = [BOS, *range(1, words + 1)], [EOS] * (length - words - 1)
    mask = [1] * len(real)
    none = [0] * len(pads)
    return span(
        pads + real if left else real + pads,
        none + mask if left else mask + none,
        bos=BOS,
        eos=EOS,
    )


@pytest.mark.parametrize("make", [_clip, _openclip])
def test_clip_rules_equal_the_published_rule_for_texts_with_words(make: object) -> None:
    for words in (1, 2, 5):
        where = make(words)  # type: ignore[operator]
        assert where.last == (words + 2) - 2, "attention_mask.sum() - 2"
        assert (where.first, where.end) == (1, words + 1)
        assert rows(where, "last") == (words,)
        assert rows(where, "last+tail") == tuple(range(words, 8))
        assert rows(where, "eot") == (words + 1,)
        assert rows(where, "all") == tuple(range(8))


def test_t5_has_no_start_token() -> None:
    where = _t5(3)
    assert (where.first, where.last, where.end) == (0, 2, 3)
    assert rows(where, "last+tail") == (2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize("left", [False, True])
def test_llama_has_no_end_token_and_padding_is_never_taken_for_one(left: bool) -> None:
    where = _llama(3, left=left)
    shift = 4 if left else 0
    assert (where.first, where.last, where.end) == (1 + shift, 3 + shift, None)
    assert rows(where, "last") == (3 + shift,)
    with pytest.raises(BadInput, match="no end-of-text token"):
        rows(where, "eot")


def test_the_empty_text_is_its_end_token_and_never_a_padding_row() -> None:
    assert rows(_clip(0), "last") == (1,)
    assert rows(_t5(0), "last") == (0,), "the published rule gives index -1, a padding row"
    assert rows(_clip(0), "last", empty="bos") == (0,), "the published rule for CLIP"
    assert rows(_llama(0), "last") == (0,)


def test_tails_are_aligned_at_the_last_word_and_cropped() -> None:
    assert paired(_clip(1), _clip(3), "last+tail") == ((1, 3), (2, 4), (3, 5), (4, 6), (5, 7))
    assert paired(_clip(3), _clip(1), "last+tail") == ((3, 1), (4, 2), (5, 3), (6, 4), (7, 5))


def test_tail_of_the_empty_text_matches_end_token_with_end_token() -> None:
    ours = dict(paired(_clip(2), _clip(0), "last+tail"))
    assert ours[2] == 1
    assert ours[3] == 1, "end token to end token"
    published = dict(paired(_clip(2), _clip(0), "last+tail", empty="bos"))
    assert published[2] == 0
    assert published[3] == 1


def test_joined_contexts_count_from_the_start_of_their_part() -> None:
    where = span([5, 1, 0], [1, 1, 0], bos=None, eos=1, start=77)
    assert rows(where, "last+tail") == (77, 78, 79)


def test_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="last\\+tail"):
        rows(_clip(1), "lastt")  # type: ignore[arg-type]
    assert len(MODES) == 4


def test_a_text_without_tokens_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one token"):
        span([0, 0], [0, 0], bos=None, eos=1)


def test_a_text_with_an_unknown_token_has_no_rows() -> None:
    unread = span([2, 1, 0, 0], [1, 1, 0, 0], bos=None, eos=1, unknown=2)
    assert not unread.readable
    every: tuple[Mode, ...] = ("last", "last+tail", "all", "eot")
    assert every == MODES
    for mode in every:
        assert rows(unread, mode) == ()
    assert span([5, 1, 0, 0], [1, 1, 0, 0], bos=None, eos=1, unknown=2).readable
