"""The process around one program: it puts up the walls, runs the program inside them, and ends with it.

Started as a script, by itself; imports the standard library alone. A job, JSON on standard input, says what to do. A
wall that cannot be put up ends it before the program is read: the pipe `verdict` then has the job's nonce, and what
is missing. Numbers of the kernel's interface: linux/prctl.h, sched.h, landlock.h, capability.h, mount.h.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import signal
import struct
import sys
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["EARLY", "main"]

_NEW = {"mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "pid": 0x20000000, "net": 0x40000000}
_NEW_USER = 0x10000000
_DEATH_SIGNAL, _KEEP_CAPABILITIES, _SECCOMP, _NO_NEW_PRIVILEGES = 1, 8, 22, 38
_PRIVATE, _MOUNT_FLAGS = 0x4000 | 0x40000, 2 | 4 | 8  # MS_REC|MS_PRIVATE; no set-uid, no devices, no programs
_READ_SEARCH = 2  # CAP_DAC_READ_SEARCH
_VERSION_3 = 0x20080522  # of capset
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446

# rights to files that each version of Landlock brought, as bits; scratch folders have none of the last row
_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
_READ_FILE, _READ_FOLDER, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
_NOT_IN_SCRATCH = 1 << 0 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 15  # programs, devices, sockets, calls to devices

EARLY = 124  # the exit status where the CPU time was over


def main() -> None:
    """Do the job on standard input."""
    job: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    try:
        _call("prctl", _DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        sys.path.insert(0, str(Path(__file__).parent))
        harness = importlib.import_module("harness")
        del sys.path[0], sys.modules["harness"]
        if os.getppid() != job["parent"]:
            os._exit(1)
        if job["tier"] != "plain":
            _namespaces(job["tier"])
        lives, held = os.pipe()
        child = os.fork()
        if child:
            _wait(child, job)
        os.close(held)
        _walls(job, lives)
    except (OSError, ValueError) as error:  # a wall that does not stand: nothing runs
        os.write(job["verdict"], json.dumps({"nonce": job["nonce"], "missing": str(error)}).encode())
        os._exit(1)
    for name in [name for name in sys.modules if name.split(".")[0] in ("ctypes", "_ctypes")]:
        del sys.modules[name]
    harness.judge(**{name: job.pop(name) for name in ("source", "setup", "tests", "nonce", "verdict")})


def _wait(child: int, job: dict[str, Any]) -> NoReturn:
    """Wait for the program's process, and end as it ended."""
    for held in (0, 1, 2, job["verdict"]):
        os.close(held)
    _, status, used = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        early = used.ru_utime + used.ru_stime >= job["seconds"] and os.WTERMSIG(status) in (9, signal.SIGXCPU)
        os._exit(EARLY if early else 128 + os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _namespaces(tier: str) -> None:
    """Processes, network and mounts of our own; tier "root" by the right to, "user" by a namespace of users."""
    user, group = os.getuid(), os.getgid()
    _call("unshare", sum(_NEW.values()) | (_NEW_USER if tier == "user" else 0))
    if tier == "user":
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _walls(job: dict[str, Any], lives: int) -> None:
    """All walls, from the outermost to the innermost; `lives`: a pipe's end that closes with our parent."""
    scratch, user = str(Path.cwd()), int(job["user"])
    owner = user if user >= 0 else os.getuid()
    if job["tier"] == "plain":
        if user >= 0:
            os.chown(scratch, user, user)
    else:
        _call("mount", b"none", b"/", None, _PRIVATE, None)
        options = f"size={job['files']},nr_inodes=1024,mode=0700,uid={owner},gid={user if user >= 0 else os.getgid()}"
        _call("mount", b"tmpfs", os.fsencode(scratch), b"tmpfs", _MOUNT_FLAGS, options.encode())
        os.chdir(scratch)
    _limit(job)
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _files(scratch, job["readable"])
    _become(user, job["searches"])
    _call("prctl", _DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # here, as a change of user forgets it
    if select.select([lives], [], [], 0)[0]:  # the parent ended before
        os._exit(1)
    os.closerange(3, job["verdict"])
    os.closerange(job["verdict"] + 1, 1 << 12)
    _filter(bytes.fromhex(job.pop("filter")))


def _limit(job: dict[str, Any]) -> None:
    seconds = int(job["seconds"]) + 1
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: job["memory"],
        resource.RLIMIT_FSIZE: job["files"],
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if job["tier"] == "user" or job["user"] >= 0:  # elsewhere all that the user runs would count
        limits[resource.RLIMIT_NPROC] = job["processes"]
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _files(scratch: str, readable: list[str]) -> None:
    """Landlock: all in the scratch folder, reading the given paths, and nothing else; no network, no signals out."""
    version = _call("syscall", _CREATE_RULESET, None, 0, 1)
    rights = _RIGHTS[max(known for known in _RIGHTS if known <= version)]
    network, scope = 3 if version >= 4 else 0, 3 if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _call("syscall", _CREATE_RULESET, struct.pack("=QQQ", rights, network, scope), size, 0)
    allowed = {path: _READ_FILE | (_READ_FOLDER if Path(path).is_dir() else 0) for path in readable}
    allowed |= {"/dev/null": _READ_FILE | _WRITE_FILE, scratch: rights & ~_NOT_IN_SCRATCH}
    for path, given in allowed.items():
        with contextlib.suppress(FileNotFoundError):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            _call("syscall", _ADD_RULE, rules, 1, struct.pack("=Qi", given, place), 0)
            os.close(place)
    _call("syscall", _RESTRICT_SELF, rules, 0)
    os.close(rules)
    os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 0)


def _become(user: int, searches: bool) -> None:
    """Another user, where we are root, and no capability but that of reading what Landlock lets through."""
    kept = 1 << _READ_SEARCH if user >= 0 and searches else 0
    if user >= 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        _call("prctl", _KEEP_CAPABILITIES, 1, 0, 0, 0)
        os.setresuid(user, user, user)
    _call("capset", struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", kept, kept, 0, 0, 0, 0))


def _filter(steps: bytes) -> None:
    import ctypes

    held = ctypes.create_string_buffer(steps, len(steps))
    program = struct.pack("@HP", len(steps) // 8, ctypes.addressof(held))
    _call("prctl", _SECCOMP, 2, program, 0, 0)


def _call(name: str, *arguments: int | bytes | None) -> int:
    """A function of the C library that says -1 where it fails. Raises OSError."""
    import ctypes

    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    call = getattr(ctypes.CDLL(None, use_errno=True), name)
    call.restype = ctypes.c_long if name == "syscall" else ctypes.c_int
    found = int(call(*given))
    if found == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}({', '.join(str(a) for a in arguments[:2])[:40]}): {os.strerror(number)}")
    return found


if __name__ == "__main__":
    main()
