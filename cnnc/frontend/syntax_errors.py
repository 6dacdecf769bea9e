"""What to say about a syntax error, from what the parser had read and what it expected."""

from __future__ import annotations

import re

from cnnc.frontend import slips, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.syntax_problem import Found, SyntaxProblem

_MAX_LISTED = 8

# How messages call terminals that are not words.
_TERMINALS = {
    "NAME": "a name",
    "MODEL_NAME": "a name",
    "INT": "an integer",
    "REAL": "a number",
    "DIMS": "a size such as 3x3",
    "ORDER_WORD": "a word such as CCP",
    "_SEP": "a new line or `;`",
    "$END": "the end",
    "ARROW": "`=>`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "COMMA": "`,`",
}
# An operator could follow almost anywhere; listing them helps nobody.
_UNLISTED = {"PLUS", "MINUS", "STAR", "SLASH", "CIRCUMFLEX", "ERROR", "$END"}


def _is_word(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_]\w*", text) is not None


def _at_statement(problem: SyntaxProblem) -> bool:
    return "MODEL" in problem.expected


def _after_label(problem: SyntaxProblem) -> Found | None:
    """`LRN: n=5` reads like a label; so does a misspelt `order:`."""
    colon, token = problem.previous(), problem.previous(2)
    if colon is None or token is None or colon != ":" or token.type != "NAME":
        return None
    likely = vocabulary.suggestion(token, [*vocabulary.DEFAULTS, "Order", "Nf", "classes"])
    if likely and likely.lower() == token.lower():
        return problem.span_of(token), f"unknown line `{token}:`", f"did you mean `{likely}:`?"
    if token.isupper() and len(token) > 1 and problem.word not in vocabulary.LAYERS:
        hint = vocabulary.choice(token, vocabulary.DEFAULTS, "defaults exist for:")
        return problem.span_of(token), f"unknown default line `{token}:`", hint
    if _is_word(problem.word):
        hint = vocabulary.choice(problem.word, vocabulary.LAYERS, "layers are:")
        return problem.span, f"unknown layer `{problem.word}`", hint
    return problem.span, f"expected a layer after the label `{token}:`", "for example `conv 64 3x3 same`"


def _unknown_layer(problem: SyntaxProblem) -> Found | None:
    """A statement that starts with a name and goes on without a colon."""
    token = problem.previous()
    if token is None or token.type != "NAME" or problem.expected != {"COLON"}:
        return None
    words = [*vocabulary.LAYERS, *vocabulary.HEAD]
    if token in vocabulary.TRAIN:
        return problem.span_of(token), f"`{token}` belongs inside `train {{ }}`", None
    hint = vocabulary.choice(token, words, "statements are:")
    return problem.span_of(token), f"unknown layer `{token}`", hint


def _keyword_as_label(problem: SyntaxProblem) -> Found | None:
    token = problem.previous()
    if problem.word != ":" or token is None or token not in vocabulary.KEYWORDS:
        return None
    if token in vocabulary.TRAIN:
        return problem.span, "unexpected `:`", f"in `train` stands `{token}` and its value"
    if token in vocabulary.DEFAULT_OF:
        hint = f"a default line is `{vocabulary.DEFAULT_OF[token]}:`"
        return problem.span_of(token), f"`{token}` is a layer, not a label", hint
    return problem.span_of(token), f"`{token}` is a keyword and can't be a label", None


def _in_train(problem: SyntaxProblem) -> Found | None:
    if "OPTIMIZER" not in problem.expected or not _is_word(problem.word):
        return None
    hint = vocabulary.choice(problem.word, vocabulary.TRAIN, "it takes")
    if f"{problem.word}=" in vocabulary.OPTIONS["sgd"]:
        hint = f"a setting of the optimizer: `optimizer sgd {problem.word}=...`"
    return problem.span, f"unknown word `{problem.word}` in `train`", hint


def _odd_character(problem: SyntaxProblem) -> Found | None:
    odd = next((char for char in problem.word if not (char.isascii() and char.isprintable())), None)
    if odd is None or odd.isspace():
        return None
    shown = odd if odd.isprintable() else f"U+{ord(odd):04X}"
    hint = "sizes are written with the letter x: 3x3" if odd == "\N{MULTIPLICATION SIGN}" else None
    return problem.span, f"unexpected character `{shown}`", hint


def _misplaced_option(problem: SyntaxProblem) -> Found | None:
    """An option of another layer: the grammar has a place for it, but not in this statement."""
    options = vocabulary.options_of(problem.head)
    if not options or problem.word not in vocabulary.ANY_OPTION:
        return None
    return problem.span, f"`{problem.head}` has no option `{problem.word}`", "it takes " + ", ".join(options)


def _missing_width(problem: SyntaxProblem) -> Found | None:
    """`conv 3x3` and `fc`: the width comes first."""
    token = problem.previous()
    if token is None or token not in ("conv", "fc") or "INT" not in problem.expected:
        return None
    example = "conv 64 3x3" if token == "conv" else "fc 4096"
    return problem.span, f"`{token}` needs its width first", f"for example `{example}`"


_RULES = (
    *slips.FIRST,
    _after_label,
    _unknown_layer,
    _keyword_as_label,
    _in_train,
    _odd_character,
    _missing_width,
    _misplaced_option,
    *slips.LAST,
)


def describe(problem: SyntaxProblem, diagnostics: Diagnostics) -> None:
    """Note one syntax error with the most helpful of the messages above."""
    for rule in _RULES:
        found = rule(problem)
        if found:
            diagnostics.add(*found)
            return
    shown = f"`{_short(problem.word)}`" if problem.word.strip() else _end_name(problem)
    diagnostics.add(problem.span, f"unexpected {shown}", _expected_hint(problem))


def _end_name(problem: SyntaxProblem) -> str:
    return "end of the program" if problem.span.start >= len(problem.span.source.text) else "end of the line"


def _expected_hint(problem: SyntaxProblem) -> str | None:
    if _at_statement(problem):
        return "a statement starts with a label or one of: " + ", ".join(vocabulary.LAYERS)
    names = sorted(name for name in problem.expected if name.lstrip("_").isupper() and name not in _UNLISTED)
    if "REAL" in names:
        names = [name for name in names if name != "INT"]
    if len(names) > 1:
        # Where other things may stand, a name is an unknown option or an unknown integer.
        names = [name for name in names if name != "NAME"]
    shown = [_TERMINALS.get(name) or f"`{_literal(name)}`" for name in names]
    if 0 < len(shown) <= _MAX_LISTED:
        return "expected " + (" or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0])
    options = vocabulary.options_of(problem.head) if problem.word[:1].isalnum() else ()
    return f"`{problem.head}` takes {', '.join(options)}" if options else None


def _literal(name: str) -> str:
    return name.lower()


def _short(word: str) -> str:
    return word if len(word) <= 40 else word[:37] + "..."
