"""Jinja's sandbox for prompts, with a price on whatever a template touches.

Every value is charged to the budget of the rendering, before it is made where it can be larger than its
parts; so no loop, repetition or width can hold a run up or fill the memory. What a template can reach are
the texts that it is given, operators, and filters and methods whose outcome follows from these alone; what
is drawn at random is drawn from the values of the rendering, so that the same values draw the same. A
template may fill lists and mappings, and never those that it was given: it works on copies.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from types import BuiltinMethodType, MethodType
from typing import Any, NoReturn

import jinja2
import jinja2.sandbox
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.utils import Cycler, Namespace
from jinja2.visitor import NodeTransformer

__all__ = ["Charging", "Sandbox", "with_budget"]

_BUDGET = 2**22  # units of one rendering: a character that is read or written is one
_PER_INPUT = 64  # more units for each character of the inputs
_STEP = 64  # units of any operation, whatever its size
_ELEMENT = 8  # units of an element, which is slower to walk through than a character
_RANGE = 10_000  # numbers of a range, and places of a width
_BITS = 4096  # of a whole number
_COUNTED = 2**24  # units after which nobody counts on
_WORK = "the work of this rendering"  # where the budget lies in the context; no name of a template has spaces

# those whose outcome follows from the input alone, and whose cost is known before
_FILTERS = (
    "abs", "attr", "capitalize", "center", "count", "d", "default", "e", "escape", "first", "float", "format", "indent",
    "int", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "replace", "reverse", "round",
    "select", "selectattr", "sort", "string", "title", "tojson", "trim", "truncate", "unique", "upper", "wordcount",
)  # fmt: skip
_DRAWING = ("choice", "random", "most_frequent")  # as Jinja and PromptSource name them
_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(
        {
            "capitalize", "casefold", "center", "count", "endswith", "expandtabs", "find", "format", "index", "isalnum",
            "isalpha", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "ljust",
            "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust",
            "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title",
            "upper", "zfill",
        }
    ),
    list: frozenset({"append", "count", "index", "pop"}),
    dict: frozenset({"get", "items", "keys", "pop", "update", "values"}),
    LoopContext: frozenset({"changed", "cycle"}),
    Cycler: frozenset({"next", "reset"}),
}  # fmt: skip
_MULTIPLYING = {"expandtabs", "indent", "join", "replace", "tojson"}  # each place of the value may become an argument


class _Work:
    """What a rendering may still cost, and the draws that it has made."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.left = _BUDGET + _PER_INPUT * sum(map(_size, values.values()))
        self._values = {name: value for name, value in values.items() if name != "label"}  # the answer draws nothing
        self._draws, self._seed = 0, ""

    def generator(self) -> random.Random:
        """The generator of the next draw: another one for every draw, the same for the same values."""
        if not self._seed:
            text = json.dumps(self._values, sort_keys=True, default=str)
            self._seed = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self._draws += 1
        return random.Random(f"{self._seed} draw {self._draws}")


def with_budget(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a rendering, and in a place of its own what it may cost: more for longer inputs.

    Lists and mappings are copied, as a template may change them.
    """
    own = {name: value if isinstance(value, str) else copy.deepcopy(value) for name, value in values.items()}
    return {**own, _WORK: _Work(values)}


# -- what a value costs --------------------------------------------------------------------------


def _size(value: object, most: float = _COUNTED) -> int:
    """Characters of a value, and units of its elements, those of its elements too; above `most` it is cut short.

    A list may hold itself, or another one very many times.
    """
    total, left = 0, [value]
    while left and total <= most:
        one = left.pop()
        if isinstance(one, str | range):
            total += len(one)
        elif isinstance(one, int):
            total += one.bit_length() // 8
        elif isinstance(one, list | tuple):
            total += _ELEMENT * len(one)
            left += one
        elif isinstance(one, dict | Namespace):
            held = one if isinstance(one, dict) else one._Namespace__attrs
            total += _ELEMENT * len(held)
            left += [*held, *held.values()]
        else:
            total += 1
    return total


def _amount(arguments: Sequence[object]) -> int:
    """What the arguments of a call may add: the sizes of texts and lists, the values of numbers."""
    return sum(abs(a) if isinstance(a, int) else _size(a) for a in arguments)


def _spend(context: Context, units: int) -> None:
    work = context.parent[_WORK]
    work.left -= units + _STEP
    if work.left < 0:
        _refuse("it loops too long, or makes too long a text")


def _refuse(reason: str) -> NoReturn:
    raise SecurityError(reason)


def _charged(context: Context, value: Any) -> Any:
    """The value, once it is paid for; what would be made while it is read is made now."""
    if isinstance(value, Undefined):
        return value
    if isinstance(value, Iterator | KeysView | ValuesView | ItemsView) and not isinstance(value, LoopContext):
        value = list(value)
    _spend(context, _size(value, context.parent[_WORK].left))
    return value


def _cost(name: str, value: object, arguments: Sequence[object]) -> int:
    size, more = _size(value), _amount(arguments)
    if name == "tojson":
        return size * (6 + size * more)  # an indentation stands before every element, as often as it is nested
    return (1 + size) * (1 + more) if name in _MULTIPLYING else size + more


# -- the environment -----------------------------------------------------------------------------


class Charging(NodeTransformer):
    """Puts the price on what is read by name, on what is built, and on the steps of loops."""

    def _made(self, node: nodes.Expr) -> nodes.Expr:
        found = self.generic_visit(node)
        return nodes.Filter(found, "charged", [], [], None, None, lineno=node.lineno)

    visit_List = visit_Dict = visit_Concat = _made  # noqa: N815

    def visit_Name(self, node: nodes.Name) -> nodes.Expr:  # noqa: N802
        return self._made(node) if node.ctx == "load" else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802
        return self._made(node) if node.ctx == "load" else node

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        fixed = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        fixed += sum(len(text.value) for text in node.find_all(nodes.Const) if isinstance(text.value, str))
        self.generic_visit(node)
        arguments: list[nodes.Expr] = [nodes.Const(fixed)]
        node.iter = nodes.Filter(node.iter, "steps", arguments, [], None, None, lineno=node.lineno)
        return node


@jinja2.pass_context
def _steps(context: Context, value: Any, fixed: int) -> Any:
    """What a loop goes through, paid for with the fixed text of the loop's body."""
    value = _charged(context, value)
    if isinstance(value, LoopContext):
        _refuse("a loop cannot go through itself")
    if isinstance(value, list | dict):
        value = list(value)  # the loop may change it
    if not isinstance(value, Undefined):
        _spend(context, len(value) * (_STEP + fixed))
    return value


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers[: _RANGE + 1]) > _RANGE:
        _refuse(f"Range too big; {_RANGE:,} numbers are allowed")
    return numbers


