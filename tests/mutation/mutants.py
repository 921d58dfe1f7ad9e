"""Every small change of a module's source that a test should notice.

A change is a piece of text in place of the one an expression or a statement has, so that lines keep their numbers.
Left alone are annotations, docstrings, decorators, log lines and the words of errors. mutmut, the usual tool, leaves
alone whatever is decorated as well: transactions, dataclasses, class methods.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
CALLED = {"any": "all", "all": "any", "min": "max", "max": "min"}
ATTRIBUTES = {
    "any": "all",
    "all": "any",
    "floor": "ceil",
    "ceil": "floor",
    "trunc": "round",
    "sum": "mean",
    "amax": "amin",
    "double": "float",
    "float64": "float32",
    "int64": "int32",
}
"""Other names for what is computed."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`source` is the module with `line` (its number) changed from `was` to `now`, both without indentation."""

    line: int
    was: str
    now: str
    source: str

    @property
    def key(self) -> str:
        """What tells it from the module's other mutants, also when lines move."""
        return f"{self.was} → {self.now}"


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its lines, each once."""
    found: dict[str, Mutant] = {}
    text = source.encode()
    starts = [0]
    for row in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    for node, new in _changes(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        changed = (text[:start] + new.encode() + text[end:]).decode()
        first = starts[node.lineno - 1]
        now = (text[first:start] + new.encode() + text[end : starts[node.end_lineno or 0]]).decode()
        was = text[first : starts[node.end_lineno or 0]].decode()
        found.setdefault(changed, Mutant(node.lineno, _flat(was), _flat(now), changed))
    return _numbered(sorted(found.values(), key=lambda each: each.line))


def _numbered(found: list[Mutant]) -> list[Mutant]:
    """Tells apart what reads alike, from the second on."""
    seen: Counter[tuple[str, str]] = Counter()
    for place, each in enumerate(found):
        seen[each.was, each.now] += 1
        if (count := seen[each.was, each.now]) > 1:
            found[place] = replace(each, now=f"{each.now} (place {count})")
    return found


def _flat(text: str) -> str:
    return " ".join(text.split())


def _changes(tree: ast.Module) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Nodes with the text that is to stand in their place."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if _spared(node):
            continue
        if isinstance(node, ast.expr):
            yield from ((node, f"({ast.unparse(new)})") for new in _replaced(node))
        if isinstance(node, ast.stmt):
            yield from ((node, new) for new in _restated(node))
        for test in _tests(node):
            yield test, f"(not ({ast.unparse(test)}))"
        todo.extend(_children(node))


def _spared(node: ast.AST) -> bool:
    said = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    logged = isinstance(node, ast.Expr) and ast.unparse(node).startswith("logger.")
    return said or logged or isinstance(node, ast.Import | ast.ImportFrom)


def _children(node: ast.AST) -> list[ast.AST]:
    match node:
        case ast.FunctionDef():
            return [*node.body, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        case ast.ClassDef():
            return list(node.body)
        case ast.AnnAssign():
            return [node.value] if node.value else []
        case ast.Raise() | ast.JoinedStr():  # words; and what stands in an f-string has no place of its own
            return []
        case ast.BinOp(
            ast.Constant(), ast.Pow(), power
        ):  # the base of a power of two: its exponent says enough
            return [power]
        case _:
            return list(ast.iter_child_nodes(node))


def _tests(node: ast.AST) -> list[ast.expr]:
    """Conditions that nothing else turns round."""
    match node:
        case ast.If(test) | ast.While(test):
            tests = [test]
        case ast.comprehension():
            tests = node.ifs
        case _:
            tests = []
    return [test for test in tests if not isinstance(test, ast.Compare | ast.UnaryOp)]


def _replaced(node: ast.expr) -> Iterator[ast.expr]:
    """What may stand in place of an expression."""
    match node:
        case ast.Compare():
            yield from _compared(node)
        case ast.BinOp(left, op, right) if type(op) in COMPUTED:
            yield ast.BinOp(left, COMPUTED[type(op)](), right)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.IfExp(_, body, orelse):
            yield from (body, orelse)
        case ast.Call():
            yield from _called(node)
        case _:
            yield from _renamed(node)


def _compared(node: ast.Compare) -> Iterator[ast.expr]:
    for place, op in enumerate(node.ops):
        for other in COMPARED[type(op)]:
            ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
            yield ast.Compare(node.left, ops, node.comparators)


def _renamed(node: ast.expr) -> Iterator[ast.expr]:
    """Another value, another function, the other part."""
    match node:
        case ast.Constant(value):
            yield from (ast.Constant(other) for other in _constants(value))
        case ast.JoinedStr():
            yield ast.Constant("")
        case ast.Attribute(value, name) if name in ATTRIBUTES:
            yield ast.Attribute(value, ATTRIBUTES[name])
        case ast.Subscript(value, ast.Slice(lower, upper, None)) if (lower is None) != (upper is None):
            yield ast.Subscript(value, ast.Slice(upper, lower))


def _constants(value: object) -> list[object]:
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1]
        case float():
            return [value * 2 or 1.0]
        case str():
            return ["" if value else "x"]
        case bytes():
            return [b"" if value else b"x"]
        case _:
            return []


def _called(node: ast.Call) -> Iterator[ast.expr]:
    if isinstance(node.func, ast.Name) and node.func.id in CALLED:
        yield ast.Call(ast.Name(CALLED[node.func.id]), node.args, node.keywords)
    first = node.args[:2]
    if len(first) == 2 and not any(isinstance(each, ast.Starred) for each in first):
        yield ast.Call(node.func, [first[1], first[0], *node.args[2:]], node.keywords)
    for place in range(len(node.keywords)):
        yield ast.Call(node.func, node.args, node.keywords[:place] + node.keywords[place + 1 :])


def _restated(node: ast.stmt) -> Iterator[str]:
    """What may stand in place of a statement."""
    match node:
        case ast.Expr(ast.Yield()):
            pass
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Delete():
            yield "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "pass"
        case ast.Return(value) if value is not None:
            yield "return None"
