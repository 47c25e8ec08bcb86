"""Single changes of a Python source that a test should notice.

An operator, a number, a condition or a reduction becomes its neighbour, a call is left out. What no
test should pin is left alone: annotations, decorators, messages of errors, assertions, texts.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {
    "min": "max",
    "max": "min",
    "amin": "amax",
    "amax": "amin",
    "minimum": "maximum",
    "maximum": "minimum",
    "argmin": "argmax",
    "argmax": "argmin",
    "any": "all",
    "all": "any",
    "floor": "ceil",
    "ceil": "floor",
}
_METHODS = {"sum": "mean", "mean": "sum", "union": "intersection", "intersection": "union"}
_LEFT_OUT = ("abs", "sqrt", "square")


class Change(NamedTuple):
    """`after` in place of `before`, the bytes from `start` to `end` of a source."""

    start: int
    end: int
    line: int
    function: str
    before: str
    after: str

    def applied(self, source: bytes) -> bytes:
        """The source with this change."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def changes(source: str) -> list[Change]:
    """Every change of a source, from the top down."""
    offsets = [0]
    for line in source.encode().splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    listed = list[Change]()
    for parent, function in _walk(ast.parse(source), ""):
        pairs = [(parent, after) for after in _neighbours(parent)]
        pairs += [
            (condition, f"(not {ast.unparse(condition)})") for condition in _conditions(parent)
        ]
        for node, after in pairs:
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            start = offsets[node.lineno - 1] + node.col_offset
            end = offsets[node.end_lineno - 1] + node.end_col_offset
            before = source.encode()[start:end].decode()
            listed.append(Change(start, end, node.lineno, function, before, after))
    return listed


def _walk(node: ast.AST, function: str) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """The expressions and statements below a node that may be changed, each with its function."""
    for child in _changeable(node):
        named = isinstance(child, ast.FunctionDef | ast.ClassDef)
        inner = f"{function}.{child.name}".lstrip(".") if named else function
        if isinstance(child, ast.expr | ast.stmt):
            yield child, inner
        yield from _walk(child, inner)


def _changeable(node: ast.AST) -> list[ast.AST]:
    match node:
        case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.arg() | ast.keyword(arg="strict"):
            return []  # promises, and what is said of broken ones
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return []
        case ast.FunctionDef():
            return [node.args, *node.body]
        case ast.ClassDef():
            return list(node.body)
        case ast.AnnAssign():
            return [node.value] if node.value else []
        case ast.Call(func=ast.Name(id="isinstance")):
            return list(node.args[:1])
        case ast.Call(func=ast.Name(id="cast")):
            return list(node.args[1:])
        case ast.Assign(value=ast.BinOp(op=ast.BitOr())):
            return []  # most likely the name of a union of types
        case ast.Subscript(value=ast.Name(id="list" | "dict" | "set" | "Counter")):
            return []
        case _:
            return list(ast.iter_child_nodes(node))


def _neighbours(node: ast.expr | ast.stmt) -> Iterator[str]:
    """What may stand in a node's place."""
    match node:
        case ast.Constant(value=bool(truth)):
            yield str(not truth)
        case ast.Constant(value=int(number)):
            yield str(number + 1)
        case ast.Constant(value=float(number)):
            yield str(2 * number or 1.0)
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                changed = copy.deepcopy(node)
                changed.ops[index] = _OPERATORS[type(operator)]()  # type: ignore[call-overload]
                yield f"({ast.unparse(changed)})"
        case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str())):
            return  # a path
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign() if type(node.op) in _OPERATORS:
            changed = copy.deepcopy(node)
            changed.op = _OPERATORS[type(node.op)]()  # type: ignore[assignment]
            text = ast.unparse(changed)
            yield text if isinstance(node, ast.AugAssign) else f"({text})"
        case ast.UnaryOp():
            yield f"({ast.unparse(node.operand)})"
        case ast.Expr(value=ast.Call()):
            yield "pass"
        case ast.Break():
            yield "continue"
        case ast.Continue():
            yield "break"
        case ast.Call():
            yield from _other_calls(node)
        case _:
            pass


def _conditions(node: ast.AST) -> list[ast.expr]:
    """The conditions of a node that no changed operator would turn round."""
    match node:
        case ast.If() | ast.IfExp() | ast.While():
            conditions = [node.test]
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            conditions = [condition for each in node.generators for condition in each.ifs]
        case _:
            conditions = []
    plain = [each for each in conditions if isinstance(each, ast.Name | ast.Attribute | ast.Call)]
    return [each for each in plain if ast.unparse(each) != "TYPE_CHECKING"]


def _other_calls(node: ast.Call) -> Iterator[str]:
    changed = copy.deepcopy(node)
    match changed.func:
        case ast.Name(id=name) if name in _NAMES:
            changed.func.id = _NAMES[name]
        case ast.Attribute(attr=name) if name in _NAMES | _METHODS:
            changed.func.attr = (_NAMES | _METHODS)[name]
        case ast.Attribute(attr=name) if name in _LEFT_OUT and not node.args:
            yield f"({ast.unparse(changed.func.value)})"
            return
        case ast.Name(id="abs"):
            yield f"({ast.unparse(changed.args[0])})"
            return
        case _:
            return
    yield ast.unparse(changed)
