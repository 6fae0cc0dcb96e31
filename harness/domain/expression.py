"""The one expression language: conditions and computed axes as text.

``"batch_size >= 32 and optimizer.name == 'sgd'"`` looks like Python and is parsed by Python, but only a
fixed set of forms is let through, so an expression can be hashed, shown, stored and run on any machine:
paths, literals, lists, comparisons, ``and or not``, ``+ - * / // % **``, ``x if c else y``, and a few functions.

Two rules are our own. A path that this setting does not have, but another one may, is ``None``: arithmetic with
``None`` is ``None``, ``< <= > >=`` with it are false, and nothing is ``in`` it. A path to a component stands for its
name where it is compared: ``optimizer == 'sgd'``.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.domain.component import did_you_mean
from harness.domain.errors import SuiteError

Lookup = Callable[[str], Any]  # a dotted path -> its plain value; raises KeyError, holding the message
_Evaluate = Callable[[Lookup], Any]

_LONGEST = 2000  # characters
_DEEPEST = 50  # levels of nesting
_LARGEST = 2**256  # of whole numbers on the way: no exponent can fill the memory

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "len": len,
    "log2": math.log2,
    "max": max,
    "min": min,
    "round": round,
    "sqrt": math.sqrt,
}
_WORDS = {"true": True, "false": False, "null": None}

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

# A text in quotes, or a dotted path; in a path, `.0` is written `[0]` for Python's parser.
_PATHS = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?<![\w.])[A-Za-z_]\w*(?:\.\w+|\[\d+\])+""")


@dataclass(frozen=True)
class Expression:
    """A checked expression. Two are equal when their canonical texts are.

    Raises:
        SuiteError: at birth, for what the language does not have, with its place in the text.
    """

    text: str
    names: tuple[str, ...] = field(init=False, compare=False)
    _run: _Evaluate = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise SuiteError(f'an expression is a text such as "batch_size >= 32", got {self.text!r}')
        builder = _Builder(self.text.strip())
        tree = builder.parse()
        object.__setattr__(self, "_run", builder.build(tree, depth=0))
        object.__setattr__(self, "names", tuple(sorted(builder.names)))
        object.__setattr__(self, "text", _dotted(ast.unparse(tree)))

    def __reduce__(self) -> tuple[type[Expression], tuple[str]]:
        return Expression, (self.text,)

    def __str__(self) -> str:
        return self.text

    def evaluate(self, lookup: Lookup) -> Any:
        """Return the value for the setting that `lookup` reads.

        Raises:
            SuiteError: for a path that `lookup` refuses, and for values that an operator does not take.
        """
        return self._run(lookup)

    def holds(self, lookup: Lookup) -> bool:
        """Return the value as a condition, which must be true, false or None (false)."""
        value = self.evaluate(lookup)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise SuiteError(f"{self.text!r} is no condition: its value is {value!r}; compare it with something")


def _dotted(text: str) -> str:
    """Return the text with `layers[0].units` in paths, but not in quotes, as `layers.0.units`."""
    return _PATHS.sub(lambda match: match[0] if match[0][0] in "'\"" else re.sub(r"\[(\d+)\]", r".\1", match[0]), text)


def unknown_path(path: str, right: Iterable[str], also: Iterable[str] = ()) -> str:
    """Return the message for a path that nothing has; the paths `also` serve as suggestions alone."""
    paths = list(right)
    return f"unknown path {path!r};{did_you_mean(path, [*paths, *also])} the paths are: {', '.join(paths)}"


