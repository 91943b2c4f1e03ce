"""Finds the names of concepts in a text, also when somebody tried to hide them.

Texts and names are folded (see `tadasu.detectors.folding`), and read again as prompt tools,
browsers and people read them (`tadasu.detectors.views`). Languages written with spaces are
compared word by word, so "grape" holds no other word; Japanese, Chinese, Korean, Thai and emoji
are compared as substrings, with a boundary where a short name would otherwise be found inside
other words, and Japanese also by dictionary forms and readings (`tadasu.detectors.japanese`). Found
besides the plain name: plurals, possessives and verb forms of English words, digits and signs for
letters ("p1st0l"), stretched letters ("guuun"), letters spelled out ("p.i.s.t.o.l", "p i s t o l"),
punctuation inside a word ("pis-tol"), words run together, words cut by a space ("pis tol"), signs
for letters ("p*stol"), single slips ("pitsol"), other spellings of the same sounds ("sigarette")
and words written backwards.

Pieces and slips count only where English does not know the word ("sat an", "pistil"), so slips
that make another word ("revolve"), two slips in one word, or other words for the same thing are
not found; those are for `tadasu.detectors.meaning`. There are no regular expressions made from
names, and the time grows linearly with the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from tadasu.concepts import Concept
from tadasu.detectors import dense, japanese
from tadasu.detectors.folding import Folded, fold
from tadasu.detectors.inflection import inflected
from tadasu.detectors.repair import SIGNS, Repair, is_word, stands_alone
from tadasu.detectors.spelling import (
    AS_I,
    AS_L,
    WORD,
    as_it_stands,
    calm,
    readings,
    runs,
    split,
    walk,
)
from tadasu.detectors.trie import Entry, How, NameHit, Node, Word, hit_at, inside, longest
from tadasu.detectors.views import (
    as_katakana,
    named,
    plain_of,
    refolded,
    segments,
    tags,
    together,
    views,
)

NAME = "names"
UNIT = "match"

_BLANK = re.compile(r"\s{1,3}")
_MASKED_WORD = re.compile(rf"(?:{WORD.pattern})(?:[{re.escape(SIGNS)}]{{1,3}}(?:{WORD.pattern}))*")
_SPELLING_GAP = re.compile(r"[\W_]{1,3}")
_INNER_GAP = re.compile(r"[.\-_*·~/\\]")
_LONGEST_SPELLED = 40
_SHORTEST_JOINED = 4
_SHORTEST_ALIAS = 8
_SHORTEST_TAGGED = 3
_SHORTEST_OF_TWO = 7
_SHORTEST_HALF = 3
_MOST_PIECES = 12
_ARTICLES = ("a", "i")


class Lexicon:
    """The names of some concepts, made ready once for many texts.

    Args:
        concepts: names and aliases in any language; exceptions are phrases in which a name does
            not count.
        analyser: whether Japanese is also read word by word; None where the extra is installed.

    Raises:
        MissingPart: the analyser is wanted and not installed.

    >>> cat = Concept(id="cat", names={"en": ("cat",)}, hazard="shocking")
    >>> [(hit.start, hit.end, hit.how) for hit in Lexicon([cat]).find("Two CATS, a c4t, concat")]
    [(4, 8, 'plain'), (12, 15, 'substituted')]
    """

    def __init__(self, concepts: Sequence[Concept], *, analyser: bool | None = None) -> None:
        self._words, self._dense = Node(), Node()
        self._masked, self._sounds = Node(), Node()
        self._joined: dict[str, list[Entry]] = {}
        self._mended_words: set[str] = set()
        self._excused_words, self._excused_dense = Node(), Node()
        self._entries: dict[str, list[Entry]] = {}
        for concept in concepts:
            self._learn(concept.id, concept.names, _SHORTEST_JOINED)
            self._learn(concept.id, concept.aliases, _SHORTEST_ALIAS)
            self._excuse(concept.id, concept.exceptions)
            self._excuse(concept.id, _modified(concept))
        self._repair = Repair(self._mended_words)
        self._tagged = [
            word for word in {*self._joined, *self._words.next} if len(word) >= _SHORTEST_TAGGED
        ]
        reads = japanese.installed() if analyser is None else analyser
        self._japanese = japanese.Names(list(self._entries)) if reads else None
        if self._japanese:
            self._learn_readings(self._japanese)

    @property
    def reads_japanese(self) -> bool:
        """Whether Japanese is read word by word, not only letter by letter."""
        return self._japanese is not None

    def find(self, text: str) -> list[NameHit]:
        """Every name in the text, in the order of the text.

        Hits that lie inside an exception, or inside a longer hit of the same concept, are left
        out.
        """
        found: list[NameHit] = []
        excused: list[NameHit] = []
        for view in views(text):
            found += self._look(view)
            excused += self._plain(view, self._excused_words, self._excused_dense, hidden=False)
        found += [*self._pictured(text), *self._in_tags(text)]
        if japanese.is_japanese(text):
            found = [*self._whole_words(text, found), *self._read(text)]
        return longest(hit for hit in found if not any(inside(hit, phrase) for phrase in excused))

    def _learn(self, concept: str, names: Mapping[str, tuple[str, ...]], shortest: int) -> None:
        """Names or aliases of a concept; words from ``shortest`` letters on are mended."""
        for language, name in _each(names):
            folded, entry = fold(name).text, Entry(concept=concept, name=name)
            self._entries.setdefault(name, []).append(entry)
            if dense.LETTER.search(folded):
                letters = "".join(folded.split())
                self._dense.add(letters, entry)
                dense.learn_masked(self._masked, letters, entry)
                continue
            for path in _paths(language, folded):
                self._words.add(path, entry)
                run = "".join(path)
                self._mended_words |= {w for w in (*path, run) if len(w) >= shortest - 1}
                if len(run) >= _SHORTEST_JOINED:
                    entries = self._joined.setdefault(run, [])
                    entries += [entry] if entry not in entries else []

    def _excuse(self, concept: str, phrases: Mapping[str, tuple[str, ...]]) -> None:
        for language, phrase in _each(phrases):
            folded, entry = fold(phrase).text, Entry(concept=concept, name=phrase)
            if dense.LETTER.search(folded):
                self._excused_dense.add("".join(folded.split()), entry)
                continue
            for path in _paths(language, folded):
                self._excused_words.add(path, entry)

    def _learn_readings(self, names: japanese.Names) -> None:
        for letters, name in names.readings():
            for entry in self._entries[name]:
                self._sounds.add(letters, entry)
                dense.learn_masked(self._masked, letters, entry)
        for letters, name in names.mixed():
            for entry in self._entries[name]:
                self._dense.add(letters, entry)
        for spelling, name in names.romaji():
            for entry in self._entries[name] if not is_word(spelling) else ():
                self._words.add([spelling], entry)

    def _look(self, view: Folded) -> Iterator[NameHit]:
        yield from self._plain(view, self._words, self._dense, hidden=True)
        yield from self._spelled(view)
        yield from self._mended(view)
        yield from self._cut(view)
        yield from dense.masked(view, self._masked)
        for other in (as_katakana(view), together(view)) if not view.text.isascii() else ():
            if other.text != view.text:
                yield from dense.found(other, self._dense)

    def _pictured(self, text: str) -> Iterator[NameHit]:
        """Emoji whose Unicode name says a concept's name."""
        for name, start, end in named(text):
            says = fold(name)
            excused = [*self._plain(says, self._excused_words, Node(), hidden=False)]
            for hit in self._plain(says, self._words, Node(), hidden=False):
                if not any(inside(hit, phrase) for phrase in excused):
                    yield NameHit(
                        concept=hit.concept, name=hit.name, start=start, end=end, how="emoji"
                    )

    def _in_tags(self, text: str) -> Iterator[NameHit]:
        """Names in the run-together words of tags."""
        for says, start, end in tags(text):
            entries = [
                entry
                for word in says.split()
                if not is_word(word) or word in self._words.next
                for name in segments(word, self._tagged, stands_alone)
                for entry in (*self._joined.get(name, ()), *self._ends(name))
            ]
            for entry in dict.fromkeys(entries):
                yield NameHit(
                    concept=entry.concept, name=entry.name, start=start, end=end, how="tag"
                )

    def _ends(self, word: str) -> list[Entry]:
        node = self._words.next.get(word)
        return node.ends if node else []

    def _whole_words(self, text: str, hits: Sequence[NameHit]) -> list[NameHit]:
        """Without plain hits in kana that are a part of a longer word that the dictionary has."""
        if self._japanese is None:
            return list(hits)
        view = refolded(plain_of(text), kana=False)
        spans = [
            view.back(word.start, word.end)
            for word in japanese.words(view.text)
            if word.known and word.kana
        ]
        return [
            hit
            for hit in hits
            if hit.how != "plain" or not japanese.in_a_phrase(spans, hit.start, hit.end)
        ]

    def _read(self, text: str) -> Iterator[NameHit]:
        """Names by the forms and readings of Japanese words, with gaps, without, and mended."""
        if self._japanese is None:
            return
        given = plain_of(text)
        folded = [refolded(each, kana=False) for each in (given, together(given))]
        for view in {
            each.text: each for one in folded for each in (one, as_katakana(one))
        }.values():
            for name, first, last in self._japanese.find(view.text):
                start, end = view.back(first, last)
                how: How = "form" if text[start:end] != name else "plain"
                for entry in self._entries[name]:
                    yield NameHit(
                        concept=entry.concept, name=entry.name, start=start, end=end, how=how
                    )

    def _plain(
        self, folded: Folded, root: Node, letters: Node, *, hidden: bool
    ) -> Iterator[NameHit]:
        cut = split(folded.text)
        meant = [readings(word.text) if hidden else as_it_stands(word.text) for word in cut]
        for first, word in enumerate(cut):
            yield from walk(folded, cut, meant, root, first)
            for reading in meant[first] if hidden else ():
                how: How = "joined" if reading == word.text else "substituted"
                if reading not in root.next or not root.next[reading].ends:
                    for entry in self._joined.get(reading, ()):
                        yield hit_at(folded, entry, word.start, word.end, how)
        yield from dense.found(folded, letters)

    def _spelled(self, folded: Folded) -> Iterator[NameHit]:
        text = folded.text
        for run in runs(text, split(text), _INNER_GAP, single=False):
            for reading in readings("".join(word.text for word in run)):
                for entry in self._joined.get(reading, ()):
                    yield hit_at(folded, entry, run[0].start, run[-1].end, "joined")
        for run in runs(text, [calm(w) for w in split(text)], _SPELLING_GAP, single=True):
            yield from self._in_letters(folded, run)
        letters = [
            Word(text=match.group(), start=match.start(), end=match.end())
            for match in dense.LETTER.finditer(text)
        ]
        for run in runs(text, letters, _SPELLING_GAP, single=True):
            yield from dense.in_letters(folded, run, self._dense)
            yield from dense.in_letters(folded, run, self._sounds)

    def _mended(self, folded: Folded) -> Iterator[NameHit]:
        """Names of which at least one word has a slip or signs for letters."""
        words = [
            Word(text=match.group(), start=match.start(), end=match.end())
            for match in _MASKED_WORD.finditer(folded.text)
        ]
        broken = [self._mends(word.text) for word in words]
        meant = [
            {**as_it_stands(word.text), **mends} for word, mends in zip(words, broken, strict=True)
        ]
        for first, word in enumerate(words):
            for hit in walk(folded, words, meant, self._words, first):
                if hit.how != "plain":
                    yield hit
            for reading, how in broken[first].items():
                for entry in self._joined.get(reading, ()):
                    yield hit_at(folded, entry, word.start, word.end, how)

    def _mends(self, token: str) -> dict[str, How]:
        masked: dict[str, How] = dict.fromkeys(self._repair.masked(token), "masked")
        if masked:
            return masked
        backwards = token[::-1]
        if backwards in self._joined and not is_word(token):
            return {backwards: "reversed"}
        return dict.fromkeys(self._repair.slips(token), "misspelt")

    def _cut(self, folded: Folded) -> Iterator[NameHit]:
        """Names in several pieces: one is no English word, or two make a long name."""
        words = split(folded.text)
        for first in range(len(words)):
            together, strange = words[first].text, not stands_alone(words[first].text)
            for last in range(first + 1, min(first + _MOST_PIECES, len(words))):
                if not _BLANK.fullmatch(folded.text, words[last - 1].end, words[last].start):
                    break
                together += words[last].text
                if len(together) > _LONGEST_SPELLED:
                    break
                strange = strange or not stands_alone(words[last].text)
                both = min(len(words[first].text), len(words[last].text)) >= _SHORTEST_HALF
                long = last == first + 1 and both and len(together) >= _SHORTEST_OF_TWO
                for entry in self._joined.get(together, ()) if strange or long else ():
                    yield hit_at(folded, entry, words[first].start, words[last].end, "cut")

    def _in_letters(self, folded: Folded, run: list[Word]) -> Iterator[NameHit]:
        signs = "".join(word.text for word in run)
        for reading in {signs.translate(AS_I), signs.translate(AS_L)}:
            whole = [(0, len(reading), _SHORTEST_JOINED - 1)]
            if reading[:1] in _ARTICLES:  # "a g u n"
                whole.append((1, len(reading), _SHORTEST_JOINED - 1))
            parts = [
                (start, end, _SHORTEST_JOINED)
                for start in range(len(reading))
                for end in range(
                    start + _SHORTEST_JOINED, min(len(reading), start + _LONGEST_SPELLED) + 1
                )
            ]
            for start, end, shortest in (*whole, *parts):
                if end - start < shortest:
                    continue
                word = reading[start:end]
                node = self._words.next.get(word)
                entries = self._joined.get(word) or (node.ends if node else [])
                for entry in entries:
                    yield hit_at(folded, entry, run[start].start, run[end - 1].end, "spelled out")


def _each(listed: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    return ((language, name) for language, names in listed.items() for name in names)


def _modified(concept: Concept) -> dict[str, tuple[str, ...]]:
    """Every name of a concept before every word that it modifies ("cocktail dress")."""
    listed = [*_each(concept.names), *_each(concept.aliases)]
    return {
        language: tuple(f"{name} {head}" for of, name in listed if of == language for head in heads)
        for language, heads in concept.modifies.items()
    }


def _paths(language: str, folded: str) -> list[list[str]]:
    """The words of a name, and of its forms."""
    parts = [word.text for word in split(folded)]
    return inflected(parts) if language == "en" else [parts]
