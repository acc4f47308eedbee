"""What a template asks of the columns that it reads: which are lists, mappings, numbers, texts, and which values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import nodes

from autoprompt.libraries.cutting import CHOICES
from autoprompt.libraries.shape import Shape

__all__ = ["shapes_of"]

_CHOICES = 2  # of a row, at least
_LONG = 64  # elements of a list that is read at a place which a row says
_TEXTS = {
    "capitalize", "casefold", "endswith", "find", "format", "isdigit", "join", "lower", "lstrip", "partition",
    "replace", "rstrip", "split", "splitlines", "startswith", "strip", "title", "trim", "upper", "wordcount",
}  # fmt: skip
_LISTS = {
    "choice", "first", "join", "last", "list", "map", "max", "min", "most_frequent", "random",
    "reject", "reverse", "select", "selectattr", "sort", "unique",
}  # fmt: skip
_SAME = {"default", "list", "most_frequent", "reject", "reverse", "select", "selectattr", "sort", "unique"}
_ONE = {"choice", "first", "last", "max", "min", "random"}


Found = Shape | nodes.Const | nodes.List | nodes.Dict | nodes.Tuple | None


def shapes_of(tree: nodes.Template) -> dict[str, Shape]:
    """The columns of a template by name."""
    reader = _Reader()
    reader.block(tree.body)
    return reader.columns


class _Reader:
    """Walks through a template once, in its order."""

    def __init__(self) -> None:
        self.columns: dict[str, Shape] = {}
        self.own: dict[str, Found] = {"loop": None, "range": None, "zip": None, "namespace": None}
        self.choices = Shape(one=Shape(text=True), least=_CHOICES)  # where a row says which they are

    def block(self, body: Sequence[nodes.Node]) -> None:
        for node in body:
            if isinstance(node, nodes.For):
                self.loop(node)
            elif isinstance(node, nodes.If):
                self.read(node.test)
                for inner in (node.body, node.elif_, node.else_):
                    self.block(inner)
            elif isinstance(node, nodes.Assign):
                self.assign(node.target, self.read(node.node))
            elif isinstance(node, nodes.AssignBlock):
                self.block(node.body)
                self.assign(node.target, None)
            else:
                for child in node.iter_child_nodes():
                    self.read(child)

    def loop(self, node: nodes.For) -> None:
        if isinstance(node.iter, nodes.Call) and isinstance(node.target, nodes.Tuple):
            sources = [self.read(one) for one in node.iter.args]
            for target, source in zip(node.target.items, sources, strict=False):
                self.assign(target, source.element() if isinstance(source, Shape) else None)
        else:
            found = self.read(node.iter)
            counted = isinstance(found, Shape) and found.counts
            self.assign(node.target, found if counted else found.element() if isinstance(found, Shape) else None)
        if node.test is not None:
            self.read(node.test)
        self.block(node.body)
        self.block(node.else_)

    def assign(self, target: nodes.Node, value: Found) -> None:
        if isinstance(target, nodes.Name):
            # a name that is set twice is told apart by nothing: the first thing that a row gives it counts
            if not isinstance(self.own.get(target.name), Shape):
                self.own[target.name] = self.choices if value is None and target.name == CHOICES else value
        elif isinstance(target, nodes.Tuple):
            for item in target.items:
                self.assign(item, None)

    # -- expressions -------------------------------------------------------------------------------

    def read(self, node: nodes.Node) -> Found:
        """What is known of an expression's value."""
        known = getattr(self, f"read_{type(node).__name__.lower()}", None)
        if known is not None:
            found: Found = known(node)
            return found
        for child in node.iter_child_nodes():
            self.read(child)
        return None

    def read_const(self, node: nodes.Const) -> Found:
        return node

    def read_neg(self, node: nodes.Neg) -> Found:
        value = _constant(node)
        return self.read(node.node) if value is None else nodes.Const(value)

    def read_name(self, node: nodes.Name) -> Found:
        return self.own[node.name] if node.name in self.own else self.columns.setdefault(node.name, Shape())

    def read_list(self, node: nodes.List) -> Found:
        for item in node.items:
            self.read(item)
        return node

    read_tuple = read_list

    def read_dict(self, node: nodes.Dict) -> Found:
        for pair in node.items:
            self.read(pair.value)
        return node

    def read_condexpr(self, node: nodes.CondExpr) -> Found:
        found = [self.read(one) for one in (node.test, node.expr1, node.expr2) if one is not None]
        return found[1]

    def read_getattr(self, node: nodes.Getattr) -> Found:
        base = self.read(node.node)
        return base.key(node.attr) if isinstance(base, Shape) else None

    def read_getitem(self, node: nodes.Getitem) -> Found:
        base, at = self.read(node.node), node.arg
        if isinstance(at, nodes.Slice):
            for bound, values in ((at.start, [0, 1, 2]), (at.stop, [4, 6, 9])):
                found = None if bound is None else self.read(bound)
                if isinstance(found, Shape):
                    found.number = True
                    found.values += values
            return base
        place = _constant(at)
        if isinstance(base, nodes.Dict):
            return self._looked_up(base, self.read(at))
        if not isinstance(base, Shape):
            index = self.read(at)
            if isinstance(index, Shape) and isinstance(base, nodes.List | nodes.Tuple):
                index.below.append(len(base.items))
            return None
        if isinstance(place, str):
            return base.key(place)
        if isinstance(place, int):
            base.least = max(base.least, place + 1 if place >= 0 else -place)
            return base.element()
        index = self.read(at)
        counted = isinstance(index, Shape) and index.counts
        if isinstance(index, Shape):
            index.number = True
            index.below += [base.least] if base is self.choices else [] if counted else [_LONG]
        base.least = base.least if base is self.choices or counted else max(base.least, _LONG)
        return base.element()

    def _looked_up(self, base: nodes.Dict, key: Found) -> Found:
        names = [_constant(pair.key) for pair in base.items]
        if isinstance(key, Shape):
            key.values += names
        wanted = _constant(key) if isinstance(key, nodes.Const) else None
        held = [pair.value for pair in base.items if wanted is not None and _constant(pair.key) == wanted]
        return self.read(held[0]) if held else None

    def read_filter(self, node: nodes.Filter) -> Found:
        base = self.read(node.node) if node.node is not None else None
        given = [self.read(one) for one in node.args]
        named: dict[str, Any] = {str(pair.key): _constant(pair.value) for pair in node.kwargs}
        if not isinstance(base, Shape):
            return base if node.name in _SAME else None
        if node.name in {"count", "length"}:
            base.size = base.size or Shape(number=True, counts=True)
            return base.size
        if node.name in {"abs", "float", "int", "round"}:
            base.number = base.number or not base.text
            return base
        base.text = base.text or (node.name in _TEXTS and node.name not in _LISTS)
        if node.name in _LISTS:
            base.element()
        if node.name == "map" and "attribute" in named:
            return Shape(one=base.element().key(named["attribute"]))
        if node.name == "selectattr" and isinstance(given[0], nodes.Const):
            inner = base.element().key(given[0].value)
            inner.values += [one.value for one in given[2:] if isinstance(one, nodes.Const)]
        return base.one if node.name in _ONE else base if node.name in _SAME or node.name in _TEXTS else None

    def read_call(self, node: nodes.Call) -> Found:
        if not isinstance(node.node, nodes.Getattr):
            given = [self.read(one) for one in node.args]
            if isinstance(node.node, nodes.Name) and node.node.name == "range":
                numbers = [one for one in given if isinstance(one, Shape)]
                for one in numbers:
                    one.number = True
                return next((one for one in numbers if one.counts), None)
            return None
        base, name = self.read(node.node.node), node.node.attr
        given = [self.read(one) for one in node.args]
        if name == "index" and given and isinstance(given[0], Shape):
            if isinstance(base, Shape):
                base.element()
                given[0].within.append(base)
                base.size = base.size or Shape(number=True, counts=True)
                return base.size
            if isinstance(base, nodes.List | nodes.Tuple):
                given[0].values += [_constant(one) for one in base.items]
        if name in {"index", "startswith"} and given and isinstance(given[0], nodes.Const) and isinstance(base, Shape):
            (base.holds if name == "index" else base.begins).append(given[0].value)
        if not isinstance(base, Shape):
            for found in given if name == "join" else []:
                if isinstance(found, Shape):
                    found.element()
            return None
        if name == "split":
            at = _constant(node.args[0]) if node.args else " "
            base.parts = base.parts or (Shape(), at if isinstance(at, str) and at else " ")
            return base.parts[0]
        base.text = base.text or name in _TEXTS
        if name == "get" and given and isinstance(given[0], nodes.Const):
            return base.key(given[0].value)
        if name in {"items", "keys", "values"} and not base.keys:
            base.key("first"), base.key("second")
        return base if name in _TEXTS else None

    def read_compare(self, node: nodes.Compare) -> Found:
        left = self.read(node.expr)
        for operand in node.ops:
            right = self.read(operand.expr)
            if operand.op in {"in", "notin"}:
                _looked_for(left, right)
            else:
                _compared(left, right, operand.op)
                _compared(right, left, operand.op)
            left = right
        return None

    def _arithmetic(self, node: nodes.BinExpr) -> Found:
        left, right = self.read(node.left), self.read(node.right)
        for one, other in ((left, node.right), (right, node.left)):
            number = _constant(other)
            if isinstance(one, Shape) and isinstance(number, int | float):
                one.number = True
                one.values += [int(number) + step for step in range(3)]
        return left if isinstance(left, Shape) else right

    read_add = read_sub = read_mul = read_div = read_mod = read_floordiv = _arithmetic


def _constant(node: nodes.Node | None) -> Any:
    """The value of a constant, None for anything else."""
    if isinstance(node, nodes.Neg):
        inner = _constant(node.node)
        return -inner if isinstance(inner, int | float) else None
    return node.value if isinstance(node, nodes.Const) else None


def _compared(one: Found, other: Found, sign: str) -> None:
    if isinstance(one, Shape) and isinstance(other, nodes.Const):
        value = other.value
        ordered = sign not in {"eq", "ne"} and isinstance(value, int | float)
        one.values += [value - 1, value, value + 1, value + 3] if ordered else [value]
    elif isinstance(one, Shape) and isinstance(other, Shape):
        one.within.append(Shape(one=other))


def _looked_for(one: Found, place: Found) -> None:
    """One is looked for in a place."""
    if isinstance(place, nodes.List | nodes.Tuple) and isinstance(one, Shape):
        one.values += [_constant(item) for item in place.items]
    elif isinstance(place, Shape) and isinstance(one, nodes.Const):
        place.holds.append(one.value)
    elif isinstance(place, Shape):
        place.element()
        if isinstance(one, Shape):
            one.within.append(place)
