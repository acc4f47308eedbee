"""Prompt files of LangChain: JSON alone, read without the package."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from typing import Any

from autoprompt.errors import LibraryError, PromptError, nearest
from autoprompt.libraries.imported import Library, Refused
from autoprompt.template import compiled, quoted

__all__ = ["read_chain"]

_FORMATS = ("f-string", "jinja2", "mustache")
_KINDS = {"prompt": "PromptTemplate", "few_shot": "FewShotPromptTemplate", "chat": "ChatPromptTemplate"}
_SYSTEM = {"SystemMessagePromptTemplate", "SystemMessage"}
_HUMAN = {"HumanMessagePromptTemplate", "HumanMessage"}
_MUSTACHE = re.compile(r"\{\{\{\s*([^{}]*?)\s*\}\}\}|\{\{\s*([#^/>!&=]?)\s*([^{}]*?)\s*\}\}")
_DEEPEST = 8  # prompts within one another


def read_chain(text: str, name: str) -> Library:
    """The candidates of a prompt that LangChain saved, or wrote with `dumps`.

    A PromptTemplate is a template; the prefix of a FewShotPromptTemplate and the system message of a
    ChatPromptTemplate are instructions, the suffix and the human message are templates. Raises LibraryError when it
    is no such file.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LibraryError(f"{name} is no JSON: {error}.") from None
    kind, given = _kind(value, name)
    if kind == "PromptTemplate":
        return _sorted_out({}, {name: _template(given, name)})
    if kind == "FewShotPromptTemplate":
        return _few_shot(given, name)
    return _chat(given, name)


def _kind(value: object, name: str) -> tuple[str, Mapping[str, Any]]:
    """The class of a prompt, and its arguments, in either of the two ways that LangChain writes them."""
    if not isinstance(value, dict):
        raise LibraryError(f"{name} is no JSON object, as a prompt of LangChain is.")
    if "lc" in value:
        place, given = value.get("id"), value.get("kwargs")
        if not isinstance(place, list) or not place or not isinstance(given, dict):
            raise LibraryError(
                f"{name} has `lc` without a list `id` and an object `kwargs`: LangChain could not serialize it."
            )
        kind = str(place[-1])
    else:
        given, kind = value, _KINDS.get(str(value.get("_type", "prompt")), str(value.get("_type")))
    if kind not in _KINDS.values():
        known = sorted(_KINDS.values())
        raise LibraryError(f"{name} holds a {kind}; read are {', '.join(known)}.{nearest(kind, known)}")
    return kind, given


# -- kinds -----------------------------------------------------------------------------------------


def _few_shot(given: Mapping[str, Any], name: str) -> Library:
    how = {key: given[key] for key in ("template_format", "partial_variables") if key in given}
    prefix = {"prefix": _template({**how, "template": _text(given, "prefix", name, "")}, name)}
    suffix = {"suffix": _template({**how, "template": _text(given, "suffix", name)}, name)}
    found = _sorted_out(prefix, suffix)
    examples = given.get("examples")
    count = f"{len(examples)} examples" if isinstance(examples, list) else "The examples"
    reason = f"{count} were not taken: demonstrations are drawn from your own training examples."
    return Library(found.instructions, found.templates, (), (*found.refused, Refused("examples", reason)))


def _chat(given: Mapping[str, Any], name: str) -> Library:
    messages = given.get("messages")
    if not isinstance(messages, list):
        raise LibraryError(f"{name} has no list `messages`.")
    system: list[str | Refused] = []
    human: list[str | Refused] = []
    for message in messages:
        place = message.get("id") if isinstance(message, dict) else None
        kind = str(place[-1]) if isinstance(place, list) and place else "message without an id"
        if kind not in _SYSTEM | _HUMAN:
            reason = f"It has a {kind}; taken is a system message with one human message behind it."
            return Library(refused=(Refused(name, reason),))
        (system if kind in _SYSTEM else human).append(_message(message, name))
    if len(human) != 1 or len(system) > 1:
        reason = f"It has {len(system)} system and {len(human)} human messages; taken are at most one and one."
        return Library(refused=(Refused(name, reason),))
    return _sorted_out(dict(zip(["system message"], system, strict=False)), {"human message": human[0]})


