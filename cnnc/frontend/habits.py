"""Habits from other languages: ``k = 12``, ``5x sep(4)``, ``bn()``, ``dwconv 8 3x3``, ``crop a``."""

from __future__ import annotations

import re

from cnnc.frontend import vocabulary
from cnnc.frontend.syntax_problem import Found, SyntaxProblem

_NUMBER_NAME = re.compile(r"(?:[A-Za-z_]+[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*:?=(?!>)")
_TIMES_BEFORE = re.compile(r"([0-9]+)[ \t]*[x*\N{MULTIPLICATION SIGN}][ \t]*([A-Za-z_][^\n;{}]*)")
_TIMES_BEHIND = re.compile(r"[x*\N{MULTIPLICATION SIGN}][ \t]*([0-9]+)")
_PARENTHESES = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_.]*[ \t]*:[ \t]*)?([a-z0-9_]+)[ \t]*\(")
_REFERENCE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*(?=[ \t]*(?:$|[;#|}\n]|offset\b))")
_SHORT_SIZE = re.compile(r"([0-9]+)(?:[ \t]*/[ \t]*([0-9]+))?(?![\w.\N{MULTIPLICATION SIGN}])")
_DWCONV = re.compile(r"[0-9]+[ \t]+[0-9]+x[0-9]+")
# What takes a size, once its width is read.
_SIZED = ("conv", "deconv", "sepconv", "dwconv", "maxpool", "avgpool", "l2pool", "subsample", "lcn")
_WITH_NUMBER = ("conv", "deconv", "sepconv", "fc", "maxout", "shuffle", "rbf")
_SIZED_LINES = ("CONV", "DECONV", "SEPCONV", "DWCONV", "POOL")

NUMBER_NAMES = "only block parameters and counters name numbers; write the number, or put the lines into a block"


def _number_name(problem: SyntaxProblem) -> Found | None:
    """`k = 12`, `let k = 12` and `param k=12`."""
    token = problem.previous()
    if token is None or token.type != "NAME" or not problem.expected <= {"COLON", "LPAR", "STAR"}:
        return None
    statement = problem.statement
    match = _NUMBER_NAME.match(statement.text)
    if match is None or statement.start != token.start_pos:
        return None
    span = problem.until(statement.start + match.start(1), statement.start + match.end(1))
    return span, f"`{match[1]}` can't be given a value here", NUMBER_NAMES


def _times(problem: SyntaxProblem) -> Found | None:
    """`5x sep(4)`, `sep(4) * 5` and `sep(4) x 5`."""
    text, start = problem.span.source.text, problem.span.start
    behind = _TIMES_BEHIND.match(text, start)
    if behind and "TIMES" in problem.expected:
        span = problem.until(start, behind.end())
        return span, f"unexpected `{behind.group()}`", f"a repetition is written `x{behind[1]}`"
    before = _TIMES_BEFORE.match(text, start)
    # Behind `2 *` in an arm the number is a second factor.
    if before and "REPEAT" in problem.expected and problem.previous() != "*":
        what = before[2].partition("#")[0].partition("=>")[0].strip()
        hint = f"how often stands behind the statement: `{what} x{before[1]}`"
        return problem.span, f"unexpected `{problem.word}`", hint
    return None


def _parentheses(problem: SyntaxProblem) -> Found | None:
    """`bn()`, `relu()`, `dropout(0.5)` and `conv(64, 3x3)`."""
    token, empty = problem.previous(), False
    if problem.word == ")" and token == "(":
        token, empty = problem.previous(2), True
    elif problem.word == "(":
        empty = problem.span.source.text[problem.span.end :].lstrip(" \t").startswith(")")
    elif problem.word == "," and problem.head in _WITH_NUMBER:
        match = _PARENTHESES.match(problem.statement.text)
        token = token if match is None or match[1] != problem.head else None
        if token is None and "RPAR" in problem.expected:
            return _no_call(problem, problem.head, False)
        return None
    else:
        return None
    if token is None or token not in vocabulary.LAYERS or token in (*vocabulary.MERGES, "repeat"):
        return None
    return _no_call(problem, str(token), empty)


def _no_call(problem: SyntaxProblem, word: str, empty: bool) -> Found:
    alone = empty and word not in _WITH_NUMBER
    hint = f"no parentheses: write `{word}`" if alone else "its numbers and options follow without parentheses"
    return problem.span, f"`{word}` is a layer, not a block", hint


def _filters_of_dwconv(problem: SyntaxProblem) -> Found | None:
    """`dwconv 8 3x3`."""
    if problem.previous() != "dwconv" or not _DWCONV.match(problem.span.source.text, problem.span.start):
        return None
    hint = "`dwconv` has as many filters as its input has channels; `m=2` gives each channel two"
    return problem.span, f"unexpected `{problem.word}`", hint


def _short_size(problem: SyntaxProblem) -> Found | None:
    """`conv 64 3` and `maxpool 3/2`."""
    match = _SHORT_SIZE.match(problem.span.source.text, problem.span.start)
    if match is None or "DIMS" not in problem.expected or problem.head not in (*_SIZED, *_SIZED_LINES):
        return None
    size, stride = match[1], match[2]
    square, named = f"{size}x{size}", f"f={size}"
    if stride:
        square, named = f"{square}/{stride}", f"{named} s={stride}"
    return problem.span, f"unexpected `{problem.word}`", f"a size is written `{square}` or `{named}`"


def _crop(problem: SyntaxProblem) -> Found | None:
    """`crop a` and `crop 24`."""
    if problem.previous() != "crop":
        return None
    match = _REFERENCE.match(problem.span.source.text, problem.span.start)
    hint = f"write `crop like {match.group()}`" if match else "write `crop 24x24`, or `crop like` and a layer's name"
    return problem.span, f"unexpected `{problem.word}`" if problem.word.strip() else "`crop` needs a size", hint


RULES = (_number_name, _times, _parentheses, _filters_of_dwconv, _short_size, _crop)
