"""The slide: ``Order: CCP CCP FFS`` with its ``Nf`` and ``classes``, letter by letter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import integer
from cnnc.frontend.names import Names
from cnnc.source import Span

MAX_LAYERS = 10_000

_LETTER = re.compile(r"(?P<letter>[A-Z])(?P<size>\d+(?:x\d+)?)?(?P<stride>/\d+)?", re.ASCII)
_KEYWORD = {
    "C": "conv",
    "P": "maxpool",
    "A": "avgpool",
    "G": "globalavgpool",
    "L": "lrn",
    "N": "bn",
    "D": "dropout",
    "F": "fc",
    "S": "fc",
}
_KNOWN = ", ".join(f"{letter} {what}" for letter, what in vocabulary.LETTERS.items())
_EXAMPLE = "for example `Order: C11/4P CCP FFS`: a size and stride on a letter, spaces between words"
_WITH_WIDTH = "CF"


@dataclass(frozen=True)
class Letter:
    """One layer of the slide. ``width`` is None where it has none or where its error is already noted."""

    letter: str
    keyword: str
    name: str
    width: int | None
    options: tuple[ast.Option, ...]
    span: Span


def spell_out(
    order: ast.Order, widths: ast.Widths | None, classes: ast.Classes | None, names: Names, diagnostics: Diagnostics
) -> Iterator[Letter | None]:
    """The layers of an ``Order`` line; None stands for a letter that is not one.

    Without ``widths`` (or ``classes``) the widths are None and nothing is said: the caller knows why.
    """
    words = [_Word(word, _read(word, diagnostics)) for word in order.words]
    entries = _entries(words, widths, diagnostics)
    numbers = _Numbers()
    for word in words:
        numbers.enter(word)
        word_widths = iter(entries.get(id(word), ()))
        for match in word.letters:
            if match is None:
                yield None
                continue
            span = word.span_of(match)
            letter = match["letter"]
            width = next(word_widths, None) if letter in _WITH_WIDTH else None
            if letter == "S" and classes is not None:
                width = integer(classes.count, diagnostics, 1, "`classes`")
            name = numbers.name(letter, names, span)
            yield Letter(letter, _KEYWORD[letter], name, width, _options(match, word, diagnostics), span)


@dataclass(eq=False)
class _Word:
    """A word of the slide and its letters; None for what is no letter."""

    word: ast.Name
    letters: list[re.Match[str] | None]

    @property
    def needs(self) -> int:
        """How many widths the word takes."""
        return sum(1 for match in self.letters if match and match["letter"] in _WITH_WIDTH)

    def span_of(self, match: re.Match[str], group: str | int = 0) -> Span:
        start = self.word.span.start
        return Span(self.word.span.source, start + match.start(group), start + match.end(group))


def _read(word: ast.Name, diagnostics: Diagnostics) -> list[re.Match[str] | None]:
    """Split a word into letters; an unknown one is an error, once a word."""
    letters: list[re.Match[str] | None] = []
    unknown: set[str] = set()
    at = 0
    while at < len(word.text) and len(letters) <= MAX_LAYERS:
        match = _LETTER.match(word.text, at)
        if match and match["letter"] in vocabulary.LETTERS:
            letters.append(match)
        else:
            char = word.text[at]
            if char not in unknown:
                span = Span(word.span.source, word.span.start + at, word.span.start + at + 1)
                hint = f"letters are {_KNOWN}" if char.isalpha() and char != "x" else _EXAMPLE
                diagnostics.add(span, f"unknown letter `{char}` in `Order`", hint)
            unknown.add(char)
            letters.append(None)
        at = match.end() if match else at + 1
    return letters


def _entries(words: list[_Word], widths: ast.Widths | None, diagnostics: Diagnostics) -> dict[int, list[int | None]]:
    """The widths of each word that takes some, by the word's identity."""
    if widths is None:
        return {}
    takers = [word for word in words if word.needs]
    count = len(widths.entries)
    for word in takers[count:]:
        entries = f"{count} entr{'y' if count == 1 else 'ies'}"
        hint = f"`Nf` has {entries} for {_count(takers)} with C or F; add a width for `{word.word.text}`"
        diagnostics.add(word.word.span, f"the word `{word.word.text}` has no width", hint)
    for entry in widths.entries[len(takers) :]:
        hint = f"`Order` has {_count(takers)} with C or F, one entry each"
        diagnostics.add(entry.span, "a width without a word", hint)
    return {id(word): _widths(word, entry, diagnostics) for word, entry in zip(takers, widths.entries, strict=False)}


def _count(words: list[_Word]) -> str:
    return f"{len(words)} word{'s' * (len(words) != 1)}"


def _widths(word: _Word, entry: ast.Expression | ast.Tuple, diagnostics: Diagnostics) -> list[int | None]:
    if isinstance(entry, ast.Tuple):
        if len(entry.items) != word.needs:
            letters = f"{word.needs} letter{'s' * (word.needs != 1)}"
            message = f"{len(entry.items)} widths for `{word.word.text}`, which has {letters} C or F"
            diagnostics.add(entry.span, message)
            return []
        return [integer(item, diagnostics, 1, "a width") for item in entry.items]
    return [integer(entry, diagnostics, 1, "a width")] * word.needs


def _options(match: re.Match[str], word: _Word, diagnostics: Diagnostics) -> tuple[ast.Option, ...]:
    """``C11/4`` as the options of ``conv 11x11/4``."""
    options: list[ast.Option] = []
    size, stride = match["size"], match["stride"]
    if (size or stride) and match["letter"] not in vocabulary.WITH_SIZE:
        letter = match["letter"]
        span = word.span_of(match)
        diagnostics.add(span, f"`{letter}` takes no size", f"sizes stand on {', '.join(vocabulary.WITH_SIZE)}")
        return ()
    if size:
        extents = tuple(size.split("x")) if "x" in size else (size, size)
        span = word.span_of(match, "size")
        options.append(ast.Option("size", ast.Dims(extents, span), span))
    if stride:
        span = word.span_of(match, "stride")
        value = ast.Integer(stride[1:], Span(span.source, span.start + 1, span.end))
        options.append(ast.Option("/", value, value.span))
    return tuple(options)


class _Numbers:
    """Numbers as VGG has them: ``conv3_2`` is the second conv of the third word with convs, dense layers count on."""

    def __init__(self) -> None:
        self.blocks = 0
        self.dense = 0
        self.convs = 0
        self.norms = 0

    def enter(self, word: _Word) -> None:
        self.convs = self.norms = 0
        if any(match and match["letter"] == "C" for match in word.letters):
            self.blocks += 1

    def name(self, letter: str, names: Names, span: Span) -> str:
        block = max(1, self.blocks)
        if letter == "C":
            self.convs += 1
            return names.free(f"conv{block}_{self.convs}", span)
        if letter == "N":
            self.norms += 1
            return names.free(f"bn{block}_{self.norms}", span)
        if letter in "FS":
            self.dense += 1
            return names.free(f"fc{self.blocks + self.dense}", span)
        if letter in "DL":
            return names.automatic(_KEYWORD[letter], span)
        return names.free(f"pool{block}", span)
