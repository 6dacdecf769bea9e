"""Text to syntax tree: lark's tables, our own loop over tokens, and recovery at the next statement."""

from __future__ import annotations

import functools
import re
from typing import Any

import lark
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from cnnc.errors import UsageError
from cnnc.frontend import ast, vocabulary
from cnnc.frontend.build_ast import BuildAst
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.reading import MAX_BYTES
from cnnc.frontend.syntax_errors import describe
from cnnc.frontend.syntax_problem import SyntaxProblem
from cnnc.resources import resource
from cnnc.source import Source, Span

# Bounds the time for one text; a ResNet of 1202 layers has 30,000 words when it is expanded.
MAX_TOKENS = 40_000
MAX_BRACES = 50

_WORD = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_\N{MULTIPLICATION SIGN}]|\.[0-9])*|[^\s]|$")
_REST = re.compile(r"[^;\n#{}|\[\]]+|#[^\n]*")
_BLANK = re.compile(r"[ \t\r\u00a0\ufeff]*")


@functools.cache
def grammar() -> lark.Lark:
    """The parser's tables, made once."""
    text = resource("grammars", "cnn.lark").read_text(encoding="utf-8")
    return lark.Lark(text, parser="lalr", propagate_positions=True, maybe_placeholders=False)


def parse_collecting(source: Source, diagnostics: Diagnostics) -> ast.Program:
    """The syntax tree; statements with syntax errors are ``Broken`` in it and noted in ``diagnostics``."""
    if len(source.text) > MAX_BYTES:
        raise UsageError(f"{source.name} is larger than {MAX_BYTES:,} characters, the limit for a program")
    tree = _Run(source, diagnostics).tree()
    return BuildAst(source, diagnostics).program(tree)


class _Run:
    """One parse: an LR stack fed token by token."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source = source
        self.diagnostics = diagnostics
        self.parser = grammar().parse_interactive(source.text)
        self.position = self.parser.lexer_thread.state.line_ctr
        self.count = 0

    def tree(self) -> lark.Tree[lark.Token]:
        while True:
            at = self.position.char_pos
            try:
                for token in self.parser.lexer_thread.lex(self.parser.parser_state):
                    at = token.start_pos or 0
                    self._feed(token)
                    at = self.position.char_pos
                at = len(self.source.text)
                result: Any = self.parser.feed_eof()
                return lark.Tree("start", result.children)
            except UnexpectedCharacters as error:
                self._recover(error.pos_in_stream)
            except UnexpectedToken as error:
                self._recover(at if error.token.type == "$END" else error.token.start_pos or at)

    def _feed(self, token: lark.Token) -> None:
        self.count += 1
        if self.count > MAX_TOKENS:
            span = self._span(token.start_pos or 0, token.end_pos or 0)
            self.diagnostics.add(span, f"the program is longer than {MAX_TOKENS:,} words")
            self.diagnostics.raise_any()
        if token == "{" and self._depth() >= MAX_BRACES:
            # Everything behind the parser recurses over what is nested.
            span = self._span(token.start_pos or 0, token.end_pos or 0)
            self.diagnostics.add(span, f"more than {MAX_BRACES} braces inside each other")
            self.diagnostics.raise_any()
        if self._glued(token):
            # `3x3` where only an integer may stand must not fall apart into `3` and `x3`.
            raise UnexpectedToken(token, set(self.parser.choices()))
        self.parser.feed_token(token)

    def _glued(self, token: lark.Token) -> bool:
        end = token.end_pos or 0
        after = self.source.text[end : end + 1]
        return token.type != "_SEP" and _is_word(token[-1:]) and _is_word(after)

    def _recover(self, at: int) -> None:
        """Note the error, put ERROR in the statement's place, and go on behind it (yacc's error token)."""
        text = self.source.text
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # matches the empty string too
        match = _WORD.match(text, at)
        end = match.end() if match else at
        state = self.parser.parser_state
        expected = frozenset(self.parser.accepts())
        describe(SyntaxProblem(self._span(at, end), expected, tuple(state.value_stack)), self.diagnostics)
        dropped = self._unwind(at_end=at >= len(text))
        start = min([at, *(_start(value) for value in dropped if _start(value) >= 0)])
        stop = self._skip(at, _open(dropped, "{", "}"), _open(dropped, "[", "]"))
        mark = lark.Token("ERROR", _first_word(text, start), start_pos=start, end_pos=max(stop, start))
        self.parser.feed_token(mark)
        self.position.char_pos = stop

    def _unwind(self, at_end: bool) -> list[object]:
        """Pop until a statement may stand here; what was popped.

        At the end of the text open braces go too, and a popped `}` takes all back to its `{` with it.
        """
        state = self.parser.parser_state
        dropped: list[object] = []
        closed = 0
        while not self._takes_error() or closed > 0 or (at_end and self._depth()):
            state.state_stack.pop()
            dropped.append(state.value_stack.pop())
            closed += _is_token(dropped[-1], "}") - _is_token(dropped[-1], "{")
        return dropped

    def _takes_error(self) -> bool:
        """Whether a statement may stand here; `choices()` alone also has what then leads nowhere."""
        return "ERROR" in self.parser.choices() and "ERROR" in self.parser.accepts()

    def _skip(self, at: int, braces: int, brackets: int) -> int:
        """The end of the broken statement: a new line, `;`, the next arm or the brace that closes around it.

        ``braces`` and ``brackets`` of the statement itself are open already.
        """
        text = self.source.text
        inside, in_arms = self._depth() > 0, self._in_arms()
        while at < len(text):
            match = _REST.match(text, at)
            if match:
                at = match.end()
                continue
            char = text[at]
            if braces == 0 and ((char == "}" and inside) or (brackets == 0 and char in (";\n|" if in_arms else ";\n"))):
                break
            braces = max(0, braces + (char == "{") - (char == "}"))
            brackets = max(0, brackets + (char == "[") - (char == "]"))
            at += 1
        return at

    def _depth(self) -> int:
        """How many braces are open."""
        return sum(_is_token(value, "{") for value in self.parser.parser_state.value_stack)

    def _in_arms(self) -> bool:
        """Whether the innermost open brace is that of a merge."""
        values = self.parser.parser_state.value_stack
        innermost = next((at for at in range(len(values) - 1, -1, -1) if _is_token(values[at], "{")), 0)
        return innermost > 0 and any(_is_token(values[innermost - 1], keyword) for keyword in vocabulary.MERGES)

    def _span(self, start: int, end: int) -> Span:
        return Span(self.source, start, end)


def _is_token(value: object, text: str) -> bool:
    return isinstance(value, lark.Token) and value == text


def _open(values: list[object], opening: str, closing: str) -> int:
    """How many of these brackets are open among tokens of the stack."""
    return max(0, sum(_is_token(value, opening) - _is_token(value, closing) for value in values))


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_") if char else False


def _first_word(text: str, start: int) -> str:
    match = _WORD.match(text, start)
    return match.group() if match else ""


def _start(value: object) -> int:
    """Where a value of the LR stack begins, -1 if it is empty."""
    if isinstance(value, lark.Token):
        return value.start_pos if value.start_pos is not None and value.type != "_SEP" else -1
    if isinstance(value, lark.Tree):
        return -1 if value.meta.empty else int(value.meta.start_pos)
    if isinstance(value, list):
        return next((start for start in map(_start, value) if start >= 0), -1)
    return -1
