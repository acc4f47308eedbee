"""Inputs for the targets, as hypothesis draws them: right files with a few changes, and noise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

try:
    from fuzz.targets import EXPORT, JOURNAL, PROMPT, SEEDS, SPACE, TEMPLATES, lines
except ImportError:  # run as a script of this folder
    from targets import EXPORT, JOURNAL, PROMPT, SEEDS, SPACE, TEMPLATES, lines  # type: ignore[no-redef]

_SNIPPETS = [
    b'"', b"'", b"{", b"}", b"[", b"]", b",", b"\n", b"\r", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[2J",
    b"\xe2\x80\xae", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"-1", b"0", b"[" * 3000,
    b'{"a":' * 2000, b"\\ud800", b"../../x", b"/etc/passwd", b"{{", b"}}", b"{%", b"%}", b"{{ label }}", b"*", b"**9",
    b"|", b"|center(99999999)", b".__class__", b"range(10**9)", b"{% for a in text %}", b"{% endfor %}",
    b"{% set x = x ~ x %}", b"x.py:f", b'"""', b"=", b"[model]\n", b"1979-05-27T07:32:00Z", b"0x", b"\t", b";", b"``` ",
    b"![a](http://b.c)", b"<script>", b"inf", b"nan",
]  # fmt: skip
_ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, 10**400, 0.0, -0.5, 1e308, float("nan"), float("inf"), "", " ", "\x00", "a" * 5000,
    "\ud800", "\u202e\x1b[2J\r\x07", "../../x", "/etc/passwd", "[bold red]x[/]", "<img src=x> | ``` ![a](http://b.c)",
    "{{ text }}{{ label }}", "{{ 'a' * 10**9 }}{{ label }}", "{% for a in text %}{{ label }}{% endfor %}", "sports",
    "soft", "1", "none", "content_free", [], [[]], {}, {"": ""}, [None], ["a", "a"], {"fields": {}, "label": "sports"},
]  # fmt: skip

odd_values = st.sampled_from(_ODD) | st.text(max_size=8) | st.integers() | st.floats()
# (kind, where, what): kinds are cut, put in, overwrite, repeat
edits = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 10_000), st.sampled_from(_SNIPPETS) | st.binary(max_size=8)),
    min_size=1,
    max_size=6,
)


def edited(data: bytes, changes: Sequence[tuple[int, int, bytes]]) -> bytes:
    for kind, where, what in changes:
        at = where % (len(data) + 1)
        size = len(what) * 3 + 1
        if kind == 0:
            data = data[:at] + data[at + size :]
        elif kind == 1:
            data = data[:at] + what + data[at:]
        elif kind == 2:
            data = data[:at] + what + data[at + len(what) :]
        else:
            data = data[:at] + data[at : at + size] * 3 + data[at + size :]
    return data


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container in a value with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from places(inner)


def changed(value: Any, changes: Sequence[tuple[int, int, Any]]) -> Any:
    """The value with some of its parts replaced, taken out, or put beside another name."""
    value = json.loads(json.dumps(value))
    for kind, where, what in changes:
        found = list(places(value))
        if not found:
            return what
        container, key = found[where % len(found)]
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, dict):
            container[str(what)[:20]] = container[key]
        else:
            container[key] = what
    return value


parts = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1000), odd_values), min_size=1, max_size=3)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return "inf" if value == float("inf") else "nan" if value is None else json.dumps(value).replace("NaN", "nan")


def _space(changes: Sequence[tuple[int, int, Any]]) -> bytes:
    import tomllib

    value = changed(tomllib.loads(SPACE.decode()), changes)
    value = value if isinstance(value, dict) else {"name": value}
    text = "".join(f"{json.dumps(str(key))} = {_toml(inner)}\n" for key, inner in value.items())
    return text.encode("utf-8", "replace")


_expressions = [
    "text", "label", "x", "1", "10**9", "'a'", "[text, 1]", "{'a': text}", "range(9)", "text.split()", "loop.index",
    "text|upper", "text|replace('', text)", "text * 9", "text ~ text", "text[1:]", "text.__class__", "(x, x)",
    "'%9d' % 1", "'{:9}'.format(text)", "x|join(text)", "text|list|tojson(indent=9)", "cycler(1).next()", "not text",
    "text|map('upper')|list", "text.center(10**8)", "-1 ** 0.5", "text is defined", "text|default(1)|int", "namespace()",
    "9**999", "text|batch(9)|list", "text|random", "lipsum(99999)", "'{:{}}'.format(1, x)", "x|sort", "x|unique|list",
]  # fmt: skip
_one = st.sampled_from(_expressions)
_signs = st.sampled_from(["+", "*", "**", "%", "~", "==", "in", "and", "if text else", "//", "-"])
_two = st.builds(lambda a, sign, b: f"({a}) {sign} ({b})", _one, _signs, _one)
_value = _one | _two | st.builds(lambda a, sign, b: f"({a}) {sign} ({b})", _two, _signs, _one)
_body = st.recursive(
    _value.map(lambda value: "{{ " + value + " }}") | _value.map(lambda value: "{% set x = " + value + " %}")
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4).map("".join)
    | st.builds(lambda value, body: "{% for y in " + value + " %}" + body + "{% endfor %}", _value, inner)
    | st.builds(lambda value, body: "{% if " + value + " %}" + body + "{% endif %}", _value, inner)
    | st.builds(lambda body: body * 3, inner),
    max_leaves=8,
)  # fmt: skip
templates = _body.map(lambda body: ("{% set x = text %}{{ text }}" + body + "{{ label }}").encode("utf-8", "replace"))

_structured = {
    "space": parts.map(_space),
    "rows": st.lists(st.dictionaries(st.sampled_from(["text", "topic", "split", "b"]), odd_values), max_size=6).map(
        lambda rows: b"\x00" + lines(rows)
    ),
    "prompt": parts.map(lambda changes: json.dumps(changed(PROMPT, changes)).encode()),
    "vectors": st.binary(max_size=80).map(lambda noise: len(noise).to_bytes(8, "little") + noise),
    "export": parts.map(lambda changes: json.dumps(changed(EXPORT, changes)).encode()),
    "journal": parts.map(lambda changes: "".join(json.dumps(e) + "\n" for e in changed(JOURNAL, changes)).encode()
                         if isinstance(changed(JOURNAL, changes), list) else b""),
    "template": templates | st.sampled_from(TEMPLATES).map(str.encode),
}  # fmt: skip


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """The inputs of a target."""
    near = st.builds(edited, st.sampled_from(SEEDS[target]), edits)
    return (
        near
        | _structured[target]
        | _structured[target]
        | st.binary(max_size=60)
        | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
    )
