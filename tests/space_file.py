"""Space files of tests, from their settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["as_toml"]


def as_toml(values: dict[str, Any], path: Path) -> Path:
    """Write a space file with these settings; its path."""
    path.write_text("\n".join(_toml(values)) + "\n", encoding="utf-8")
    return path


def _toml(values: dict[str, Any], path: str = "") -> list[str]:
    """Nested mappings as TOML; JSON's texts, lists and numbers are TOML's."""
    plain = {k: v for k, v in values.items() if not isinstance(v, dict)}
    lines = [f"[{path}]"] if path else []
    lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _toml(value, f"{path}.{key}" if path else key)
    return lines
