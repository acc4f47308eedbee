"""Runs one program in a cell: starts it, listens, and ends it when it has had enough."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from autoprompt.errors import ExecutionError
from autoprompt.execution.cell import EARLY
from autoprompt.execution.filter import system_call_filter
from autoprompt.execution.program import OUTCOMES, Limits, Program, Ran

__all__ = ["TIERS", "Tier", "guarded"]

Tier: TypeAlias = Literal["root", "user", "plain"]
# from the strongest: namespaces by right, namespaces by one of users, none
TIERS: tuple[Tier, ...] = ("root", "user", "plain")

_CELL = Path(__file__).with_name("cell.py")
_FLAGS = ("-P", "-s", "-S", "-B")  # with an environment of nothing but the hash seed the same as -I -S -B
_LONGEST = 16 * 2**10  # bytes of a verdict
_USERS = itertools.cycle(range(61184, 65000))  # kept for services that are given a user when they start
_SHOWN = 400  # characters of a reason
_SOON = 0.002  # seconds until the next look whether a process without pipes has ended
_LOOK = 0.05  # seconds between looks at the scratch folder
_ENTRIES = 1024  # that a scratch folder may have


@dataclass
class _Heard:
    """What came out of a cell: its verdict, and what came of the program where it had to be ended."""

    verdict: bytes = b""
    stopped: Ran | None = None


def guarded(program: Program, limits: Limits, tier: Tier) -> Ran:
    """Run a program behind the walls of `tier`. Raises ExecutionError, before it runs, where they cannot be put up."""
    nonce = secrets.token_hex(16)
    job = _job(program, limits, tier) | {"nonce": nonce}
    with tempfile.TemporaryDirectory(prefix="autoprompt-", ignore_cleanup_errors=True) as scratch:
        listen, verdict = os.pipe()
        try:
            process = _started(scratch, verdict)
            os.close(verdict)
            try:
                heard = _Heard()
                if _sent(process, job | {"verdict": verdict}):
                    _hear(process, listen, heard, limits, Path(scratch) if tier == "plain" else None)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                status = process.wait()
                process.stdout.close() if process.stdout else None
        finally:
            os.close(listen)
    return heard.stopped or _judged(heard.verdict, status, nonce)


def _job(program: Program, limits: Limits, tier: Tier) -> dict[str, Any]:
    """What the cell is told, but for its pipe and its nonce; each text and number of it JSON."""
    as_root = os.getuid() == 0
    library = Path(sysconfig.get_path("stdlib"))
    return {
        **asdict(program),
        **asdict(limits),
        "tier": tier,
        "parent": os.getpid(),
        "user": next(_USERS) if as_root else -1,
        "searches": as_root and any(not folder.stat().st_mode & 0o001 for folder in (library, *library.parents)),
        "readable": _readable(library),
        "filter": system_call_filter(threads=limits.processes > 1).hex(),
    }


def _readable(library: Path) -> list[str]:
    """The standard library and the system's shared libraries and time zones."""
    own = {str(library), str(Path(sys.base_prefix, "lib"))}
    system = {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"}
    return sorted(own | system)


def _started(scratch: str, verdict: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *_FLAGS, str(_CELL)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PYTHONHASHSEED": "0"},  # one program, one score
        cwd=scratch,
        start_new_session=True,
        pass_fds=[verdict],
        bufsize=0,
    )


def _sent(process: subprocess.Popen[bytes], job: dict[str, Any]) -> bool:
    """Whether the cell took its job."""
    if process.stdin is None:
        return False
    try:
        with process.stdin as told:
            view = memoryview(json.dumps(job).encode())
            while view:
                view = view[told.write(view) or 0 :]
    except BrokenPipeError:
        return False
    return True


def _hear(process: subprocess.Popen[bytes], listen: int, heard: _Heard, limits: Limits, scratch: Path | None) -> None:
    """Listen until the program has ended or is to be ended."""
    end = time.monotonic() + limits.seconds
    printed = 0
    output = process.stdout.fileno() if process.stdout else -1
    with selectors.DefaultSelector() as selector:
        selector.register(listen, selectors.EVENT_READ)
        selector.register(output, selectors.EVENT_READ)
        while selector.get_map() or not _ended(process):
            if not selector.get_map():
                time.sleep(_SOON)
            for key, _ in selector.select(_LOOK if selector.get_map() else 0):
                found = os.read(key.fd, 2**16)
                if not found:
                    selector.unregister(key.fd)
                elif key.fd == listen:
                    heard.verdict = (heard.verdict + found)[:_LONGEST]
                else:
                    printed += len(found)
            heard.stopped = _stopped(printed, end, limits, scratch)
            if heard.stopped:
                return


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended; it is left to be waited for, so that its number stays its own."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _stopped(printed: int, end: float, limits: Limits, scratch: Path | None) -> Ran | None:
    """What came of a program that is to be ended now, or None."""
    if printed > limits.output:
        return Ran(False, "killed", f"It printed more than {limits.output} bytes.")
    if time.monotonic() > end:
        return Ran(False, "timeout", f"It ran for more than {limits.seconds:g} s.")
    if scratch is not None and _too_full(scratch, limits.files):
        return Ran(False, "killed", f"It wrote more than {limits.files} bytes, or {_ENTRIES} files.")
    return None


def _too_full(scratch: Path, most: int) -> bool:
    size = count = 0
    for folder, folders, files in os.walk(scratch):
        count += len(folders) + len(files)
        for name in files[:_ENTRIES]:
            with contextlib.suppress(OSError):  # it went meanwhile
                size += Path(folder, name).lstat().st_blocks * 512
        if size > most or count > _ENTRIES:
            return True
    return False


def _judged(verdict: bytes, status: int, nonce: str) -> Ran:
    """What the cell's verdict and exit status say. Raises ExecutionError where a wall was missing."""
    if verdict == nonce.encode():
        return Ran(True, "passed", "")
    try:
        told = json.loads(verdict)
    except (ValueError, RecursionError):
        told = None
    told = told if isinstance(told, dict) else {}
    if told.get("nonce") == nonce:
        raise ExecutionError(str(told.get("missing")))
    outcome, reason = told.get("outcome"), str(told.get("reason", ""))[:_SHOWN]
    if isinstance(outcome, str) and outcome in OUTCOMES and outcome != "passed":
        return Ran(False, outcome, reason)
    if status == EARLY:
        return Ran(False, "timeout", "Its CPU time was over.")
    if status > 128:
        return Ran(False, "killed", f"Signal {status - 128} ended it.")
    return Ran(False, "error", f"It ended before its tests did (exit status {status}).")