def _zip(*columns: Any) -> list[tuple[Any, ...]]:
    return list(zip(*columns, strict=False))


@jinja2.pass_context
def _choice(context: Context, values: Any) -> Any:
    """One of the values, drawn by what the template is given."""
    if isinstance(values, dict) or not len(values):
        _refuse("it draws from what has no elements")
    return context.parent[_WORK].generator().choice(values)


def _most_frequent(values: Any) -> list[Any]:
    """Those of the values that stand there most often, in their order."""
    counts = Counter(values)
    most = max(counts.values(), default=0)
    return [value for value, count in counts.items() if count == most]


def _priced(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, which is paid before and after."""
    leading = getattr(getattr(function, "jinja_pass_arg", None), "name", "")

    @jinja2.pass_context
    def priced(context: Context, value: Any, *arguments: Any, **named: Any) -> Any:
        if name == "format":
            _spend(context, _filled(value, [*arguments, *named.values()]))
        elif not isinstance(value, Undefined):
            _spend(context, _cost(name, value, [*arguments, *named.values()]))
        first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        return _charged(context, function(*([first[leading]] if leading else []), value, *arguments, **named))

    return priced


def _final(value: Any) -> Any:
    """What may be shown: texts, numbers and lists, not objects whose names hold an address."""
    if isinstance(value, str | int | float | list | tuple | dict | Undefined) or value is None:
        return value
    _refuse(f"it shows a {type(value).__name__}, which is no text")


class Sandbox(jinja2.sandbox.SandboxedEnvironment):
    """Jinja's sandbox, with a price on operators and calls; methods are allowed one by one."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_final)
        self.globals = {"range": _range, "cycler": Cycler, "zip": _zip, "namespace": Namespace}
        given = {**self.filters, "choice": _choice, "random": _choice, "most_frequent": _most_frequent}
        self.filters = {name: _priced(name, given[name]) for name in (*_FILTERS, *_DRAWING)}
        self.filters |= {"charged": jinja2.pass_context(_charged), "steps": _steps}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        units = _size(left) + _size(right)
        whole = isinstance(left, int) and isinstance(right, int)
        if operator == "*" and not whole:
            units *= max([1, *(abs(n) for n in (left, right) if isinstance(n, int))])
        elif operator == "%" and isinstance(left, str):
            _refuse("texts are put together with ~, not with %")
        elif operator in {"*", "**"} and whole:
            bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _BITS:
                _refuse(f"its numbers are too large; {_BITS} bits are allowed")
        _spend(context, units)
        return _charged(context, super().call_binop(context, operator, left, right))

    def is_safe_callable(self, obj: Any) -> bool:
        if obj in (_range, _zip, Cycler, Namespace):
            return True
        obj = getattr(obj, "__wrapped__", obj)  # of str.format, which the sandbox wraps
        if not isinstance(obj, BuiltinMethodType | MethodType):
            return False
        return any(isinstance(obj.__self__, kind) and obj.__name__ in names for kind, names in _METHODS.items())

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        given = [*args, *kwargs.values()]
        method = getattr(__obj, "__wrapped__", __obj)
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str) and name == "format":
            _spend(__context, _formatted(owner, given))
        elif isinstance(owner, str):
            _spend(__context, _cost(name, owner, given))
        return _charged(__context, super().call(__context, __obj, *args, **kwargs))


def _formatted(text: str, given: Sequence[object]) -> int:
    """What str.format may cost. Raises SecurityError for a width that is long, or comes from a value."""
    if re.search(r":[^{}]*\{", text) or any(int(digits) > _RANGE for digits in re.findall(r"[0-9]+", text)):
        _refuse(f"its format has a width above {_RANGE:,}, or one that is given as a value")
    return len(text) + text.count("{") * (_RANGE + sum(map(_size, given)))


def _filled(text: object, given: Sequence[object]) -> int:
    """What the filter `format`, which is %, may cost. Raises SecurityError as `_formatted` does."""
    if not isinstance(text, str) or "*" in text or any(int(digits) > _RANGE for digits in re.findall(r"[0-9]+", text)):
        _refuse(f"its format is no text, or has a width above {_RANGE:,}, or one that is given as a value")
    return len(text) + text.count("%") * (_RANGE + sum(map(_size, given)))
