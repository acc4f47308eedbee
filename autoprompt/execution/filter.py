"""The system calls that a program may make, as a filter for the kernel (seccomp with classic BPF).

What is not named here is refused with EPERM: above all sockets, further processes, other programs, signals to
anyone, mounts, tracing, and changes to a file's owner, mode or times.
See Linux' Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct

from autoprompt.errors import ExecutionError

__all__ = ["MACHINES", "system_call_filter"]

# machine -> its AUDIT_ARCH number (linux/audit.h), and the place of its numbers below
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# name:number on x86_64:number on aarch64 (asm/unistd_64.h, asm-generic/unistd.h); -: there is none
_ALLOWED = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
lseek:8:62 close:3:57 close_range:436:436 dup:32:23 dup2:33:- dup3:292:24 pipe:22:- pipe2:293:59 access:21:-
faccessat:269:48 faccessat2:439:439 stat:4:- lstat:6:- fstat:5:80 newfstatat:262:79 statx:332:291 readlink:89:-
readlinkat:267:78 getdents64:217:61 getcwd:79:17 chdir:80:49 fchdir:81:50 mkdir:83:- mkdirat:258:34 rmdir:84:-
unlink:87:- unlinkat:263:35 rename:82:- renameat:264:38 renameat2:316:276 ftruncate:77:46 fsync:74:82
fdatasync:75:83 fallocate:285:47 copy_file_range:326:285 sendfile:40:71 flock:73:32 fadvise64:221:223 umask:95:166
statfs:137:43 fstatfs:138:44 mmap:9:222 munmap:11:215 mprotect:10:226 mremap:25:216 madvise:28:233 brk:12:214
mincore:27:232 msync:26:227 membarrier:324:283 rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139
rt_sigpending:127:136 rt_sigtimedwait:128:137 rt_sigsuspend:130:133 sigaltstack:131:132 restart_syscall:219:128
alarm:37:- setitimer:38:103 getitimer:36:102 pause:34:- futex:202:98 futex_waitv:449:449 set_robust_list:273:99
get_robust_list:274:100 rseq:334:293 set_tid_address:218:96 arch_prctl:158:- exit:60:93 exit_group:231:94
sched_yield:24:124 sched_getaffinity:204:123 sched_getparam:143:121 sched_getscheduler:145:120 nanosleep:35:101
clock_nanosleep:230:115 clock_gettime:228:113 clock_getres:229:114 gettimeofday:96:169 time:201:- times:100:153
getrusage:98:165 sysinfo:99:179 uname:63:160 getrandom:318:278 getcpu:309:168 getpid:39:172 getppid:110:173
gettid:186:178 getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177 getgroups:115:158 getpgrp:111:-
getpgid:121:155 getsid:124:156 getresuid:118:148 getresgid:120:150 getrlimit:97:163 poll:7:- ppoll:271:73
select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:-
epoll_pwait:281:22 eventfd2:290:19 recvfrom:45:207 getsockname:51:204 getsockopt:55:209 shutdown:48:210
wait4:61:260 waitid:247:95
"""
# those that are allowed for some arguments only
_ASKED = """
open:2:- openat:257:56 clone:56:220 clone3:435:435 ioctl:16:29 fcntl:72:25 socketpair:53:199 sendto:44:206
prlimit64:302:261
"""

_THREAD, _NAMESPACES = 0x00010000, 0x7E020000  # CLONE_THREAD; CLONE_NEW*
_TRUNCATE, _WRITES = 0o1000, 0o3  # O_TRUNC; O_WRONLY and O_RDWR
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # is it a terminal, how large, bytes waiting, flags
_OWNERS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: have the kernel send a signal to another process

_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS  # so that the C library takes an older call in its place

_LOAD, _EQUAL, _ABOVE, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000

_Step = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def system_call_filter(threads: bool) -> bytes:
    """The filter for this machine, an array of struct sock_filter; `threads`: whether the program may start some.

    Raises ExecutionError on a machine whose numbers are not known.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        raise ExecutionError(
            f"Programs cannot be contained on a {machine} machine; allowed are {' and '.join(MACHINES)}."
        )
    arch, place = MACHINES[machine]
    steps: list[_Step] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_ABOVE, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    for number in _numbers(_ALLOWED, place).values():
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for name, number in _numbers(_ASKED, place).items():
        asked = _asked(name, threads)
        steps += [(_EQUAL, 0, len(asked), number), *asked]
    steps.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _numbers(table: str, place: int) -> dict[str, int]:
    found = (entry.split(":") for entry in table.split())
    return {name: int(numbers[place]) for name, *numbers in found if numbers[place] != "-"}


def _asked(name: str, threads: bool) -> list[_Step]:
    """What is done about a call of `name` by its arguments; every way through ends in a return."""
    if name in {"open", "openat"}:  # Landlock before 6.2 knows no truncation: reading must not truncate
        flags = _argument(1 if name == "open" else 2)
        return [flags, (_AND, 0, 0, _TRUNCATE | _WRITES), *_unless((_TRUNCATE,))]
    if name == "clone":
        wanted = [_argument(0), (_AND, 0, 0, _THREAD | _NAMESPACES), *_only((_THREAD,))]
        return wanted if threads else [(_RETURN, 0, 0, _REFUSE)]
    if name == "clone3":  # its flags lie in memory, where a filter cannot look
        return [(_RETURN, 0, 0, _UNKNOWN)]
    if name == "ioctl":
        return [_argument(1), *_only(_IOCTLS)]
    if name == "fcntl":
        return [_argument(1), *_unless(_OWNERS)]
    if name == "socketpair":  # a pair that knows only itself: event loops wake up by it
        return [_argument(0), *_only((socket.AF_UNIX,))]
    # sendto without an address, prlimit64 of the process itself
    at = 4 if name == "sendto" else 0
    high = (_LOAD, 0, 0, _ARGUMENTS + 8 * at + 4)
    return [high, (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE), _argument(at), *_only((0,))]


def _argument(at: int) -> _Step:
    """Load the lower half of an argument; both machines are little-endian."""
    return _LOAD, 0, 0, _ARGUMENTS + 8 * at


def _only(values: tuple[int, ...]) -> list[_Step]:
    steps: list[_Step] = [(_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [*steps, (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]


def _unless(values: tuple[int, ...]) -> list[_Step]:
    steps: list[_Step] = [(_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [*steps, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
