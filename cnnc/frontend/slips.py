"""Slips of the pen that a few characters show: ``224X224``, ``conv-1:``, ``->``, ``fc 2.5``, a lost brace."""

from __future__ import annotations

import re

from cnnc.frontend import vocabulary
from cnnc.frontend.syntax_problem import Found, SyntaxProblem

_LABEL = re.compile(r"(?P<label>[^\s:#;{}()=,]+)[ \t]*:")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+\.?[eE][+-]?[0-9]+|[0-9]+\.")
_GLUED = re.compile(r"(?P<name>[A-Za-z_]+?)_?(?P<value>[0-9]+)")
_SIZE = re.compile(r"[0-9]+(?:x[0-9]+)+")


def _lost_brace(problem: SyntaxProblem) -> Found | None:
    brace = problem.open_brace()
    if problem.word == "}" and brace is None:
        return problem.span, "`}` without a `{`", None
    at_end = problem.span.start >= len(problem.span.source.text)
    if at_end and brace is not None and "}" not in problem.statement.text:
        return problem.span_of(brace), "`{` is never closed", "`}` ends the block"
    return None


def _odd_label(problem: SyntaxProblem) -> Found | None:
    """`conv-1:` and `Schicht_ä:`: the words fell apart before the colon was seen."""
    statement = problem.statement
    match = _LABEL.match(statement.text)
    if match is None or _NAME.fullmatch(match["label"]) or statement.start + match.end() < problem.span.start:
        return None
    hint = "a label has the letters a to z, A to Z, digits and `_`, and starts with no digit"
    return problem.until(statement.start, statement.start + match.end("label")), f"`{match['label']}` is no label", hint


def _input_shape(problem: SyntaxProblem) -> Found | None:
    """`input 224 x 224 x 3`, with any sign between the extents."""
    if problem.head != "input":
        return None
    statement = problem.statement
    extents = re.findall(r"[0-9]+", statement.text)
    shape = "x".join(extents) if len(extents) in (1, 3) else "224x224x3"
    what = problem.word.strip()
    message = f"unexpected `{what}` in the input's shape" if what else "the input's shape is missing"
    return problem.span, message, f"write `input {shape}`" if len(extents) == 3 else "for example `input 224x224x3`"


def _not_an_integer(problem: SyntaxProblem) -> Found | None:
    """`fc 2.5` and `fc 1e3`; the digits before the point were read as an integer."""
    before = problem.previous()
    start = problem.span.start
    if before is not None and before.type == "INT" and before.end_pos == start:
        start = before.start_pos or 0
    elif "INT" not in problem.expected:
        return None
    match = _NUMBER.match(problem.span.source.text, start)
    if match is None or "REAL" in problem.expected:
        return None
    return problem.until(start, match.end()), f"`{match.group()}` is not an integer", None


def _wrong_arrow(problem: SyntaxProblem) -> Found | None:
    text = problem.span.source.text[problem.span.start : problem.span.start + 2]
    shown = next((arrow for arrow in ("->", "\N{RIGHTWARDS ARROW}", "=") if text.startswith(arrow)), None)
    if shown is None or "ARROW" not in problem.expected:
        return None
    before = problem.previous()
    if shown == "=" and before is not None and before in vocabulary.ANY_OPTION:
        return problem.span, f"`{before}` takes no value", None
    span = problem.until(problem.span.start, problem.span.start + len(shown))
    return span, f"unexpected `{shown}`", "an output shape stands after `=>`"


def _comma(problem: SyntaxProblem) -> Found | None:
    if problem.word != "," or problem.head not in (*vocabulary.LAYERS, "Nf", "Order") or "RPAR" in problem.expected:
        return None
    between = "words" if problem.head == "Order" else "widths" if problem.head == "Nf" else "options"
    hint = f"spaces stand between {between}; commas only in default lines and parentheses"
    return problem.span, "unexpected `,`", hint


def _size(problem: SyntaxProblem) -> Found | None:
    """`f=3x3`."""
    before = problem.previous()
    if before == "=" and _SIZE.fullmatch(problem.word):
        option = problem.previous(2)
        example = f"`{option}=3` or `{option}=(1,3)`" if option in ("f", "s", "pad", "dilation") else "a number"
        return problem.span, f"unexpected `{problem.word}`", f"write {example}; a size such as 3x3 stands alone"
    return None


def _value_without_equals(problem: SyntaxProblem) -> Found | None:
    """`stride 2` behind a layer: an unknown option with its value apart."""
    before = problem.previous()
    options = vocabulary.options_of(problem.head)
    if before is None or before.type != "NAME" or not options or "EQUAL" not in problem.expected:
        return None
    return problem.span_of(before), f"`{problem.head}` has no option `{before}`", unknown_option(before, problem.head)


def unknown_option(word: str, head: str) -> str:
    """A hint for a word that is no option of the layer or default line ``head``."""
    options = vocabulary.options_of(head)
    if word in vocabulary.LAYERS:
        return f"write `{word}` as a statement of its own, on a new line or after `;`"
    if f"{word}=" in options:
        return f"write `{word}=` and its value"
    if (head, word) == ("avgpool", "global"):
        return "did you mean `globalavgpool`?"
    glued = _GLUED.fullmatch(word)
    option = vocabulary.same_option(glued["name"], options) if glued else None
    if glued and option:
        return f"write `{option}={glued['value']}`"
    if head in ("dropout", "DROPOUT"):
        return "for example `dropout 0.5`"
    return vocabulary.choice(word, options, "it takes") if options else "it takes no options"


def _two_statements(problem: SyntaxProblem) -> Found | None:
    """`} fc 4`, and `model my net`."""
    if "_SEP" not in problem.expected or not _NAME.match(problem.word):
        return None
    if problem.head == "model":
        return problem.span, f"unexpected `{problem.word}`", "a model's name is one word"
    if problem.word in (*vocabulary.LAYERS, *vocabulary.DEFAULTS, *vocabulary.HEAD, *vocabulary.TRAIN):
        hint = "statements stand on lines of their own, or have `;` between them"
        return problem.span, f"unexpected `{problem.word}`", hint
    return None


FIRST = (_lost_brace, _odd_label, _input_shape, _not_an_integer, _wrong_arrow, _comma, _value_without_equals, _size)
LAST = (_two_statements,)
