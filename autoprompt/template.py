"""A prompt's template: Jinja, compiled once, confined, and bounded in what it may cost.

A template comes from whoever wrote the space file, the export or the journal that is read. It sees the texts
that it is given and nothing else, and renders the same text every time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes

from autoprompt.errors import PromptError
from autoprompt.sandbox import Charging, Sandbox, with_budget

__all__ = ["Template", "compiled", "parsed", "quoted", "tokens"]

_ANSWER = re.compile(r"\{\{-?\s*label\b[^}]*\}\}")
LONGEST = 100_000  # characters of a template
_NODES = 2000  # of its tree
_STATEMENTS = (
    nodes.Assign,
    nodes.AssignBlock,
    nodes.FilterBlock,
    nodes.For,
    nodes.If,
    nodes.Output,
    nodes.Scope,
    nodes.With,
)
# what a template that compiles can still do wrong when it is rendered
_RENDERING = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,  # Jinja writes an infinite number as a name that nobody has
    RuntimeError,
    TypeError,
    ValueError,
)
# what the compilers of Jinja and of Python raise for a text that is none
_COMPILING = (jinja2.TemplateError, MemoryError, OverflowError, RecursionError, SyntaxError, ValueError)


@dataclass(frozen=True)
class Template:
    """A compiled template; `names` are the variables that it reads, without functions that it calls."""

    source: str
    names: frozenset[str]
    _jinja: jinja2.Template

    @property
    def tail(self) -> str:
        """The fixed text behind the answer's place, as far as the next tag; empty where it has none."""
        behind = _ANSWER.split(self.source)[-1] if _ANSWER.search(self.source) else ""
        return re.split(r"\{\{|\{%|\{#", behind)[0]

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with `values` in their places. Raises PromptError when it cannot be made, or costs too much."""
        try:
            return self._jinja.render(with_budget(values))
        except _RENDERING as error:
            raise PromptError(f"The template {quoted(self.source)} cannot be rendered: {error}.") from None


@functools.lru_cache(maxsize=4096)
def compiled(source: str) -> Template:
    """The template of a text. Raises PromptError when it is no Jinja, or uses what a prompt may not."""
    if len(source) > LONGEST:
        raise PromptError(f"The template {quoted(source)} has {len(source):,} characters; {LONGEST:,} are allowed.")
    try:
        tree = _environment().parse(source)
        _check(tree, source)
        names = frozenset(jinja2.meta.find_undeclared_variables(tree)) - _functions(tree)
        return Template(source, names, _environment().from_string(Charging().visit(tree)))
    except _COMPILING as error:
        raise PromptError(
            f"The template {quoted(source)} is not valid Jinja: {getattr(error, 'message', error)}."
        ) from None


def parsed(source: str) -> nodes.Template:
    """The tree of a template, to look at. Raises PromptError when it is no Jinja."""
    try:
        return _environment().parse(source)
    except _COMPILING as error:
        raise PromptError(
            f"The template {quoted(source)} is not valid Jinja: {getattr(error, 'message', error)}."
        ) from None


def tokens(source: str) -> list[tuple[str, str]]:
    """The kinds and texts of a template's tokens, spaces among them. Raises PromptError when it is no Jinja."""
    try:
        return [(kind, text) for _, kind, text in _environment().lex(source)]
    except _COMPILING as error:
        raise PromptError(
            f"The template {quoted(source)} is not valid Jinja: {getattr(error, 'message', error)}."
        ) from None


def _check(tree: nodes.Template, source: str) -> None:
    count = sum(1 for _ in tree.find_all(nodes.Node))
    if count > _NODES:
        raise PromptError(f"The template {quoted(source)} has {count:,} parts; {_NODES:,} are allowed.")
    for statement in tree.find_all((nodes.Stmt, nodes.EvalContextModifier)):
        recursive = isinstance(statement, nodes.For) and statement.recursive
        if recursive or not isinstance(statement, _STATEMENTS):
            name = "a recursive loop" if recursive else f"the statement {type(statement).__name__.lower()!r}"
            raise PromptError(f"The template {quoted(source)} has {name}; allowed are if, for, set, with and filter.")


def _functions(tree: nodes.Template) -> set[str]:
    """The names that are called and nothing else, where the sandbox knows them: a field may be called zip."""
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    read = {name.name for name in tree.find_all(nodes.Name) if id(name) not in called}
    return set(_environment().globals) - read


def quoted(text: str) -> str:
    """A template in an error: cut where it is long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


@functools.cache
def _environment() -> Sandbox:
    return Sandbox()
