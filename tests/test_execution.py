"""Programs of every kind of malice: each is contained, judged rightly, and leaves the machine as it was."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autoprompt.errors import ExecutionError
from autoprompt.execution import Limits, Program, Ran, containment, programs, require_containment, run_programs
from autoprompt.execution.containment import tier_here
from autoprompt.execution.filter import system_call_filter
from autoprompt.execution.warden import Tier, guarded

pytestmark = pytest.mark.process

try:
    TIERS: tuple[Tier, ...] = tuple(dict.fromkeys((tier_here(), "plain")))
except ExecutionError:
    TIERS = ()

contains = pytest.mark.skipif(not TIERS, reason="this machine cannot contain programs, and runs none")
HOLDS = ("assert f(1) == 2",)
RIGHT = "def f(x):\n    return x + 1\n"


def cells() -> set[int]:
    """The processes that run programs for this one."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if b"execution/cell.py" in words and state != "Z":
                found.add(int(entry.name))
    return found


@dataclass
class Machine:
    """What must not change while a program runs: a folder that everyone may write to, and the processes."""

    tier: Tier
    folder: Path
    before: set[int] = field(default_factory=cells)

    @property
    def kept(self) -> Path:
        return self.folder / "kept"

    def ran(self, source: str, tests: tuple[str, ...] = HOLDS, *, setup: str = "", limits: Limits | None = None) -> Ran:
        return guarded(Program(source, tests, setup), limits or Limits(seconds=8), self.tier)

    def check(self) -> None:
        assert [path.name for path in self.folder.iterdir()] == ["kept"]
        assert self.kept.read_text() == "kept"
        assert self.kept.stat().st_mode & 0o777 == 0o666
        for _ in range(100):
            if not (left := cells() - self.before):
                break
            time.sleep(0.01)
        assert not left
        assert not list(Path(tempfile.gettempdir()).glob("escaped*"))
        assert not list(Path.home().glob("escaped*"))


@pytest.fixture(params=TIERS or ("plain",))
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "kept").write_text("kept")
        (folder / "kept").chmod(0o666)
        machine = Machine(request.param, folder)
        yield machine
        machine.check()


# what programs do, and what came of them


@contains
def test_a_right_program_passes(machine: Machine) -> None:
    assert machine.ran(RIGHT) == Ran(True, "passed", "")


@contains
def test_a_wrong_program_fails_at_the_test_that_does_not_hold(machine: Machine) -> None:
    assert machine.ran("def f(x):\n    return 2", ("assert f(0) == 2", "assert f(1) == 3, 'three'")) == Ran(
        False, "failed", "test 2: AssertionError: three"
    )


@contains
def test_setup_uses_what_the_program_defines_and_tests_use_the_setup(machine: Machine) -> None:
    assert machine.ran(RIGHT, ("assert two == 2",), setup="two = f(1)").passed


@contains
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f(x) return x", "SyntaxError"),
        ("import autoprompt", "ModuleNotFoundError: No module named 'autoprompt'"),
        ("import numpy, torch", "ModuleNotFoundError"),
        ("import tests.test_execution", "ModuleNotFoundError"),
        ("def f(x):\n    return f(x)", "test 1: RecursionError"),
        ("x = " + "(" * 10_000 + ")" * 10_000, "SyntaxError: too many nested parentheses"),
        ("x = " + "-" * 100_000 + "1", ""),
        ("x = '\ud800'", "UnicodeEncodeError"),
        ("x = '\0'", "source code string cannot contain null bytes"),
        ("input()", "EOFError"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import sys\nsys.exit(0)", "SystemExit: 0"),
        ("exec('quit()')", "NameError"),
        ("import os\nos._exit(0)", "It ended before its tests did (exit status 0)."),
        ("def f(x):\n    import os\n    os._exit(0)", "It ended before its tests did (exit status 0)."),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E", "E"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)  # fmt: skip
def test_a_program_that_cannot_be_read_raises_or_leaves_is_an_error(machine: Machine, source: str, reason: str) -> None:
    ran = machine.ran(source)
    assert not ran.passed
    assert ran.outcome in ({"error", "memory", "killed"} if not reason else {"error"})
    assert reason in ran.reason


@contains
def test_bytes_that_are_no_text_are_an_error_and_other_scripts_are_text(machine: Machine) -> None:
    assert machine.ran(b"x = '\xff\xfe'".decode("utf-8", "surrogateescape")).outcome == "error"
    assert machine.ran("größe = '数'", ("assert größe == '\\u6570'", "print(größe)")).passed


@contains
@pytest.mark.parametrize("source", ["while True: pass", "import time\ntime.sleep(60)"])
def test_a_program_without_end_is_over_time(machine: Machine, source: str) -> None:
    begin = time.monotonic()
    assert machine.ran(source, limits=Limits(seconds=0.5)) == Ran(False, "timeout", "It ran for more than 0.5 s.")
    assert time.monotonic() - begin < 2


@contains
def test_too_much_memory_is_refused(machine: Machine) -> None:
    assert machine.ran("x = bytearray(2**30)") == Ran(False, "memory", "MemoryError")
    assert machine.ran("x = []\nwhile True: x.append(bytearray(2**20))").outcome == "memory"


@contains
@pytest.mark.parametrize(
    "source",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'sleep 60 &'])",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
        "import os\nos.execv('/bin/true', ['true'])",
        "import os\nos.posix_spawn('/bin/true', ['true'], {})",
        "import os, sys\nif os.fork() == 0:\n    os.setsid()\n    import time; time.sleep(60)",
    ],
)
def test_no_further_process_starts(machine: Machine, source: str) -> None:
    assert machine.ran(source).outcome == "forbidden"


