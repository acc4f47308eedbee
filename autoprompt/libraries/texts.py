"""Plain text files: one candidate a line."""

from __future__ import annotations

from autoprompt.libraries.imported import Library

__all__ = ["read_lines"]


def read_lines(text: str) -> Library:
    """The candidates of a text. A line with {{ or {% is a template, any other an instruction; \\n is a line break.

    Blank lines, and lines that begin with "# ", are passed over.

    >>> read_lines("# mine\\nName the topic.\\n{{ text }}\\\\nTopic: {{ label }}\\n").templates
    ('{{ text }}\\nTopic: {{ label }}',)
    """
    lines = [line.strip().replace("\\n", "\n") for line in text.splitlines()]
    kept = [line for line in lines if line.strip() and not line.startswith("# ") and line != "#"]
    templates = [line for line in kept if "{{" in line or "{%" in line]
    return Library(tuple(line for line in kept if line not in templates), tuple(templates))
