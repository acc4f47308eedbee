"""Tables, lists and short texts in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autoprompt.wording import inline

__all__ = ["brief", "items", "section", "table"]


def section(title: str, *parts: str) -> str:
    """A section with a heading; nothing where it has no parts."""
    inner = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *inner]) if inner else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells in which nothing acts; nothing where it has no rows."""
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |", *lines])


def items(lines: Iterable[str]) -> str:
    """A list of lines in which nothing acts."""
    return "\n".join(f"- {line}" for line in lines)


def brief(text: object, limit: int) -> str:
    """The text as `inline` has it, of its first `limit` characters; it says how many more there are."""
    line = " ".join(str(text).split())
    more = f" … ({len(line) - limit:,} more characters)" if len(line) > limit else ""
    return inline(line[:limit]) + more
