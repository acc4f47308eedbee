"""A template of PromptSource, cut at |||: what stands before is our template, what stands behind is the target."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from jinja2 import nodes

from autoprompt.errors import PromptError
from autoprompt.libraries.imported import Imported, Refused, Written, with_answer
from autoprompt.template import compiled, parsed, quoted, tokens

__all__ = ["BAR", "CHOICES", "as_imported", "choices_of", "renamed", "shown_name", "whole"]

BAR, CHOICES = "|||", "answer_choices"
_OPENING = {"if", "for", "with", "filter", "call", "macro", "block"}
_BRANCHES = {"else", "elif"}
_OURS = ("label", "instruction")  # what these names mean in a template of ours
_MARK = "\ue0a3"  # stands for the answer while the pieces are put together

Token = tuple[str, str]


def as_imported(given: Written) -> Imported | Refused:
    """A template in our form, or why not."""
    name, choices = given.name, given.choices
    try:
        compiled(given.jinja)
        fixed = None if choices is None else choices_of(choices)
        kept, target = _cut(given.jinja)
        template = _with_choices(_answered(_unguarded(kept)), choices, fixed)
        names = compiled(template).names - {"label"}
        compiled(target)
    except PromptError as error:
        return Refused(name, str(error))
    if not names:
        return Refused(name, "Its input shows no column: it would be the same text for every example.")
    return Imported(name, template, fixed, tuple(sorted(names)), target, given.source)


def whole(given: Written) -> str:
    """The template with its target behind |||, as it was written, with our names for its columns."""
    own = "".join(text for _, text in renamed(tokens(given.jinja)))
    return _with_choices(own, given.choices, None if given.choices is None else choices_of(given.choices))


def choices_of(choices: str) -> tuple[str, ...] | None:
    """The answer choices, where they need no row. Raises PromptError when they are no Jinja, or one is blank."""
    template = compiled(choices)
    if template.names:
        return None
    words = tuple(word.strip() for word in template.render({}).split(BAR))
    if not all(words):
        raise PromptError(f"The answer choices {quoted(choices)} have a blank one.")
    return words


def shown_name(field: str) -> str:
    """The data set's own name of a field, which was renamed if it means something else in a template of ours."""
    own = field.removesuffix("_column")
    return own if own in _OURS else field


def renamed(found: list[Token]) -> list[Token]:
    """The tokens, with names of the data set that mean something else in a template of ours as label_column."""
    solid = [at for at, (kind, _) in enumerate(found) if kind != "whitespace"]
    before = {at: found[solid[place - 1]] if place else ("", "") for place, at in enumerate(solid)}
    return [
        (kind, f"{text}_column")
        if kind == "name" and text in _OURS and before[at] != ("operator", ".")
        else (kind, text)
        for at, (kind, text) in enumerate(found)
    ]


# -- the cut ---------------------------------------------------------------------------------------


def _pieces(source: str) -> Iterator[tuple[str, str, str]]:
    """The texts, {{ values }} and {% tags %} of a template: the first word (if, endif, set, ...), the text as it was
    written, and the text with our names."""
    found = tokens(source)
    held: list[tuple[Token, Token]] = []
    for token in zip(found, renamed(found), strict=True):
        kind = token[0][0]
        if held or kind in {"variable_begin", "block_begin"}:
            held.append(token)
            if kind in {"variable_end", "block_end"}:
                written, ours = [own for own, _ in held], [renewed for _, renewed in held]
                yield _first_word(written), _joined(written), _joined(ours)
                held = []
        elif not kind.startswith("comment"):
            yield ("data" if kind == "data" else ""), token[0][1], token[1][1]


def _joined(found: list[Token]) -> str:
    return "".join(text for _, text in found)


def _first_word(tag: list[Token]) -> str:
    if tag[0][0] == "variable_begin":
        return "value"
    word = next((text for kind, text in tag if kind == "name"), "")
    return "setblock" if word == "set" and ("operator", "=") not in tag else word


