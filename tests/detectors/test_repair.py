"""What a broken word may have been, and what must not be called broken."""

from __future__ import annotations

from tadasu.detectors.repair import REMEMBERED, Repair, dictionary, is_word, stands_alone

NAMES = Repair(["pistol", "sword", "skull", "gun", "beer", "middle", "finger", "日本刀"])


def test_every_kind_of_slip_is_recognised() -> None:
    for token in ("pitsol", "pistl", "pistool", "pastol"):
        assert NAMES.slips(token) == ["pistol"], token


def test_two_slips_another_first_letter_and_short_words_are_not() -> None:
    for token in ("pitsl", "bistol", "ber", "gum", "pistol", "baer", "bder"):
        assert NAMES.slips(token) == [], token


def test_names_of_four_letters_allow_a_swap_or_one_more() -> None:
    assert NAMES.slips("bere") == ["beer"]
    assert NAMES.slips("beerr") == ["beer"]
    assert NAMES.slips("pist") == NAMES.slips("bee") == []


def test_english_words_are_no_slips() -> None:
    for token in ("scull", "pistil", "sworn", "fingers", "fiddle", "swords"):
        assert NAMES.slips(token) == [], token


def test_signs_stand_for_one_letter_each() -> None:
    assert NAMES.masked("p*stol") == ["pistol"]
    assert NAMES.masked("g?n") == ["gun"]
    assert NAMES.masked("b**r") == ["beer"]
    for token in ("p**stol", "p****l", "*istol", "pisto*", "pistol", "g*t"):
        assert NAMES.masked(token) == [], token


def test_forms_of_known_words_are_words() -> None:
    assert all(is_word(word) for word in ("knives", "stabbed", "surfers", "cats"))
    assert not any(is_word(word) for word in ("tol", "wea", "pon", "pistl"))
    assert len(dictionary()) > 70_000


def test_what_is_remembered_of_strangers_texts_is_bounded() -> None:
    assert is_word.cache_info().maxsize == stands_alone.cache_info().maxsize == REMEMBERED
