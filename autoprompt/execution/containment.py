"""Whether this machine can contain programs, and behind which walls: found by trying them."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path

from autoprompt.errors import ExecutionError
from autoprompt.execution.program import Limits, Program
from autoprompt.execution.warden import TIERS, Tier, guarded

__all__ = ["require_containment", "tier_here"]

# what stands behind the walls of each tier, beside what stands everywhere
_BESIDE = {
    "root": ("own processes, network, mounts and scratch memory (namespaces)",),
    "user": ("own users, processes, network, mounts and scratch memory (namespaces)",),
    "plain": (),
}
_EVERYWHERE = (
    "files by Landlock",
    "system calls by seccomp",
    "limits of CPU time, memory, threads, files and output",
)

# tries what no program may; each line must be refused
_ESCAPE = """
import os, socket
def refused(do, *given):
    try:
        do(*given)
    except OSError:
        return True
    return False
"""


def require_containment() -> tuple[str, ...]:
    """The walls that stand around programs here, one line each.

    Raises ExecutionError where this machine cannot contain programs; the message says what is missing.
    """
    tier = tier_here()
    user = ("a user of its own without rights",) if os.getuid() == 0 else ()
    return (*_BESIDE[tier], *_EVERYWHERE, *user)


@functools.cache
def tier_here() -> Tier:
    """The strongest walls that stand here. Raises ExecutionError as `require_containment` does."""
    if sys.platform != "linux":
        raise ExecutionError(
            f"Programs can be contained on Linux only, and this is {sys.platform}; run them in a Linux container or "
            "virtual machine, or choose another metric."
        )
    missing = []
    for tier in TIERS:
        if tier == ("user" if os.getuid() == 0 else "root"):
            continue  # root needs no namespace of users, and no one else can do without
        try:
            if reason := _open(tier):
                missing.append(f"{tier}: {reason}")
            else:
                return tier
        except ExecutionError as error:
            missing.append(f"{tier}: {error}")
    raise ExecutionError(
        "This machine cannot contain programs, so none is run. Needed are Linux 5.13 or newer with Landlock "
        "(`landlock` in /sys/kernel/security/lsm, or the kernel's parameter lsm=) and seccomp, and in a container a "
        "profile that lets both through (Docker from 23 on does). Tried:\n  - " + "\n  - ".join(missing)
    )


def _open(tier: Tier) -> str:
    """Which wall of a tier does not hold, or an empty text."""
    with tempfile.TemporaryDirectory(prefix="autoprompt-") as folder:
        kept = Path(folder, "kept")
        kept.write_text("kept")
        kept.chmod(0o666)
        Path(folder).chmod(0o777)
        tests = (
            f"assert refused(open, {str(kept)!r}), 'it reads files'",
            f"assert refused(open, {str(kept)!r}, 'a'), 'it writes files'",
            f"assert refused(os.unlink, {str(kept)!r}), 'it deletes files'",
            f"assert refused(os.chmod, {str(kept)!r}, 0), 'it changes modes'",
            f"assert refused(os.listdir, {folder!r}), 'it lists folders'",
            "assert refused(socket.socket), 'it opens sockets'",
            "assert refused(os.fork), 'it starts processes'",
            f"assert refused(os.kill, {os.getpid()}, 0), 'it sends signals'",
            "open('mine', 'w').write('x'); assert open('mine').read() == 'x', 'it has no folder'",
        )
        ran = guarded(Program(_ESCAPE, tests), Limits(), tier)
        if kept.read_text() != "kept":
            return "it changes files"
    return ran.reason