class _Builder:
    """Turns the syntax tree of one text into functions, refusing all that is not listed here."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: set[str] = set()
        self._inserted: list[int] = []  # columns of the parsed text, each where one more character stands

    def parse(self) -> ast.expr:
        if not self.text:
            raise SuiteError("an expression is empty")
        if len(self.text) > _LONGEST:
            raise SuiteError(f"an expression is longer than {_LONGEST} characters: {self.text[:60]!r}…")
        text = self._indexed()
        try:
            return ast.parse(text, mode="eval").body
        except SyntaxError as error:
            column = (error.offset or 1) - 1
            equals = text.startswith("=", column) and not text.startswith("==", column)
            raise self.refuse("equality is written ==" if equals else error.msg, column) from None
        except (RecursionError, MemoryError, ValueError):
            raise self.refuse("cannot be read", 0) from None

    def _indexed(self) -> str:
        """Return the text with `layers.0.units` as `layers[0].units`; remembers where it grew."""
        parts, end, grown = [], 0, 0
        for match in _PATHS.finditer(self.text):
            parts.append(self.text[end : match.start()])
            end = match.end()
            if match[0][0] in "'\"":
                parts.append(match[0])
                continue
            for number in re.finditer(r"\.(\d+)(?!\w)", match[0]):
                grown += 1
                self._inserted.append(match.start() + number.end() + grown - 1)
            parts.append(re.sub(r"\.(\d+)(?!\w)", r"[\1]", match[0]))
        return "".join(parts) + self.text[end:]

    def refuse(self, why: str, column: int) -> SuiteError:
        """Return the error that shows the place: `column` counts from 0 in the parsed text."""
        column = max(0, column - sum(1 for place in self._inserted if place < column))
        shown = self.text.replace("\n", " ")
        shown = shown if len(shown) <= 200 else shown[:200] + "…"
        return SuiteError(f"expression {shown!r}, column {column + 1}: {why}")

    def build(self, node: ast.expr, depth: int) -> _Evaluate:
        """Return the function that evaluates `node`."""
        if depth > _DEEPEST:
            raise self.refuse(f"nested more than {_DEEPEST} deep", node.col_offset)
        below = depth + 1
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return lambda lookup: value
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self._path(node)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                parts = [self.build(item, below) for item in items]
                return lambda lookup: [part(lookup) for part in parts]
            case ast.BoolOp(op=op, values=values):
                return self._logic(op, [self.build(value, below) for value in values])
            case ast.UnaryOp(op=op, operand=operand):
                return self._unary(node, op, self.build(operand, below))
            case ast.Compare():
                return self._compare(node, below)
        return self._computed(node, below)

    def _computed(self, node: ast.expr, depth: int) -> _Evaluate:
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self._binary(node, type(op), self.build(left, depth), self.build(right, depth))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition, then, other = (self.build(part, depth) for part in (test, body, orelse))
                return lambda lookup: then(lookup) if condition(lookup) else other(lookup)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                return self._call(node, name, [self.build(arg, depth) for arg in args])
            case ast.Call(func=ast.Name()):
                raise self.refuse(f"the functions are {', '.join(_FUNCTIONS)}, without keywords", node.col_offset)
        raise self.refuse(f"{type(node).__name__} is not part of the expression language", node.col_offset)

    def _path(self, node: ast.expr) -> _Evaluate:
        parts: list[str] = []
        inner: ast.expr = node
        while not isinstance(inner, ast.Name):
            match inner:
                case ast.Attribute(value=value, attr=attribute):
                    parts.append(attribute)
                case ast.Subscript(value=value, slice=ast.Constant(value=int() as index)):
                    parts.append(str(index))
                case _:
                    raise self.refuse("expected a path such as optimizer.learning_rate", node.col_offset)
            inner = value
        path = ".".join([inner.id, *reversed(parts)])
        if path in _WORDS:
            constant = _WORDS[path]
            return lambda lookup: constant
        self.names.add(path)
        column = node.col_offset

        def read(lookup: Lookup) -> Any:
            try:
                value = lookup(path)
            except KeyError as error:
                raise self.refuse(str(error.args[0]), column) from None
            return value["name"] if isinstance(value, dict) and "name" in value else value

        return read

    def _logic(self, op: ast.boolop, parts: list[_Evaluate]) -> _Evaluate:
        if isinstance(op, ast.And):
            return lambda lookup: all(part(lookup) for part in parts)
        return lambda lookup: any(part(lookup) for part in parts)

    def _unary(self, node: ast.expr, op: ast.unaryop, operand: _Evaluate) -> _Evaluate:
        if isinstance(op, ast.Not):
            return lambda lookup: not operand(lookup)
        if isinstance(op, ast.Invert):
            raise self.refuse("~ is not part of the expression language; use not", node.col_offset)
        negative = isinstance(op, ast.USub)

        def run(lookup: Lookup) -> Any:
            value = operand(lookup)
            if value is None:
                return None
            self._number(node, value)
            return -value if negative else value

        return run

    def _binary(self, node: ast.BinOp, op: type[ast.operator], left: _Evaluate, right: _Evaluate) -> _Evaluate:
        apply = _ARITHMETIC[op]

        def run(lookup: Lookup) -> Any:
            first, second = left(lookup), right(lookup)
            if first is None or second is None:
                return None
            self._number(node.left, first)
            self._number(node.right, second)
            if op is ast.Pow and abs(second) > 64:
                raise self.refuse(f"the exponent {second} is beyond 64", node.right.col_offset)
            return self._checked(node, lambda: apply(first, second))

        return run

    def _compare(self, node: ast.Compare, depth: int) -> _Evaluate:
        operands = [node.left, *node.comparators]
        parts = [self.build(operand, depth) for operand in operands]
        for op in node.ops:
            if isinstance(op, ast.Is | ast.IsNot):
                raise self.refuse("`is` is not part of the expression language; use == or !=", node.col_offset)

        def run(lookup: Lookup) -> bool:
            left = parts[0](lookup)
            for index, op in enumerate(node.ops):
                right = parts[index + 1](lookup)
                if not self._holds(op, left, right, operands[index + 1]):
                    return False
                left = right
            return True

        return run

    def _holds(self, op: ast.cmpop, left: Any, right: Any, place: ast.expr) -> bool:
        if isinstance(op, ast.Eq | ast.NotEq):
            return (left == right) is isinstance(op, ast.Eq)
        if isinstance(op, ast.In | ast.NotIn):
            if right is None:  # what a setting does not have holds nothing
                return isinstance(op, ast.NotIn)
            if not isinstance(right, list) and not (isinstance(right, str) and isinstance(left, str)):
                raise self.refuse(f"`in` needs a list, got {right!r}", place.col_offset)
            return (left in right) is isinstance(op, ast.In)
        if left is None or right is None:
            return False
        try:
            return _ORDER[type(op)](left, right)
        except TypeError:
            raise self.refuse(f"cannot compare {left!r} with {right!r}", place.col_offset) from None

    def _call(self, node: ast.Call, name: str, args: list[_Evaluate]) -> _Evaluate:
        function = _FUNCTIONS[name]
        if not args or (len(args) > 1 and name not in ("min", "max", "round")) or (name == "round" and len(args) > 2):
            raise self.refuse(f"{name}() got {len(args)} arguments", node.col_offset)

        def run(lookup: Lookup) -> Any:
            values = [arg(lookup) for arg in args]
            if any(value is None for value in values):
                return None
            if name == "round" and len(values) == 2 and not (isinstance(values[1], int) and abs(values[1]) <= 15):
                raise self.refuse(f"round() takes digits from -15 to 15, got {values[1]!r}", node.col_offset)
            return self._checked(node, lambda: function(*values))

        return run

    def _checked(self, node: ast.expr, compute: Callable[[], Any]) -> Any:
        """Return what `compute` gives, if it is a number of a reasonable size."""
        try:
            value = compute()
        except (TypeError, ValueError, ArithmeticError) as error:
            raise self.refuse(str(error), node.col_offset) from None
        if isinstance(value, complex) or (isinstance(value, int) and abs(value) > _LARGEST):
            raise self.refuse(f"{ast.unparse(node)} is not a number of a reasonable size", node.col_offset)
        return value

    def _number(self, node: ast.expr, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(f"expected a number, got {value!r}", node.col_offset)
