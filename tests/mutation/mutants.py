"""Mutants of a function: its source with one small thing changed, made from the syntax tree.

Operators, comparisons, constants, branches, fields and arguments: each place in the function's body
is changed in each way that :func:`_changes` knows, one at a time. Mutants that compile to what is
there already, or to what another mutant compiles to, are left out.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple, get_origin


class Fate(NamedTuple):
    """Who refuses a mutant, if anybody does, and where."""

    by: str
    where: str = ""


#: The fate of a mutant that survives.
SURVIVES = Fate("nobody")


@dataclass(frozen=True)
class Mutant:
    """A function (``shares.chunk``) in whose source one thing reads ``new`` for ``old``."""

    function: str
    old: str
    new: str
    #: Which one of several places that read ``old``; 0 for the first.
    place: int
    target: FunctionType = field(compare=False, repr=False)
    code: CodeType = field(compare=False, repr=False)

    def __str__(self) -> str:
        nth = f" ({self.place + 1})" if self.place else ""
        return f"{self.function}: {self.old} -> {self.new}{nth}"

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the function is the mutant, for whoever calls it or reads it."""
        whole = self.target.__code__
        self.target.__code__ = self.code
        try:
            yield
        finally:
            self.target.__code__ = whole


def mutants(function: FunctionType, target: FunctionType | None = None) -> list[Mutant]:
    """All mutants of a function, in the order of its source.

    ``target``: another function with the same code, which is to be changed instead.
    """
    return [
        Mutant(name_of(function), old, new, place, target or function, code)
        for old, new, place, code in _mutated(function)
    ]


def name_of(function: FunctionType) -> str:
    """A function by its module and its name, as ``shares.chunk``; a method by its class, too."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"


def _mutated(function: FunctionType) -> Iterator[tuple[str, str, int, CodeType]]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    known = {_essence(code_of(tree, function))}
    places: dict[tuple[str, str], int] = {}
    scope = _Scope(function, definition)
    for holder, key, node in _nodes(definition):
        for change in _changes(node, scope):
            _put(holder, key, change.node)
            # What is new takes the line of what holds it: another line would be another code.
            ast.fix_missing_locations(holder)
            code = code_of(tree, function)
            _put(holder, key, node)
            if _essence(code) in known:
                continue
            known.add(_essence(code))
            texts = (change.old or _text(node)), (change.new or _text(change.node))
            place = places[texts] = places.get(texts, -1) + 1
            yield *texts, place, code


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


def code_of(source: ast.Module | str, function: FunctionType) -> CodeType:
    """The code that a function has with this source."""
    namespace: dict[str, Any] = {}
    future = compile("from __future__ import annotations", "", "exec").co_flags
    file = function.__code__.co_filename
    exec(compile(source, file, "exec", flags=future, dont_inherit=True), namespace)
    code: CodeType = namespace[function.__name__].__code__
    return code


def _essence(code: CodeType) -> tuple[Any, ...]:
    """What two codes have in common that do the same."""
    constants = tuple(
        _essence(const) if isinstance(const, CodeType) else (type(const), const)
        for const in code.co_consts
    )
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars


def _nodes(
    definition: ast.FunctionDef,
) -> Iterator[tuple[ast.AST, tuple[str, int | None], ast.AST]]:
    """Every node of the body, outermost first, with where it hangs; no docstring, no annotation."""
    body = definition.body
    has_docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    for index in range(int(has_docstring), len(body)):
        yield definition, ("body", index), body[index]
        yield from _below(body[index])


def _below(node: ast.AST) -> Iterator[tuple[ast.AST, tuple[str, int | None], ast.AST]]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "args", "decorator_list") and not isinstance(
            node, ast.Call
        ):
            continue
        if name == "body" and isinstance(node, ast.FunctionDef):
            yield from _nodes(node)
            continue
        parts: Iterable[tuple[int | None, Any]]
        parts = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, part in parts:
            if isinstance(part, ast.AST):
                yield node, (name, index), part
                yield from _below(part)


def _put(holder: ast.AST, key: tuple[str, int | None], node: ast.AST) -> None:
    name, index = key
    if index is None:
        setattr(holder, name, node)
    else:
        getattr(holder, name)[index] = node


# What is changed.


@dataclass(frozen=True)
class _Change:
    """What a node becomes; and how it is said, if not by the node's own text."""

    node: ast.AST
    old: str = ""
    new: str = ""