def _message(message: Mapping[str, Any], name: str, depth: int = 0) -> str | Refused:
    """The text of a message: fixed, or a prompt of its own; the only one, where it has a list of them."""
    given = message.get("kwargs")
    if not isinstance(given, dict) or depth > _DEEPEST:
        raise LibraryError(f"{name} has a message without an object `kwargs`.")
    if "content" in given:
        return _literal(_text(given, "content", name))
    prompt = given.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    kind, inner = _kind(prompt, name)
    return _template(inner, name) if kind == "PromptTemplate" else Refused(name, f"A message is a {kind}.")


def _sorted_out(instructions: Mapping[str, str | Refused], templates: Mapping[str, str | Refused]) -> Library:
    """Those that were taken, and those that were refused; an instruction must be the same for every example."""
    refused, fixed = [], []
    for name, text in instructions.items():
        if isinstance(text, Refused):
            refused.append(text)
        elif names := sorted(compiled(text).names):
            reason = f"It is an instruction that names {', '.join(names)}: it must be the same for every example."
            refused.append(Refused(name, reason))
        else:
            fixed.append(compiled(text).render({}).strip())
    shown = [text for text in templates.values() if isinstance(text, str)]
    refused += [text for text in templates.values() if isinstance(text, Refused)]
    return Library(tuple(text for text in fixed if text), tuple(shown), (), tuple(refused))


# -- templates -------------------------------------------------------------------------------------


def _text(given: Mapping[str, Any], key: str, name: str, missing: str | None = None) -> str:
    value = given.get(key, missing)
    if not isinstance(value, str):
        raise LibraryError(f"{name} needs the text `{key}`; there it is {type(value).__name__}.")
    return value


def _template(given: Mapping[str, Any], name: str) -> str | Refused:
    """A PromptTemplate as our Jinja."""
    text, form = _text(given, "template", name), given.get("template_format", "f-string")
    fixed = given.get("partial_variables") or {}
    if form not in _FORMATS:
        raise LibraryError(
            f"{name} has the template_format {form!r}; allowed are {', '.join(_FORMATS)}.{nearest(str(form), _FORMATS)}"
        )
    if not isinstance(fixed, dict) or not all(isinstance(value, str) for value in fixed.values()):
        return Refused(name, "Its partial_variables are not all texts.")
    strange = [key for key in fixed if not key.isidentifier()]
    if strange:
        return Refused(name, f"Its partial variable {strange[0]!r} is no name.")
    try:
        shown = _from_fstring(text) if form == "f-string" else _from_mustache(text) if form == "mustache" else text
        used = compiled(shown).names
        sets = [f"{{% set {key} = {json.dumps(fixed[key], ensure_ascii=False)} %}}" for key in fixed if key in used]
        compiled("".join(sets) + shown)
    except (PromptError, ValueError) as error:
        return Refused(name, str(error))
    return "".join(sets) + shown


def _literal(text: str) -> str:
    """A text that Jinja shows as it is."""
    return re.sub(r"\{(?=[{%#]|\Z)", '{{ "{" }}', text)


def _value(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(f"The placeholder {quoted(name)} is no plain name.")
    return f"{{{{ {name} }}}}"


def _from_fstring(text: str) -> str:
    """{name} as {{ name }}; doubled braces as braces. Raises ValueError."""
    pieces, plain = [], ""
    for literal, name, form, conversion in string.Formatter().parse(text):
        plain += literal
        if name is None:
            continue
        if form or conversion:
            raise ValueError(f"The placeholder {quoted(name)} has a format; only plain names can be taken.")
        pieces += [_literal(plain), _value(name)]
        plain = ""
    return "".join([*pieces, _literal(plain)])


def _from_mustache(text: str) -> str:
    """{{name}}, {{{name}}} and {{&name}} as {{ name }}. Raises ValueError for sections, partials and delimiters."""
    pieces, last = [], 0
    for found in _MUSTACHE.finditer(text):
        triple, sign, name = found.groups()
        if sign and sign not in "&!":
            raise ValueError(f"{quoted(found.group())} is a section or a partial of mustache; only names can be taken.")
        pieces += [_literal(text[last : found.start()]), "" if sign == "!" else _value(triple or name or "")]
        last = found.end()
    return "".join([*pieces, _literal(text[last:])])