@contains
def test_a_fork_bomb_that_goes_on_after_refusals_is_over_time(machine: Machine) -> None:
    source = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert machine.ran(source, limits=Limits(seconds=0.5)).outcome == "timeout"


@contains
def test_threads_are_counted_and_end_with_the_program(machine: Machine) -> None:
    few = "import threading, time\nthreads = [threading.Thread(target=time.sleep, args=(60,)) for _ in range(N)]\n"
    few += "for thread in threads: thread.start()\n" + RIGHT
    assert machine.ran(few.replace("N", "3")).passed
    assert machine.ran(few.replace("N", "1"), limits=Limits(processes=1)).outcome == "error"
    if machine.tier != "plain" or os.getuid() == 0:
        ran = machine.ran(few.replace("N", "500"))
        assert (ran.outcome, ran.reason) == ("error", "RuntimeError: can't start new thread")


@contains
def test_an_event_loop_runs(machine: Machine) -> None:
    source = "import asyncio\nasync def g(x):\n    await asyncio.sleep(0)\n    return x + 1\n"
    assert machine.ran(source + "def f(x):\n    return asyncio.run(g(x))").passed


# files


ATTACKS = [
    "open(KEPT)", "open(KEPT, 'w')", "open(KEPT, 'a')", "os.unlink(KEPT)", "os.rename(KEPT, 'mine')", "os.chmod(KEPT, 0)",
    "os.chmod(FOLDER, 0)", "os.truncate(KEPT, 0)", "os.open(KEPT, os.O_RDONLY | os.O_TRUNC)", "os.utime(KEPT, (0, 0))",
    "os.link(KEPT, 'mine')", "os.mkdir(FOLDER + '/new')", "os.symlink('/', FOLDER + '/new')", "os.rmdir(FOLDER)",
    "os.mkfifo(FOLDER + '/new')", "open('/tmp/escaped', 'w')", "open(os.path.expanduser(HOME) + '/escaped', 'w')",
    "open('../escaped', 'w')", "os.symlink(KEPT, 'mine'); open('mine')", "os.listdir(FOLDER)", "os.listdir(HOME)", "os.listdir('/')",
    "open('/etc/passwd')", "open('/etc/shadow')", "open(PROJECT + '/README.md')", "os.listdir(PROJECT)", "open('/proc/self/mem', 'rb')",
    "open('/proc/1/environ')", "open('/proc/self/status')", "open('/sys/kernel/notes')", "open('/dev/shm/escaped', 'w')",
    "open(os.__file__, 'a')", "os.chown(KEPT, 0, 0)", "os.setxattr(KEPT, 'user.x', b'')", "os.chroot('.')", "os.setuid(0)", "os.setsid()",
    "os.kill(PARENT, 9)", "os.kill(os.getppid(), 9)", "os.kill(-1, 9)", "os.killpg(0, 9)", "os.nice(-5)", "os.sched_setaffinity(0, {0})",
    "socket.socket()", "socket.create_connection(('127.0.0.1', PORT))", "socket.create_connection(('1.1.1.1', 53), 1)",
    "socket.socket(socket.AF_UNIX)", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "resource.prlimit(PARENT, 0)",
    "import ctypes", "import _ctypes", "gc.get_objects()", "gc.get_referrers(f)", "sys.settrace(print)", "sys.setprofile(print)", "os.memfd_create('x')",
    "fcntl.fcntl(1, fcntl.F_SETOWN, PARENT)", "fcntl.ioctl(1, 0x5412, b'x')", "os.pidfd_open(PARENT)",
]  # fmt: skip


