"""Files that are whole or not there, and what to say when the system refuses one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from autoprompt.errors import AutopromptError, ResultsError

__all__ = [
    "append",
    "clear",
    "flush",
    "mended",
    "refused",
    "repair_tail",
    "replace_folder",
    "telling",
    "write_bytes",
    "write_json",
    "write_text",
]

_REMEDIES = {
    errno.ENOSPC: "Free space",
    errno.EDQUOT: "Free space",
    errno.EFBIG: "Allow larger files (ulimit -f)",
    errno.EIO: "Look after the disk",
    errno.EROFS: "Make it writable",
    errno.EACCES: "Make it writable",
    errno.EPERM: "Make it writable",
}
_UNKNOWN_TO_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF)  # who cannot flush a folder


def refused(error: Exception, place: Path, verb: str = "written") -> str | None:
    """What to tell of an error with which the system refused a file; None where it is another error.

    place: named where the error names no file. Libraries written in Rust raise kinds of their own,
    with the system's number in the text.
    """
    if isinstance(error, ConnectionError | AutopromptError):  # a pipe's reader has gone; it is told already
        return None
    number, file = getattr(error, "errno", None), getattr(error, "filename", None)
    reason = getattr(error, "strerror", None)
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # what a copied folder lacks
        file = error.args[0][0][1]
    if number is None:
        found = re.search(r"\[Errno (\d+)\]" if isinstance(error, OSError) else r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else None
        reason = os.strerror(number) if number is not None else None
    if not reason:
        return None
    remedy = _REMEDIES.get(number or 0, "Mend that")
    name = re.sub(r"\.\d+\.part$", "", str(file or place))  # the file that was to be, not its beginning
    what = f"{name} cannot be {verb} ({reason})."
    return f"{what} {remedy} and run the same command again; finished trials are kept."


@contextlib.contextmanager
def telling(place: Path, verb: str = "written") -> Iterator[None]:
    """What the system refuses becomes a ResultsError that names the file, the reason and what to do."""
    try:
        yield
    except OSError as error:
        told = refused(error, place, verb)
        if told is None:
            raise
        raise ResultsError(told) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing of it, through to the disk. Raises ResultsError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes may write the same file
    with telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()  # a full disk gets its space back
            raise
        _flush_folder(path.parent)


def _flush_folder(path: Path) -> None:
    """Bring a folder's list of files to the disk, where the system can."""
    if os.name == "nt":
        return  # Windows opens no folders
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _UNKNOWN_TO_FOLDERS:
            raise
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a whole file of text, in UTF-8, or nothing of it."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, whole or not at all. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def repair_tail(path: Path) -> None:
    """Cut off a last line that a killed writer left without its end, so that none is glued to it."""
    if not path.exists():
        return
    file = os.open(path, os.O_RDWR)
    try:
        mended(file)
    finally:
        os.close(file)


def mended(file: int) -> int:
    """The size of an open file in bytes, once a last line without its end is cut off."""
    size = keep = os.fstat(file).st_size
    while keep:
        step = 1 if keep == size else min(keep, 4096)  # mostly its last byte is enough
        os.lseek(file, keep - step, os.SEEK_SET)
        found = os.read(file, step).rfind(b"\n")
        if found >= 0:
            keep = keep - step + found + 1
            break
        keep -= step
    if keep < size:
        os.ftruncate(file, keep)
        os.fsync(file)
    return keep


def append(file: int, line: bytes) -> None:
    """Add a line to an open file, through to the disk; where that fails, the file is as it was. Raises OSError."""
    size = mended(file)  # this process too may have been stopped in the middle of a line
    try:
        while line:  # a nearly full disk takes a part
            line = line[os.write(file, line) :]
        os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):  # what stays is cut off before the next line
            os.ftruncate(file, size)
        raise


def clear(folder: Path) -> None:
    """Take away what stands in the place of a folder; of a link, the link and not what it leads to."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(part: Path, folder: Path) -> None:
    """Bring a written folder to the disk, and let it take the name of another, which goes."""
    flush(part)
    clear(folder)
    part.replace(folder)


def flush(folder: Path) -> None:
    """Bring all files of a folder to the disk: what follows may say that they are there."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
