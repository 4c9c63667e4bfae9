"""Reads autoscale formulas into trees."""

import operator
import re
from collections.abc import Callable
from typing import Any

TOKEN = re.compile(
    r"\s+|//[^\n]*|(?P<number>\d+(?:\.\d+)?)|(?P<name>\$?[A-Za-z_]\w*)|(?P<text>\"[^\"]*\")"
    r"|(?P<sign>&&|\|\||[<>=!]=|[-+*/<>=!?:;(),.])"
)
# Weakest first; each level's operators bind to the left.
LEVELS: list[dict[str, Callable[[Any, Any], Any]]] = [
    {"||": lambda a, b: float(bool(a) or bool(b))},
    {"&&": lambda a, b: float(bool(a) and bool(b))},
    {"==": operator.eq, "!=": operator.ne},
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": operator.truediv},
]
Tree = tuple[Any, ...]


class FormulaError(Exception):
    """The formula is wrong, or asks for what is not there."""


def parse(text: str) -> list[Tree]:
    """Read a formula; raises FormulaError."""
    reader = _Reader(_tokens(text))
    statements = []
    while reader.peek():
        statements.append(reader.statement())
    if not statements:
        raise FormulaError("the formula is empty")
    return statements


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while position < len(text):
        found = TOKEN.match(text, position)
        if not found:
            raise FormulaError(f"unexpected character {text[position]!r} at {position}")
        position = found.end()
        if found.lastgroup:
            tokens.append(found[0])
    return tokens


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def next(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1] if self.position <= len(self.tokens) else ""

    def expect(self, sign: str) -> None:
        if (found := self.next()) != sign:
            raise FormulaError(f"expected {sign!r}, found {found or 'the end'!r}")

    def statement(self) -> Tree:
        name = self.next()
        if not re.fullmatch(r"\$?[A-Za-z_]\w*", name):
            raise FormulaError(f"a statement cannot begin with {name!r}")
        if name == "stop":
            self.expect("(")
            self.expect(")")
            tree: Tree = ("stop",)
        else:
            self.expect("=")
            tree = ("set", name, self.expression())
        # The last statement needs no semicolon.
        if self.peek():
            self.expect(";")
        return tree

    def expression(self) -> Tree:
        condition = self.binary(0)
        if self.peek() != "?":
            return condition
        self.next()
        yes = self.expression()
        self.expect(":")
        return ("if", condition, yes, self.expression())

    def binary(self, level: int) -> Tree:
        if level == len(LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek() in LEVELS[level]:
            sign = self.next()
            left = ("binary", LEVELS[level][sign], left, self.binary(level + 1))
        return left

    def unary(self) -> Tree:
        if self.peek() in ("-", "!"):
            return ("unary", self.next(), self.unary())
        tree = self.primary()
        while self.peek() == ".":
            self.next()
            tree = ("method", tree, self.next(), self.arguments())
        return tree

    def primary(self) -> Tree:
        token = self.next()
        if token == "(":
            tree = self.expression()
            self.expect(")")
            return tree
        if token[:1].isdigit():
            return ("value", float(token))
        if token[:1] == '"':
            return ("value", token[1:-1])
        if not re.fullmatch(r"\$?[A-Za-z_]\w*", token):
            raise FormulaError(f"unexpected {token or 'end'!r}")
        return ("call", token, self.arguments()) if self.peek() == "(" else ("name", token)

    def arguments(self) -> list[Tree]:
        self.expect("(")
        found: list[Tree] = []
        while self.peek() != ")":
            found.append(self.expression())
            if self.peek() != ")":
                self.expect(",")
        self.next()
        return found