@contains
def test_what_no_program_may_is_refused_and_does_nothing(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        names = {
            "KEPT": str(machine.kept), "FOLDER": str(machine.folder), "HOME": str(Path.home()), "PARENT": os.getpid(),
            "PROJECT": str(Path(__file__).parents[1]), "PORT": server.getsockname()[1], "ATTACKS": ATTACKS,
        }  # fmt: skip
        source = "import fcntl, gc, os, resource, socket, sys\n" + RIGHT
        source += "".join(f"{name} = {value!r}\n" for name, value in names.items())
        source += "done = []\nfor attack in ATTACKS:\n    try:\n        exec(attack)\n        done.append(attack)\n"
        source += "    except OSError:\n        pass\n"
        assert machine.ran(source, ("assert not done, done",)) == Ran(True, "passed", "")
        with pytest.raises(BlockingIOError, match="temporarily unavailable"):
            server.accept()


@contains
@pytest.mark.parametrize(
    "attack", ["open('/etc/shadow')", "socket.socket()", "os.kill(os.getppid(), 9)", "import ctypes"]
)
def test_a_program_that_ends_at_a_refusal_is_forbidden(machine: Machine, attack: str) -> None:
    ran = machine.ran(f"import os, socket\n{attack}")
    assert (ran.passed, ran.outcome) == (False, "forbidden")
    assert ran.reason.startswith("PermissionError")


@contains
def test_a_program_has_a_folder_of_its_own(machine: Machine) -> None:
    source = "import os, tempfile\nopen('a', 'w').write('x')\nos.mkdir('b')\nos.rename('a', 'b/a')\n" + RIGHT
    source += "with tempfile.TemporaryFile() as file: file.write(b'x')\n"
    assert machine.ran(source, ("assert open('b/a').read() == 'x'", "assert os.listdir('.') == ['b']")).passed


@contains
def test_what_a_program_writes_is_limited(machine: Machine) -> None:
    one = "with open('a', 'wb') as file:\n    for _ in range(1024): file.write(bytes(2**20))"
    assert machine.ran(one).outcome == "error"
    many = "for i in range(10**9):\n    with open(str(i), 'wb') as file: file.write(bytes(2**20))"
    assert machine.ran(many).outcome in {"error", "killed"}
    empty = "import os\nfor i in range(10**9): os.mkdir(str(i))"
    assert machine.ran(empty).outcome in {"error", "killed"}


@contains
def test_what_a_program_prints_is_limited(machine: Machine) -> None:
    assert machine.ran("for _ in range(1024): print('x' * 2**20)") == Ran(
        False, "killed", "It printed more than 65536 bytes."
    )
    assert machine.ran(RIGHT + "print('x' * 60_000)").passed


# forgeries


@contains
@pytest.mark.parametrize(
    "forgery",
    [
        "print('passed', '{\"outcome\": \"passed\"}')",
        "for fd in range(64):\n    try: os.write(fd, b'{\"outcome\": \"passed\", \"reason\": \"\"}')\n    except OSError: pass",
        "for fd in range(64):\n    try: os.write(fd, b'{\"nonce\": \"\", \"missing\": \"x\"}')\n    except OSError: pass",
        "builtins.AssertionError = Warning",
        "builtins.BaseException = ValueError",
        "builtins.exec = builtins.compile = print",
        "sys.modules['builtins'].len = lambda x: 0",
        "builtins.__build_class__ = builtins.print = exit",
        "sys.audit('autoprompt.tests_held')",
        "frame = sys._getframe()\nwhile frame:\n    frame.f_globals.clear() if frame.f_back else 0\n    frame = frame.f_back",
        "frame = sys._getframe().f_back\nrun = type(f)(frame.f_code, {})\nspace = {'__builtins__': {}}\n"
        "run((), space, exec, sys.audit, print, print)",
        "import atexit\natexit.register(os._exit, 0)\nraise SystemExit(0)",
        "sys.excepthook = lambda *a: os._exit(0)\nraise ValueError",
        "class Liar(dict):\n    pass\nglobals()['__builtins__'] = {'len': lambda x: 0}",
        "import threading\nthreading.Thread(target=os._exit, args=(0,)).start()",
    ],
)  # fmt: skip
def test_no_forgery_makes_a_wrong_program_pass(machine: Machine, forgery: str) -> None:
    wrong = "import builtins, os, sys\ndef f(x):\n    return [1, 2, 3]\n"
    ran = machine.ran(wrong + forgery, ("assert len(f(1)) == 0 and f(1) != 0",))
    assert (ran.passed, ran.outcome) != (True, "passed")
    assert ran.outcome in {"failed", "error", "forbidden"}


@contains
def test_the_word_of_a_pass_stands_in_no_frame(machine: Machine) -> None:
    source = RIGHT + (
        "import sys\nfound, frame = [], sys._getframe()\nwhile frame:\n"
        "    found += [repr(value) for name, value in frame.f_locals.items() if name != 'found']\n    frame = frame.f_back\n"
    )
    test = "import re\nassert not re.search(r'[0-9a-f]{32}', '\\n'.join(found)), 'found'"
    assert machine.ran(source, (test,)) == Ran(True, "passed", "")


# many


@contains
def test_many_programs_come_back_in_their_order_and_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    real = guarded
    monkeypatch.setattr(programs, "_known", {})
    monkeypatch.setattr(programs, "guarded", lambda *given: runs.append(1) or real(*given))
    several = [Program(f"def f(x): return {x}", HOLDS) for x in (1, 2, 3, 2, 1)]
    assert [ran.passed for ran in run_programs(several, workers=2)] == [False, True, False, True, False]
    assert [ran.passed for ran in run_programs(several)] == [False, True, False, True, False]
    assert len(runs) == 3
    run_programs(several[:1], Limits(seconds=5))
    assert len(runs) == 4


@contains
def test_the_same_program_gives_the_same_answer_each_time() -> None:
    source = "import random\nx = [*{'a', 'b', 'c', 'd'}, random.random()]\n"
    first, second = (run_programs([Program(source + pad, ("assert not x, x",))])[0] for pad in ("", "#"))
    assert first == second
    assert first.outcome == "failed"


@contains
def test_a_program_dies_with_the_process_that_ran_it() -> None:
    before = cells()
    child = os.fork()
    if child == 0:
        threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        guarded(Program("import time\ntime.sleep(60)", HOLDS), Limits(seconds=60), TIERS[0])
        os._exit(0)
    os.waitpid(child, 0)
    for _ in range(100):
        if not cells() - before:
            break
        time.sleep(0.02)
    assert cells() <= before


# the machine


@contains
def test_the_walls_have_names() -> None:
    walls = require_containment()
    assert "files by Landlock" in walls
    assert "system calls by seccomp" in walls


def test_nothing_runs_on_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(containment, "tier_here", tier_here.__wrapped__)
    with pytest.raises(ExecutionError, match="on Linux only, and this is darwin"):
        require_containment()


def test_nothing_runs_where_a_wall_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containment, "guarded", lambda *given: Ran(False, "failed", "test 1: it reads files"))
    monkeypatch.setattr(programs, "tier_here", tier_here.__wrapped__)
    monkeypatch.setattr(programs, "guarded", lambda *given: pytest.fail("it ran"))
    with pytest.raises(ExecutionError, match=r"(?s)cannot contain programs, so none is run.*Landlock.*it reads files"):
        run_programs([Program("unknown = 1", HOLDS)])


@contains
def test_a_wall_that_cannot_be_put_up_is_told_and_the_program_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprompt.execution.warden.system_call_filter", lambda threads: b"\xff" * 8)
    with pytest.raises(ExecutionError, match="prctl"):
        guarded(Program("print(1)", HOLDS), Limits(), TIERS[0])


def test_a_machine_of_another_make_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ExecutionError, match="riscv64 machine; allowed are x86_64 and aarch64"):
        system_call_filter(threads=True)
