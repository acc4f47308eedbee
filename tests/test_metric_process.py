"""metrics/process.py, child.py, isolated.py, wire.py: what a metric of the user's own may do, and the run goes on."""

from __future__ import annotations

import contextlib
import gc
import io
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprompt.errors import Halted, MetricError
from autoprompt.metrics import Metric, Outcome, load_metric
from autoprompt.metrics.base import Returned
from autoprompt.metrics.process import Process
from autoprompt.metrics.wire import frame, outcome_in, outcome_out, received, returned_in, returned_out

pytestmark = pytest.mark.process

LABELS = ("a", "b", "c")
Loader = Callable[..., Metric]


def outcome(targets: str = "aabc", seed: int = 0) -> Outcome:
    drawn = np.random.default_rng(seed).dirichlet(np.ones(3), len(targets))
    return Outcome(tuple(targets), drawn, LABELS)


BAD = Outcome(
    ("c",) * 5, np.full((5, 3), 1 / 3), LABELS
)  # what the metrics below do their worst on; loading has no such


@pytest.fixture
def own(tmp_path: Path) -> Loader:
    """A metric of a file, from the lines of its body; five targets are `bad`."""

    def loaded(*body: str, seconds: float = 60.0, name: str = "f", head: str = "") -> Metric:
        lines = "\n    ".join(["bad = len(targets) == 5", *body])
        (tmp_path / "m.py").write_text(
            f"import os, sys, time\nfrom autoprompt.metrics import metric\n{head}\n@metric\n"
            f"def {name}(targets, predictions, probabilities, labels):\n    {lines}\n",
            encoding="utf-8",
        )
        return load_metric("m.py:f", tmp_path, LABELS, seconds)

    return loaded


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def ends(pid: int, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


# -- another process -------------------------------------------------------------------------


def test_a_metric_runs_in_one_process_that_is_not_ours_and_stays(own: Loader) -> None:
    found = own("return os.getpid()")
    pids = {found(outcome(seed=seed)) for seed in range(5)}
    assert len(pids) == 1
    assert pids != {os.getpid()}
    assert alive(int(pids.pop()))


def test_a_builtin_metric_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert load_metric("macro_f1", Path())(outcome("c")) in {0, 1}


def test_a_process_ends_with_its_metric(own: Loader) -> None:
    found = own("return os.getpid()")
    pid = int(found(outcome()))
    del found
    gc.collect()
    assert not alive(pid)


def test_numbers_keep_their_bits_both_ways(own: Loader) -> None:
    found, given = own("return probabilities[:, 1]"), outcome("abcabc" * 50, 3)
    assert np.array_equal(found.values(given), given.probabilities[:, 1])
    tiny = Outcome(("a",), np.array([[5e-324, 1 - 2**-53, -0.0]]), LABELS)
    assert found.values(tiny).tobytes() == tiny.probabilities[:, 1].tobytes()


def test_what_a_metric_changes_is_not_changed_here(own: Loader) -> None:
    found, given = own("probabilities[:] = 7", "targets.clear()", "labels.clear()", "return 1.0"), outcome()
    before = given.probabilities.copy()
    assert found(given) == 1
    assert np.array_equal(given.probabilities, before)
    assert given.targets == ("a", "a", "b", "c")


def test_texts_of_any_kind_arrive(own: Loader) -> None:
    labels = ("ja\n", "n\u00e9in \U0001f600", "\ud800", '"')
    given = Outcome(labels[::-1], np.eye(4)[[0, 1, 2, 2]], labels)
    found = own("return [t == p for t, p in zip(targets, predictions)]")
    assert found.values(given).tolist() == [0, 0, 0, 0]
    assert found.values(Outcome(labels, np.eye(4), labels)).tolist() == [1, 1, 1, 1]


def test_no_examples_are_an_outcome(own: Loader) -> None:
    found = own("return [1.0] * len(targets)")
    assert found.values(Outcome((), np.zeros((0, 3)), LABELS)).shape == (0,)


def test_messages_beyond_the_pipes_pass_both_ways(own: Loader) -> None:
    found, given = own("print('x' * 500_000)", "return probabilities[:, 0]"), outcome("abc" * 60_000)
    assert np.array_equal(found.values(given), given.probabilities[:, 0])


def test_many_outcomes_go_in_one_go_and_give_what_single_calls_do(own: Loader) -> None:
    found = own("return float(probabilities[:, 0].max())")
    outcomes = [outcome("abc" * 100, seed) for seed in range(300)]
    assert found.many(outcomes) == [float(o.probabilities[:, 0].max()) for o in outcomes]
    assert found.many(outcomes[::-1] + outcomes[:2]) == [found(o) for o in [*outcomes[::-1], *outcomes[:2]]]
    assert found.many([]) == []


def test_many_outcomes_of_a_builtin_metric_are_its_calls() -> None:
    outcomes = [outcome(seed=seed) for seed in range(4)]
    for name in ("accuracy", "macro_f1", "log_loss"):
        found = load_metric(name, Path())
        assert found.many(outcomes) == [found(o) for o in outcomes]


def test_an_outcome_is_asked_for_once_as_long_as_it_lives(own: Loader, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    found = own(f"with open({str(log)!r}, 'a') as file: file.write('x')", "return [1.0] * len(targets)")
    log.write_text("")
    given = outcome()
    assert found(given) == found(given) == 1
    assert found.per_example(given) is not None
    assert log.read_text() == "x"
    for seed in range(20):  # new ones, at the same places in memory
        found(outcome(seed=seed))
    assert log.read_text() == "x" * 21


def test_what_is_known_of_an_outcome_cannot_be_changed(own: Loader) -> None:
    values = own("return [1.0] * len(targets)").values(outcome())
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 2


def test_threads_may_share_a_metric(own: Loader) -> None:
    found = own("return probabilities[:, 2]")
    wrong: list[int] = []

    def work(seed: int) -> None:
        given = outcome("abc" * 500, seed)
        if not np.array_equal(found.values(given), given.probabilities[:, 2]):
            wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_fork_of_ours_has_a_process_of_its_own(own: Loader) -> None:
    found = own("return os.getpid()")
    pid = found(outcome())
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.write(writes, str(int(found(outcome(seed=1)))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writes)
    with os.fdopen(reads) as file:
        other = int(file.read())
    assert other != pid
    assert found(outcome(seed=2)) == pid
    assert ends(other)


# -- what it prints ------------------------------------------------------------------------------


def test_what_a_metric_prints_does_not_reach_our_screen(own: Loader, capfd: pytest.CaptureFixture[str]) -> None:
    found = own(
        "print('printed')",
        "print('warned', file=sys.stderr)",
        "os.write(1, b'written')",
        "os.system('echo echoed')",
        "return 1.0",
        head="print('loaded')",
    )
    assert found(outcome()) == 1
    assert capfd.readouterr() == ("", "")


def test_the_last_that_was_printed_stands_in_the_error(own: Loader) -> None:
    found = own("print(len(targets))", "if bad:", "    print('one\\x1b[31m\\ntwo', end='')", "    1 / 0", "return 1.0")
    found(outcome())
    with pytest.raises(
        MetricError, match=r"^The metric 'f' raised ZeroDivisionError: division by zero \(line 10\)\. It printed: 5 "
    ) as caught:
        found(BAD)
    assert str(caught.value).endswith(" It printed: 5 | one\ufffd[31m | two")


def test_a_metric_that_prints_without_end_is_not_stopped_by_it(own: Loader) -> None:
    found = own("for _ in range(20_000): print('a line that is quite long ' * 4)", "return 1.0")
    assert found(outcome()) == 1


def test_a_metric_has_nothing_to_read(own: Loader) -> None:
    found = own("return len(sys.stdin.read())")
    assert found(outcome()) == 0


# -- what it breaks --------------------------------------------------------------------------------

HANGS = {
    "sleeps": ("time.sleep(60)",),
    "loops": ("while True: pass",),
    "holds the interpreter": ("import re", "re.match(r'(a+)+$', 'a' * 40 + 'b')"),
    "ignores signals": ("import signal", "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "time.sleep(60)"),
    "closes its pipes": ("os.closerange(3, 64)", "time.sleep(60)"),
}


def when_bad(lines: tuple[str, ...]) -> list[str]:
    return ["if bad:", *("    " + line for line in lines), "return os.getpid()"]


@pytest.mark.parametrize("kind", [kind for kind in HANGS if kind != "closes its pipes"])
@pytest.mark.fault("custom metric that hangs")
def test_a_metric_that_hangs_is_ended_and_started_again(kind: str, own: Loader) -> None:
    found = own(*when_bad(HANGS[kind]), seconds=0.7)
    pid = found(outcome())
    began = time.monotonic()
    with pytest.raises(
        MetricError, match=r"^The metric 'f' did not answer within 0\.7 seconds and was ended\. Make it"
    ):
        found(BAD)
    assert time.monotonic() - began < 2
    assert not alive(int(pid))
    assert found(outcome(seed=1)) != pid


DEATHS = {
    "exits": (("os._exit(3)",), r"its process ended \(exit code 3\)"),
    "exits as if all were well": (("os._exit(0)",), r"its process ended \(exit code 0\)"),
    "is killed": (("os.kill(os.getpid(), 9)",), r"its process was killed by SIGKILL \(exit code -9\)"),
    "segfaults": (("import ctypes", "ctypes.string_at(0)"), r"its process was killed by SIGSEGV \(exit code -11\)"),
    "aborts": (("os.abort()",), r"its process was killed by SIGABRT \(exit code -6\)"),
    "closes its pipes": (HANGS["closes its pipes"], r"its process was killed by SIGKILL \(exit code -9\)"),
}


@pytest.mark.parametrize("kind", DEATHS)
@pytest.mark.fault("custom metric that dies")
def test_a_metric_that_dies_is_told_with_its_exit_code_and_started_again(kind: str, own: Loader) -> None:
    lines, wording = DEATHS[kind]
    found = own(*when_bad(("print('last words')", *lines)))
    pid = found(outcome())
    with pytest.raises(MetricError, match=rf"^The metric 'f' gave no answer: {wording}\. It printed: last words$"):
        found(BAD)
    assert found(outcome(seed=1)) != pid


def test_memory_that_runs_out_is_an_error_of_the_metric(own: Loader) -> None:
    found = own(
        *when_bad(("import resource", "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))", "bytearray(2**40)"))
    )
    with pytest.raises(MetricError, match=r"^The metric 'f' raised MemoryError \(line 10\)\."):
        found(BAD)
    assert found(outcome()) > 0


def test_a_process_that_died_between_two_calls_is_started_again_unnoticed(own: Loader) -> None:
    found = own("return os.getpid()")
    pid = int(found(outcome()))
    os.kill(pid, signal.SIGKILL)
    assert ends(pid)
    assert found(outcome(seed=1)) not in {pid, 0}


def test_a_process_that_dies_as_it_is_asked_is_asked_anew_once(
    own: Loader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As it was killed in the instant before; one that kills every process is told."""
    found = own(f"open({str(tmp_path / 'pids')!r}, 'a').write(str(os.getpid()) + ' ')", "return os.getpid()")
    pid = int(found(outcome()))
    ask = Process.ask

    def killed(process: Process, *asked: Any) -> Any:
        if process._child.pid == pid:
            os.kill(pid, signal.SIGKILL)
        return ask(process, *asked)

    monkeypatch.setattr(Process, "ask", killed)
    assert int(found(outcome(seed=1))) not in {pid, 0}
    deadly = own(*when_bad(("os._exit(3)",)))
    deadly(outcome())
    with pytest.raises(MetricError, match=r"gave no answer: its process ended \(exit code 3\)"):
        deadly(BAD)


def test_what_a_metric_started_ends_with_it(own: Loader, tmp_path: Path) -> None:
    lines = (
        "import subprocess",
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))",
        "time.sleep(60)",
    )
    found = own(*when_bad(lines), seconds=1)
    with pytest.raises(MetricError, match="did not answer within 1 seconds"):
        found(BAD)
    assert ends(int((tmp_path / "pid").read_text()))


def test_a_file_that_kills_its_process_as_it_is_loaded_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("import os\nprint('on my way')\nos._exit(7)\n", encoding="utf-8")
    with pytest.raises(
        MetricError, match=r"^The metric file .*m\.py gave no answer: .* \(exit code 7\)\. It printed: on my way$"
    ):
        load_metric("m.py:f", tmp_path)


GARBAGE = {
    "bytes": "b'\\xff' * 40",
    "a length without end": "(2**60).to_bytes(8, 'little') * 2",
    "no JSON": "(4).to_bytes(4, 'little') + bytes(8) + b'{{{{'",
    "no object": "(2).to_bytes(4, 'little') + bytes(8) + b'[]'",
    "no answer": "(2).to_bytes(4, 'little') + bytes(8) + b'{}'",
    "a wrong shape": "(16).to_bytes(4, 'little') + bytes(8) + b'{\"shape\": [-3]} '",
    "a deep one": "(900_000).to_bytes(4, 'little') + bytes(8) + b'[' * 900_000",
}


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.fault("custom metric that answers nonsense")
def test_what_cannot_be_read_in_the_pipe_of_answers_is_an_error(kind: str, own: Loader) -> None:
    lines = (
        "for file in range(3, 16):",
        f"    try: os.write(file, {GARBAGE[kind]})",
        "    except OSError: pass",
        "time.sleep(0.1)",
    )
    found = own(*when_bad(lines))
    with pytest.raises(
        MetricError, match=r"^The (metric 'f' wrote to the pipe of|process of the metric 'f' answered what cannot be)"
    ):
        found(BAD)


def test_an_error_that_cannot_say_what_it_is_is_told_by_its_kind(own: Loader) -> None:
    head = "class Dumb(BaseException):\n    def __str__(self): return 1 / 0"
    with pytest.raises(MetricError, match=r"^The metric 'f' raised Dumb \(line 8\)\.$"):
        own("raise Dumb", head=head)


def test_a_long_error_is_cut_and_steers_no_terminal(own: Loader) -> None:
    with pytest.raises(MetricError, match=r"raised ValueError: x.x") as caught:
        own("raise ValueError('x\\x1bx' * 100_000)")
    assert len(str(caught.value)) < 3000
    assert "\x1b" not in str(caught.value)


def test_a_failed_outcome_among_many_leaves_the_others_as_they_were(own: Loader) -> None:
    found = own("if bad: raise ValueError('five')", "return float(probabilities[0, 0])")
    good = [outcome(seed=seed) for seed in range(5)]
    with pytest.raises(MetricError, match="raised ValueError: five"):
        found.many([*good, BAD])
    assert found.many(good) == [float(o.probabilities[0, 0]) for o in good]


def test_a_call_that_is_left_ends_the_process_and_the_next_starts_anew(own: Loader) -> None:
    found = own(*when_bad(("time.sleep(60)",)))
    pid = int(found(outcome()))

    def late(*given: object) -> None:
        raise Halted("the deadline has come")

    before = signal.signal(signal.SIGALRM, late)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Halted, match="the deadline has come"):
            found(BAD)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not alive(pid)
    assert found(outcome(seed=1)) != pid


def test_the_limit_is_for_one_outcome_and_not_for_many(own: Loader) -> None:
    found = own("time.sleep(0.2)", "return 1.0", seconds=1.0)
    assert found.many([outcome(seed=seed) for seed in range(8)]) == [1.0] * 8


def test_a_file_that_is_changed_later_changes_no_metric(own: Loader, tmp_path: Path) -> None:
    found = own("return os.getpid()")
    pid = int(found(outcome()))
    (tmp_path / "m.py").write_text("1 / 0", encoding="utf-8")
    os.kill(pid, signal.SIGKILL)
    assert ends(pid)
    until = time.monotonic() + 5
    while found.function._process.lives and time.monotonic() < until:  # its threads hold the pipe a little longer
        time.sleep(0.01)
    assert found(outcome(seed=1)) != pid


# -- no orphans --------------------------------------------------------------------------------

OWNER = """
import sys, time
from pathlib import Path
import numpy as np
from autoprompt.metrics import Outcome, load_metric
found = load_metric("m.py:f", Path(sys.argv[1]))
print(int(found(Outcome(("a",), np.ones((1, 3)), ("a", "b", "c")))), flush=True)
if sys.argv[2] == "ends":
    sys.exit()
if sys.argv[2] == "works":
    found(Outcome(("a",) * 5, np.ones((5, 3)), ("a", "b", "c")))
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("waits", "sleeps"),
        ("ends", "sleeps"),
        ("works", "sleeps"),
        ("works", "holds the interpreter"),
        ("works", "ignores signals"),
    ],
)
def test_no_process_outlives_ours_however_ours_ends(state: str, kind: str, own: Loader, tmp_path: Path) -> None:
    own(*when_bad(HANGS[kind]))
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path), state], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    with owner.stdout as lines:
        pid = int(lines.readline())
    if state == "ends":
        assert owner.wait(10) == 0
    else:
        assert alive(pid)
        time.sleep(0.2)
        owner.kill()
        owner.wait()
    assert ends(pid, 2)


# -- frames ------------------------------------------------------------------------------------


def reader(data: bytes) -> Callable[[int], bytes]:
    return io.BytesIO(data).read


def test_a_frame_comes_back_as_it_was() -> None:
    message = {"text": "\ud800 \u00e9", "number": 1.5, "none": None}
    assert received(reader(frame(message, b"12345678"))) == (message, bytearray(b"12345678"))
    two = reader(frame({}) + frame({"a": 1}))
    assert [received(two), received(two), received(two)] == [({}, b""), ({"a": 1}, b""), None]


def test_a_frame_that_was_cut_anywhere_is_none() -> None:
    whole = frame({"text": "abc"}, b"12345678")
    assert [received(reader(whole[:size])) for size in range(len(whole))] == [None] * len(whole)


def test_an_outcome_comes_back_as_it_was() -> None:
    given = outcome("cab" * 10)
    found = received(reader(outcome_out(given)))
    assert found is not None
    back = outcome_in(found)
    assert (back.targets, back.labels) == (given.targets, given.labels)
    assert np.array_equal(back.probabilities, given.probabilities)


@pytest.mark.parametrize(
    ("values", "size"),
    [(np.array(1.5), 3), (np.array([1.0, math.nan, 2.0]), 3), (np.zeros(2), 3), (np.zeros((3, 3)), 3)],
)
def test_what_was_returned_comes_back_with_its_shape(values: np.ndarray, size: int) -> None:
    found = received(reader(returned_out(Returned(values), size)))
    assert found is not None
    back = returned_in(found, size).values
    assert back is not None
    assert back.shape == values.shape
    if values.shape in {(), (size,)}:
        assert np.array_equal(back, values, equal_nan=True)
    else:
        assert not found[1]


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    """After each test, no process of a metric is left; other tests may have some of their own."""
    before = _children()
    yield
    gc.collect()
    assert not [pid for pid in _children() - before if alive(pid)]


def _children() -> set[int]:
    with contextlib.suppress(FileNotFoundError):
        return set(map(int, Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()))
    return set()
