"""What to say about a syntax error, from what the parser had read and what it expected."""

from __future__ import annotations

import re

from cnnc.frontend import habits, slips, vocabulary
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
    "VBAR": "`|`",
    "RANGE": "`..`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "PATH": "a name",
    "STRING": "a file's name in quotes",
    "TIMES": "`x3`",
    "BITS": "a row such as +-+-",
}
# An operator could follow almost anywhere; listing them helps nobody.
_UNLISTED = {"PLUS", "MINUS", "STAR", "SLASH", "CIRCUMFLEX", "ERROR", "$END"}


def _is_word(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_]\w*", text) is not None


def _at_statement(problem: SyntaxProblem) -> bool:
    return "MODEL" in problem.expected


def _after_label(problem: SyntaxProblem) -> Found | None:
    """`x: 3x3`: no layer behind the label."""
    label = problem.label()
    if label is None:
        return None
    if _is_word(problem.word):
        hint = vocabulary.choice(problem.word, vocabulary.LAYERS, "layers are:")
        return problem.span, f"unknown layer `{problem.word}`", hint
    hint = habits.NUMBER_NAMES if problem.word.isdigit() else "for example `conv 64 3x3 same`"
    return problem.span, f"expected a layer after the label `{label}:`", hint


def _unknown_layer(problem: SyntaxProblem) -> Found | None:
    """A statement that starts with a name that is neither a label nor called."""
    token = problem.previous()
    if token is None or token.type != "NAME" or not problem.expected <= {"COLON", "LPAR", "STAR"}:
        return None
    label = problem.label(2)
    if label is not None:
        likely = vocabulary.suggestion(label, [*vocabulary.DEFAULTS, "Order", "Nf", "classes"])
        if likely and likely.lower() == label.lower():
            return problem.span_of(label), f"unknown line `{label}:`", f"did you mean `{likely}:`?"
        if label.isupper() and label.isalpha() and len(label) > 1:
            hint = vocabulary.choice(label, vocabulary.DEFAULTS, "defaults exist for:")
            return problem.span_of(label), f"unknown default line `{label}:`", hint
    if token in vocabulary.TRAIN:
        return problem.span_of(token), f"`{token}` belongs inside `train {{ }}`", None
    likely = vocabulary.suggestion(token, [*vocabulary.LAYERS, *vocabulary.HEAD])
    hint = f"did you mean `{likely}`?" if likely else "a block is called with parentheses: `name(...)`"
    return problem.span_of(token), f"unknown layer `{token}`", hint


def _missing_bar(problem: SyntaxProblem) -> Found | None:
    """Arms without `|`, and an arm without anything."""
    if "VBAR" in problem.expected and problem.expected <= {"VBAR", "_SEP"}:
        return problem.span, f"unexpected {_shown(problem)}", "each arm of a merge starts with `|`"
    if problem.word in ("|", "}") and problem.previous() == "|":
        return problem.span, "an arm without layers", "`identity` is the arm that changes nothing"
    return None


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
    if not vocabulary.options_of(problem.head) or problem.word not in vocabulary.ANY_OPTION:
        return None
    shown = problem.head + ":" * (problem.head in vocabulary.DEFAULTS)
    hint = slips.unknown_option(problem.word, problem.head)
    return problem.span, f"`{shown}` has no option `{problem.word}`", hint


def _value(problem: SyntaxProblem) -> Found | None:
    """`bias=0`, and `lr=` without anything."""
    option = problem.previous(2)
    if problem.previous() != "=" or option is None:
        return None
    if option == "bias":
        return problem.span, "`bias` takes no number", "`bias` and `nobias` say whether there is one"
    if not problem.word.strip() and not problem.expected <= {"INT", "REAL", "MINUS", "LPAR", "DIMS"}:
        return problem.span, f"unexpected {_shown(problem)}", f"a value goes behind `{option}=`"
    return None


def _linear(problem: SyntaxProblem) -> Found | None:
    """`linear 10`, as other tools call it."""
    if problem.head not in ("", "linear") or problem.previous() != "linear" or not problem.word.isdigit():
        return None
    return problem.span, "`linear` is an activation and takes no width", f"did you mean `fc {problem.word}`?"


def _missing_width(problem: SyntaxProblem) -> Found | None:
    """`conv 3x3` and `fc`: the width comes first."""
    token = problem.previous()
    if token is None or token not in ("conv", "fc") or "INT" not in problem.expected:
        return None
    example = "conv 64 3x3" if token == "conv" else "fc 4096"
    return problem.span, f"`{token}` needs its width first", f"for example `{example}`"


_RULES = (
    *slips.FIRST,
    *habits.RULES,
    _unknown_layer,
    _after_label,
    _missing_bar,
    _keyword_as_label,
    _in_train,
    _odd_character,
    _missing_width,
    _value,
    _linear,
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
    diagnostics.add(problem.span, f"unexpected {_shown(problem)}", _expected_hint(problem))


def _shown(problem: SyntaxProblem) -> str:
    return f"`{_short(problem.word)}`" if problem.word.strip() else _end_name(problem)


def _end_name(problem: SyntaxProblem) -> str:
    return "end of the program" if problem.span.start >= len(problem.span.source.text) else "end of the line"


def _expected_hint(problem: SyntaxProblem) -> str | None:
    if _at_statement(problem):
        return "a statement starts with a label, a layer such as `conv`, or a block's name and `(`"
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
    return f"`{problem.head}` takes {vocabulary.listed(options)}" if options else None


def _literal(name: str) -> str:
    return name.lower()


def _short(word: str) -> str:
    return word if len(word) <= 40 else word[:37] + "..."
