"""Files of a model that were cut or filled with something else: which it is, said once loading has failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["damaged"]

_LENGTH = 8  # bytes that say how long a safetensors header is
_POINTER = b"version https://git-lfs"


def damaged(folder: Path) -> str:
    """The first damaged file of a model's folder, and how ("model.safetensors ends after 5 of 9 bytes"), or nothing.

    Weights are not read: their header says how long they are.
    """
    paths = [
        path for kind in ("safetensors", "json") for part in ("", "[0-9]_*/") for path in folder.glob(f"{part}*.{kind}")
    ]
    for path in sorted(paths, key=lambda path: (path.suffix, path)):
        try:
            reason = _weights(path) if path.suffix == ".safetensors" else _json(path)
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        if reason:
            return f"{path.relative_to(folder).as_posix()} {reason}"
    return ""


def _weights(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH)
        length = int.from_bytes(start, "little")
        header = file.read(length) if length <= size else b""
    if not size:
        return "is empty"
    if _POINTER.startswith(start) and size < 1000:
        return "is a pointer of Git LFS and no weights; `git lfs pull` gets them"
    if size < _LENGTH + length or size < _LENGTH:
        return f"ends after {size} bytes, in the middle of its header"
    try:
        tensors: dict[str, Any] = json.loads(header)
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        whole = _LENGTH + length + max(ends, default=0)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, IndexError):
        return "has a header that cannot be read"
    return (
        ""
        if size == whole
        else f"ends after {size} of {whole} bytes"
        if size < whole
        else f"has {size} bytes instead of {whole}"
    )


def _json(path: Path) -> str:
    content = path.read_bytes()
    try:
        json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        return f"is no JSON ({error})" if content else "is empty"
    return ""