def _cut(source: str) -> tuple[str, str]:
    """The template with the mark of the answer, and the target (that of the first branch, where there are several)."""
    kept: list[str] = []
    targets: list[str] = []
    depth, cutting, seen, closed = 0, False, False, False
    for word, text, ours in _pieces(source):
        ends = word.startswith("end")
        if cutting and word != "data":
            if depth == 0 and (ends or word in _BRANCHES):
                cutting = False
            else:
                depth += (word in _OPENING or word == "setblock") - ends
        if cutting:
            if BAR in text and word == "data":
                raise PromptError(f"The template {quoted(source)} has two parts behind its input.")
            targets[-1] += text
        elif word == "data" and BAR in text:
            before, _, behind = text.partition(BAR)
            if BAR in behind:
                raise PromptError(f"The template {quoted(source)} has two parts behind its input.")
            kept += [before if seen else before.lstrip(), _MARK]
            targets.append(behind)
            cutting, seen, depth = True, True, 0
        elif word == "data":
            kept.append("" if closed and not text.strip() else text if seen else text.lstrip())
            seen, closed = seen or bool(text.strip()), closed and not text.strip()
        else:
            kept.append(_plain(ours) if word == "value" else ours)
            seen, closed = seen or word in {"for", "value"}, ends and _MARK in kept
    if not targets:
        raise PromptError(f"The template {quoted(source)} has no {BAR}, which stands between input and answer.")
    return "".join(kept), targets[0].strip()


def _plain(value: str) -> str:
    """A {{ value }} that is a fixed text, without the braces; any other as it is."""
    [shown] = parsed(value).body if re.match(r"""\{\{-?\s*["']""", value) else [None]
    inside = shown.nodes if isinstance(shown, nodes.Output) else []
    fixed = inside[0].value if len(inside) == 1 and isinstance(inside[0], nodes.Const) else None
    if not isinstance(fixed, str) or not fixed or fixed != fixed.strip() or re.search(r"[{}|]", fixed):
        return value  # spaces at its ends would be cut off by a tag with a dash beside it
    return value if "-" in value[2] + value[-3] else fixed


def _answered(kept: str) -> str:
    """The template with {{ label }} in place of each mark."""
    *parts, last = kept.split(_MARK)
    return "".join(with_answer(part) for part in parts) + last.rstrip()


def _unguarded(template: str) -> str:
    """The template without conditions such as {% if label != -1 %}, which pass over rows that have no answer: where
    nothing else reads the column, ours need not have it."""
    pieces = [(word, ours) for word, _, ours in _pieces(template)]
    for at, (word, _) in enumerate(pieces):
        column = _guarded(pieces[at][1]) if word == "if" else None
        if column is not None:
            tried = [*pieces[:at], ("if", "{% if true %}"), *pieces[at + 1 :]]
            if column not in compiled("".join(text for _, text in tried)).names:
                pieces = tried
    return "".join(text for _, text in pieces)


def _guarded(tag: str) -> str | None:
    """The column of which a tag only says what it is not."""
    [statement] = parsed(tag + "{% endif %}").body
    test = statement.test if isinstance(statement, nodes.If) else None
    if not isinstance(test, nodes.Compare) or [one.op for one in test.ops] != ["ne"]:
        return None
    value = test.ops[0].expr
    if not isinstance(value.node if isinstance(value, nodes.Neg) else value, nodes.Const):
        return None
    column = test.expr
    while isinstance(column, nodes.Getattr | nodes.Getitem):
        column = column.node
    return column.name if isinstance(column, nodes.Name) else None


def _with_choices(template: str, choices: str | None, fixed: tuple[str, ...] | None) -> str:
    """The template, with its answer choices set where it names them."""
    if choices is None or CHOICES not in compiled(template).names:
        return template
    if fixed is not None:
        return f"{{% set {CHOICES} = {json.dumps(fixed, ensure_ascii=False)} %}}{template}"
    own = "".join(text for _, text in renamed(tokens(choices)))
    parts = f'{CHOICES}.split("{BAR}")|map("trim")|list'
    return f"{{% set {CHOICES} %}}{own}{{% endset %}}{{% set {CHOICES} = {parts} %}}{template}"