class _Scope:
    """What names stand for in a function."""

    def __init__(self, function: FunctionType, definition: ast.FunctionDef) -> None:
        self.globals: Mapping[str, Any] = function.__globals__
        self.arguments = {
            argument.arg: self._kind(argument.annotation)
            for node in ast.walk(definition)
            if isinstance(node, ast.FunctionDef)
            for argument in node.args.args
        }
        stores = [
            node.id
            for node in ast.walk(definition)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
        self.assigned_again = {name for name in stores if stores.count(name) > 1} | {
            name for name in stores if name in self.arguments
        }

    def _kind(self, annotation: ast.expr | None) -> Any:
        """A class; the class itself of one that is generic, as ``Walk`` is ``WalkOf[int, ...]``."""
        kind = self.globals.get(annotation.id) if isinstance(annotation, ast.Name) else None
        return get_origin(kind) or kind

    def constant(self, node: ast.AST) -> int | None:
        """The number that a named constant, or a literal, is."""
        value: Any = None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            value = None if node.id in self.arguments else self.globals.get(node.id)
        elif isinstance(node, ast.Constant):
            value = node.value
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = self.globals.get(node.value.id)
            value = getattr(module, node.attr, None) if isinstance(module, ModuleType) else None
        is_number = not isinstance(value, bool | float) and hasattr(value, "__index__")
        return int(value) if is_number else None

    def fields(self, node: ast.AST) -> tuple[str, ...]:
        """The fields of what an argument is, if that is a NamedTuple."""
        kind = self.arguments.get(node.id) if isinstance(node, ast.Name) else None
        fields: tuple[str, ...] = getattr(kind, "_fields", ())
        return fields

    def of_kind(self, name: str) -> str | None:
        """The argument that is of the kind with this name."""
        kind = self.globals.get(name)
        return next((a for a, of in self.arguments.items() if of is not None and of is kind), None)


_OPERATORS: Mapping[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.FloorDiv,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd, ast.BitXor),
    ast.BitXor: (ast.BitOr,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
_COMPARISONS: Mapping[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),  # codespell:ignore notin
    ast.NotIn: (ast.In,),  # codespell:ignore notin
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
#: In z3 and numba a truth is no number: what gives one is not taken for what it was asked of.
_SELECT = "select"


def _changes(node: ast.AST, scope: _Scope) -> Iterator[_Change]:
    if (number := scope.constant(node)) is not None and isinstance(node, ast.expr):
        yield from _constants(node, number, scope)
    kinds: Mapping[type[ast.AST], Callable[[Any, _Scope], Iterator[_Change]]] = {
        ast.BinOp: _operation,
        ast.UnaryOp: lambda node, _: iter([_Change(node.operand)]),
        ast.Compare: _comparison,
        ast.BoolOp: _conjunction,
        ast.IfExp: _conditional,
        ast.If: _if,
        ast.While: _while,
        ast.Call: _call,
        ast.Attribute: _attribute,
        ast.Return: _returned,
        ast.Expr: _statement,
        ast.Assign: _assignment,
        ast.AugAssign: _in_place,
        ast.Break: lambda node, _: iter([_Change(ast.Continue())]),
        ast.Continue: lambda node, _: iter([_Change(ast.Break())]),
    }
    if type(node) in kinds:
        yield from kinds[type(node)](node, scope)


def _constants(node: ast.expr, number: int, scope: _Scope) -> Iterator[_Change]:
    """One more and one less; of an offset in bytes, the words beside it."""
    name = getattr(node, "id", "")
    is_offset = number % 8 == 0 and (isinstance(node, ast.Attribute) or name.islower())
    by = 8 if is_offset and number else 1
    # No bare number, where the model has a name for it: such code is lifted to no other domain.
    named = by == 1 and "ONE" in scope.globals
    step = ast.Name("ONE", ast.Load()) if named else ast.Constant(by)
    yield _Change(ast.BinOp(node, ast.Add(), step), new=f"{_text(node)} + {by}")
    if number > 0:
        yield _Change(ast.BinOp(node, ast.Sub(), step), new=f"{_text(node)} - {by}")


def _operation(node: ast.BinOp, scope: _Scope) -> Iterator[_Change]:
    nothing = isinstance(node.op, ast.Add) and scope.constant(node.right) == 0
    if not nothing:
        for operator in _OPERATORS.get(type(node.op), ()):
            yield _Change(ast.BinOp(node.left, operator(), node.right))
        yield _Change(node.left)
    yield _Change(node.right)


def _comparison(node: ast.Compare, scope: _Scope) -> Iterator[_Change]:
    if len(node.ops) == 1:
        for operator in _COMPARISONS.get(type(node.ops[0]), ()):
            yield _Change(ast.Compare(node.left, [operator()], node.comparators))


def _conjunction(node: ast.BoolOp, scope: _Scope) -> Iterator[_Change]:
    other: ast.boolop = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield _Change(ast.BoolOp(other, node.values))
    for index in range(len(node.values)):
        rest = node.values[:index] + node.values[index + 1 :]
        yield _Change(rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))


def _conditional(node: ast.IfExp, scope: _Scope) -> Iterator[_Change]:
    yield _Change(node.body)
    yield _Change(node.orelse)


def _if(node: ast.If, scope: _Scope) -> Iterator[_Change]:
    """Always, and never."""
    for taken in (True, False):
        said = "always" if taken else "never"
        always = ast.If(ast.Constant(taken), node.body, node.orelse)
        yield _Change(always, f"if {_text(node.test)}", f"{said} if {_text(node.test)}")


def _while(node: ast.While, scope: _Scope) -> Iterator[_Change]:
    if not isinstance(node.test, ast.Constant):
        never = ast.While(ast.Constant(False), node.body, node.orelse)
        yield _Change(never, f"while {_text(node.test)}", "never")


def _call(node: ast.Call, scope: _Scope) -> Iterator[_Change]:
    arguments = node.args
    if isinstance(node.func, ast.Name) and node.func.id == _SELECT:
        condition, then, otherwise = arguments
        yield _Change(then)
        yield _Change(otherwise)
        yield _Change(ast.Call(node.func, [condition, otherwise, then], []))
    elif len(arguments) == 1 and not node.keywords:
        if not isinstance(arguments[0], ast.Starred):
            yield _Change(arguments[0])
    else:
        for index in range(len(arguments) - 1):
            one, other = arguments[index : index + 2]
            if not isinstance(one, ast.Starred) and not isinstance(other, ast.Starred):
                swapped = [*arguments[:index], other, one, *arguments[index + 2 :]]
                yield _Change(ast.Call(node.func, swapped, node.keywords))
    yield from _keywords(node, scope)


def _keywords(node: ast.Call, scope: _Scope) -> Iterator[_Change]:
    """A field stays as it was; two fields get each other's value."""
    replaces = isinstance(node.func, ast.Attribute) and node.func.attr == "_replace"
    made = scope.of_kind(node.func.id) if isinstance(node.func, ast.Name) else None
    for index, keyword in enumerate(node.keywords):
        before, after = node.keywords[:index], node.keywords[index + 1 :]
        said = _text(node.func), keyword.arg or ""
        if replaces:
            less = ast.Call(node.func, node.args, [*before, *after])
            yield _Change(less, f"{said[0]}({_text(keyword)})", f"{said[1]} stays")
        elif made and keyword.arg:
            old = ast.Attribute(ast.Name(made, ast.Load()), keyword.arg, ast.Load())
            stays = ast.Call(node.func, node.args, [*before, ast.keyword(keyword.arg, old), *after])
            yield _Change(stays, f"{said[0]}({_text(keyword)})", f"{said[1]} stays")
        if after:
            other = after[0]
            swapped = [
                *before,
                ast.keyword(keyword.arg, other.value),
                ast.keyword(other.arg, keyword.value),
                *after[1:],
            ]
            yield _Change(
                ast.Call(node.func, node.args, swapped),
                f"{said[0]}({_text(keyword)}, {_text(other)})",
                f"{swapped[index].arg}={_text(other.value)}, {other.arg}={_text(keyword.value)}",
            )


def _attribute(node: ast.Attribute, scope: _Scope) -> Iterator[_Change]:
    fields = scope.fields(node.value)
    if isinstance(node.ctx, ast.Load) and node.attr in fields and len(fields) > 1:
        other = fields[(fields.index(node.attr) + 1) % len(fields)]
        yield _Change(ast.Attribute(node.value, other, ast.Load()))


def _returned(node: ast.Return, scope: _Scope) -> Iterator[_Change]:
    """Two results of one kind, each in the place of the other."""
    if isinstance(node.value, ast.Tuple):
        parts = node.value.elts
        for index in range(len(parts) - 1):
            one, other = parts[index : index + 2]
            if not any(_is_state(part, scope) for part in (one, other)):
                swapped = [*parts[:index], other, one, *parts[index + 2 :]]
                yield _Change(ast.Return(ast.Tuple(swapped, ast.Load())))


def _is_state(node: ast.expr, scope: _Scope) -> bool:
    """Is it memory or a process? The two are not taken for each other."""
    if isinstance(node, ast.Call):
        return True
    return isinstance(node, ast.Name) and (bool(scope.fields(node)) or node.id == "after")


def _statement(node: ast.Expr, scope: _Scope) -> Iterator[_Change]:
    if isinstance(node.value, ast.Call):
        yield _Change(ast.Pass(), new="nothing")


def _assignment(node: ast.Assign, scope: _Scope) -> Iterator[_Change]:
    """A variable stays what it was, if it was anything."""
    (target, *more) = node.targets
    if not more and isinstance(target, ast.Name) and target.id in scope.assigned_again:
        yield _Change(ast.Pass(), new="nothing")


def _in_place(node: ast.AugAssign, scope: _Scope) -> Iterator[_Change]:
    yield _Change(ast.Pass(), new="nothing")
    for operator in _OPERATORS.get(type(node.op), ()):
        yield _Change(ast.AugAssign(node.target, operator(), node.value))
