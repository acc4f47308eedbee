"""engine/memory.py: an answer given once is not asked for again, and the file it lies in is never a worry."""

from __future__ import annotations

import functools
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoprompt.engine import Request, memory
from autoprompt.engine.memory import ScoreMemory

ROOT = Path(__file__).parents[1]
MODEL = "model float32"
BASE = Request((1, 2, 3), ((4, 5), (6,)), (7, 8))
ONLY_HERE = "only this process remembers its scores."

# another process: it loads the file alone, as the package would bring torch with it
CHILD = """
import runpy, sys
from pathlib import Path
import numpy as np
ScoreMemory = runpy.run_path("autoprompt/engine/memory.py")["ScoreMemory"]
path, first = Path(sys.argv[1]), int(sys.argv[2])
def named(n): return n.to_bytes(16, "little")
def row(n): return np.array([-n, -n / 3])
"""
WRITE = f"""{CHILD}
with ScoreMemory(path, "model float32") as memory:
    print("open", flush=True)
    sys.stdin.readline()
    for n in range(first, first + 400, 10):
        memory.put({{named(m): row(m) for m in range(n, n + 10)}})
    print(len(memory.get([named(m) for m in range(first, first + 400)])), flush=True)
"""
WRITE_ON = f"""{CHILD}
memory = ScoreMemory(path, "model float32")
for n in range(first, first + 1_000_000, 7):
    memory.put({{named(m): row(m) for m in range(n, n + 7)}})
    print(n + 6, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scores.sqlite"


def named(n: int) -> bytes:
    return n.to_bytes(16, "little")


def row(n: int) -> NDArray[np.float64]:
    return np.array([-n, -n / 3])


def rows(*numbers: int) -> dict[bytes, NDArray[np.float64]]:
    return {named(n): row(n) for n in numbers}


def known(memory: ScoreMemory, *numbers: int) -> list[int]:
    """Which of the rows are there; each has to be exact."""
    found = dict(zip(numbers, memory.get([named(n) for n in numbers]), strict=True))
    assert all(value is None or value.tobytes() == row(n).tobytes() for n, value in found.items())
    return [n for n, value in found.items() if value is not None]


def start(code: str, path: Path, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(path), str(first)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def database(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(query).fetchall()


# -- keys ----------------------------------------------------------------------------------------


def key(request: Request, model: str = MODEL) -> bytes:
    return ScoreMemory(None, model).key(request)


def soft(*numbers: float, width: int = 2) -> Request:
    return Request((1, -1, -2), ((4,),), (), np.array(numbers, np.float32).reshape(-1, width))


def test_equal_requests_have_equal_keys() -> None:
    again = Request(tuple(range(1, 4)), ((4, 5), (6,)), (7, 8))
    assert key(BASE) == key(again)
    assert len(key(BASE)) == 16
    assert key(soft(0.5, 1, 2, 3)) == key(soft(0.5, 1, 2, 3))


def test_every_other_request_has_another_key() -> None:
    others = [
        BASE,
        Request((1, 2), ((3, 4, 5), (6,)), (7, 8)),  # from the context to a choice
        Request((1, 2, 3), ((4,), (5, 6)), (7, 8)),  # from one choice to the next
        Request((1, 2, 3), ((4, 5, 6),), (7, 8)),
        Request((1, 2, 3), ((4, 5, 6), ()), (7, 8)),
        Request((1, 2, 3), ((6,), (4, 5)), (7, 8)),
        Request((1, 2, 3), ((4, 5), (6, 7)), (8,)),  # from the tail to a choice
        Request((1, 2, 3, 7, 8), ((4, 5), (6,))),
        Request((7, 8, 1, 2, 3), ((4, 5), (6,))),
        Request((1, 2, -3), ((4, 5), (6,)), (7, 8)),
        Request((1, 2, 3, 0), ((4, 5), (6,)), (7, 8)),
        Request((1, 2, 3 + 2**24), ((4, 5), (6,)), (7, 8)),
        Request((1, -1, -2), ((4,),)),
        soft(0, 0, 0, 0),
        soft(0, 0, 0, 1e-30),
        soft(0, 0, 0, 0, width=4),
        soft(0, 0, 0, 0, 0, 0),
    ]
    keys = {key(request) for request in others}
    assert len(keys) == len(others)
    assert key(BASE, "model bfloat16") not in keys


numbers = st.lists(st.integers(-2, 2), max_size=3).map(tuple)
requests = st.builds(Request, numbers, st.lists(numbers, max_size=3).map(tuple), numbers)


@given(requests, requests)
@settings(max_examples=300, deadline=None)
def test_keys_are_equal_exactly_where_identities_are(one: Request, other: Request) -> None:
    assert (key(one) == key(other)) == (one.identity == other.identity)


def test_vectors_changed_in_place_have_another_key() -> None:
    request = soft(0, 1, 2, 3)
    assert request.vectors is not None
    with ScoreMemory(None, MODEL) as memory:
        before = memory.key(request)
        assert memory.key(soft(0, 1, 2, 3)) == before
        request.vectors[1, 1] = 4
        assert memory.key(request) != before


# -- round trips ---------------------------------------------------------------------------------


def test_scores_are_there_to_the_bit_when_the_file_is_opened_again(path: Path) -> None:
    values = {named(n): np.random.default_rng(n).standard_normal(n) for n in range(1, 9)}
    with ScoreMemory(path, MODEL) as memory:
        memory.put(values)
        assert len(memory) == 8
    with ScoreMemory(path, MODEL) as memory:
        found = memory.get([*values, named(99)])
        assert len(memory) == 8
    assert [value.tobytes() for value in found if value is not None] == [v.tobytes() for v in values.values()]
    assert found[-1] is None


def test_a_memory_without_a_file_remembers_too() -> None:
    with ScoreMemory(None, MODEL) as memory:
        memory.put(rows(1, 2))
        assert known(memory, 1, 2, 3) == [1, 2]
        assert len(memory) == 2


def test_more_keys_than_fit_one_query_are_found_in_their_order(path: Path) -> None:
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(*range(1200)))
    with ScoreMemory(path, MODEL) as memory:
        order = [*range(1500, 0, -1), 7, 7]
        assert known(memory, *order) == [n for n in dict.fromkeys(order) if n < 1200]


def test_a_look_up_of_what_this_process_knows_reads_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(1))
        with ScoreMemory(path, MODEL) as other:
            assert known(other, 1) == [1]
            assert other._store is not None
            monkeypatch.setattr(other._store, "read", None)
            assert known(other, 1) == [1]


def test_what_was_found_cannot_be_changed(path: Path) -> None:
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(1))
        [value] = memory.get([named(1)])
        assert value is not None
        with pytest.raises(ValueError, match="read-only"):
            value[0] = 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_never_stored(path: Path, wrong: float) -> None:
    with ScoreMemory(path, MODEL) as memory:
        memory.put({named(1): np.array([-1.0, wrong])})
        memory.put({named(1): np.array([-1.0, wrong]), **rows(2)})
        assert known(memory, 1, 2) == [2]
        assert len(memory) == 1


def test_what_stands_in_the_file_is_not_changed_by_a_second_answer(path: Path) -> None:
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(1))
        memory.put({named(1): row(9)})
        assert len(memory) == 1
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, 1) == [1]


# -- the bound -----------------------------------------------------------------------------------


def test_no_more_rows_than_the_limit_stay_and_the_last_used_do(path: Path) -> None:
    with ScoreMemory(path, MODEL, limit=100) as memory:
        for n in range(0, 1000, 10):
            memory.put(rows(*range(n, n + 10)))
            assert len(memory) <= 100
            assert known(memory, 3, 5) == [3, 5]
    assert database(path, "SELECT count(*) FROM scores") == database(path, "SELECT rows FROM state")
    with ScoreMemory(path, MODEL, limit=100) as memory:
        left = known(memory, *range(1000))
        assert 80 <= len(left) == len(memory) <= 100
        assert left[:2] == [3, 5]
        assert left[2:] == list(range(1002 - len(left), 1000))


def test_one_put_of_more_than_the_limit_is_cut_to_it(path: Path) -> None:
    with ScoreMemory(path, MODEL, limit=100) as memory:
        memory.put(rows(*range(1000)))
        assert len(memory) == 90


def test_what_the_run_before_read_outlives_what_it_did_not(path: Path) -> None:
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(*range(90)))
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, *range(20)) == list(range(20))
    with ScoreMemory(path, MODEL, limit=100) as memory:
        for n in range(100, 160):
            memory.put(rows(n))
    with ScoreMemory(path, MODEL, limit=100) as memory:
        assert known(memory, *range(20), *range(100, 160)) == [*range(20), *range(100, 160)]


def test_many_reads_are_noted_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_NOTES", 10)
    with ScoreMemory(path, MODEL) as store:
        store.put(rows(*range(20)))
        known(store, *range(10))
        assert database(path, "SELECT max(used) FROM scores") == [(1,)]
        known(store, *range(11))
        assert database(path, "SELECT used, count(*) FROM scores GROUP BY used") == [(1, 9), (2, 11)]
        assert not store._used


def test_a_memory_without_a_file_is_bounded_too() -> None:
    with ScoreMemory(None, MODEL, limit=100) as memory:
        for n in range(1000):
            memory.put(rows(n))
            known(memory, 3)
            assert len(memory) <= 100
        assert known(memory, 3, 4, 998, 999) == [3, 998, 999]


def test_this_process_keeps_less_at_hand_than_the_file_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_AT_HAND", 10)
    with ScoreMemory(path, MODEL) as store:
        store.put(rows(*range(50)))
        assert known(store, *range(50)) == list(range(50))
        assert len(store) == 50
        assert len(store._front) <= 10


# -- files in trouble ----------------------------------------------------------------------------


def filled(path: Path) -> bytes:
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(*range(2000)))
    return path.read_bytes()


def test_a_file_that_is_no_database_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("not a database\n" * 100)
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(1))
        assert len(memory) == 1
    assert warning(caplog) == (
        f"The memory of scores {path} is damaged (file is not a database); it is now {path}.old, "
        "and a new one was begun."
    )
    assert path.with_name("scores.sqlite.old").read_text() == "not a database\n" * 100
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, 1) == [1]
    assert len(caplog.records) == 1


def test_an_empty_file_is_filled(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.touch()
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(1))
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, 1) == [1]
    assert not caplog.records


def test_a_file_found_damaged_later_is_replaced_and_takes_what_was_put(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = filled(path)
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    with ScoreMemory(path, MODEL) as memory:
        assert not caplog.records
        assert known(memory, *range(2000)) == []
        memory.put(rows(1))
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, 1, 2) == [1]
    assert "is damaged (database disk image is malformed); it is now" in warning(caplog)


def test_damage_that_a_put_meets_loses_nothing_of_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = filled(path)
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(*range(3000, 4000)))
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, *range(4000)) == list(range(3000, 4000))
    assert len(caplog.records) == 1


def test_a_flipped_bit_is_an_unknown_score_and_not_another_one(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(filled(path))
    place = content.index(row(1234).tobytes())
    content[place + 3] ^= 1
    path.write_bytes(content)
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, 1233, 1234, 1235) == [1233, 1235]
        memory.put(rows(1234))
        assert len(memory) == 2000
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, 1234) == [1234]
    assert not caplog.records


@pytest.mark.parametrize("query", ["PRAGMA user_version = 7", "PRAGMA user_version = 0"])
def test_a_file_of_another_version_is_replaced(path: Path, query: str, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    database(path, query)
    with ScoreMemory(path, MODEL) as memory:
        assert len(memory) == 0
        memory.put(rows(1))
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, 1, 2) == [1]
    assert warning(caplog) == (
        f"The memory of scores {path} was written by another version; it is now {path}.old, and a new one was begun."
    )


def test_a_file_without_its_tables_is_replaced(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    database(path, "DROP TABLE scores")
    with ScoreMemory(path, MODEL) as memory:
        memory.put(rows(1))
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, 1) == [1]
    assert "is damaged (no such table: scores); it is now" in warning(caplog)


# -- where no file can be had --------------------------------------------------------------------


def warning(caplog: pytest.LogCaptureFixture) -> str:
    """What was warned of: once, whatever was done after it."""
    [record] = caplog.records
    assert (record.name, record.levelname) == ("autoprompt", "WARNING")
    return record.getMessage()


def goes_on(memory: ScoreMemory) -> None:
    for n in (1, 2, 3):
        memory.put(rows(n))
    assert known(memory, 1, 2, 3, 4) == [1, 2, 3]
    assert len(memory) == 3


def refusing(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """Have SQLite itself refuse to write, which an administrator's rights would not stop."""

    class Refusing(sqlite3.Connection):
        def __init__(self, *values: Any, **named: Any) -> None:
            super().__init__(*values, **named)
            self.execute(setting)

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Refusing))


def test_a_path_below_a_file_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").touch()
    path = tmp_path / "taken" / "scores.sqlite"
    with ScoreMemory(path, MODEL) as memory:
        goes_on(memory)
    assert warning(caplog).startswith(f"The memory of scores {path} cannot be used ([Errno ")
    assert warning(caplog).endswith(ONLY_HERE)


def test_a_folder_in_place_of_the_file_is_done_without(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    with ScoreMemory(path, MODEL) as memory:
        goes_on(memory)
    assert warning(caplog) == (
        f"The memory of scores {path} cannot be used (unable to open database file); {ONLY_HERE}"
    )


def test_a_file_that_cannot_be_written_is_done_without(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScoreMemory(path, MODEL):
        pass
    refusing(monkeypatch, "PRAGMA query_only = 1")
    with ScoreMemory(path, MODEL) as memory:
        goes_on(memory)
    assert warning(caplog) == (
        f"The memory of scores {path} cannot be used (attempt to write a readonly database); {ONLY_HERE}"
    )


def test_a_full_disk_is_done_without_and_the_file_stays_good(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refusing(patch, "PRAGMA max_page_count = 12")
        with ScoreMemory(path, MODEL) as memory:
            memory.put(rows(1, 2, 3))
            memory.put(rows(*range(4, 2000)))
            memory.put(rows(2000))
            assert known(memory, *range(1, 2001)) == list(range(1, 2001))
    assert warning(caplog) == (f"The memory of scores {path} cannot be used (database or disk is full); {ONLY_HERE}")
    with ScoreMemory(path, MODEL) as memory:
        assert known(memory, *range(1, 2001)) == [1, 2, 3]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_locked_file_is_done_without(
    path: Path, when: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprompt.store._PATIENCE", 0.05)
    with ScoreMemory(path, MODEL):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        if when == "before":
            holder.execute("BEGIN IMMEDIATE")
        with ScoreMemory(path, MODEL) as store:
            if when == "after":
                holder.execute("BEGIN IMMEDIATE")
            goes_on(store)
    assert warning(caplog) == f"The memory of scores {path} cannot be used (database is locked); {ONLY_HERE}"


@pytest.mark.parametrize("verb", ["get", "put", "len"])
def test_an_error_of_any_call_is_done_without(
    path: Path, verb: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with ScoreMemory(path, MODEL) as store:
        for name in ("read", "write", "state", "touch"):
            monkeypatch.setattr(f"autoprompt.store.Store.{name}", fails)
        if verb == "get":
            assert store.get([named(1)]) == [None]
        elif verb == "len":
            assert len(store) == 0
        goes_on(store)
    assert warning(caplog) == f"The memory of scores {path} cannot be used (disk I/O error); {ONLY_HERE}"


def test_closing_twice_and_asking_afterwards_is_no_error(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = ScoreMemory(path, MODEL)
    memory.put(rows(1))
    memory.close()
    memory.close()
    assert known(memory, 1, 2) == [1]
    memory.put(rows(2))
    assert known(memory, 1, 2) == [1, 2]
    assert not caplog.records


# -- other processes -----------------------------------------------------------------------------


def test_two_processes_fill_one_file_at_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with start(WRITE, path, 1000) as other, ScoreMemory(path, MODEL) as memory:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        for n in range(800, 1200, 10):  # half of them are the other's too
            memory.put(rows(*range(n, n + 10)))
        assert other.stdout.readline() == "400\n"
        assert known(memory, *range(2000)) == list(range(800, 1400))
        assert len(memory) == 600
        assert other.wait(30) == 0
    assert database(path, "SELECT count(*) FROM scores") == [(600,)]
    assert database(path, "PRAGMA integrity_check") == [("ok",)]
    assert not caplog.records


def test_every_acknowledged_put_survives_kill_9(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    last = -1
    for lines in (1, 40, 95):  # three writers, each killed in the middle of its puts
        with start(WRITE_ON, path, last + 1) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                writer.stdout.readline()
            writer.kill()
            said = writer.stdout.read().splitlines()
            # what was being said when it was killed may be half a line
            last = max([last + 7 * lines, *(int(line) for line in said[:-1])])
        with ScoreMemory(path, MODEL) as memory:
            assert known(memory, *range(last + 1)) == list(range(last + 1))
            assert len(memory) % 7 == 0  # a put is there whole or not at all
            last = len(memory) - 1
    assert database(path, "PRAGMA integrity_check") == [("ok",)]
    assert not caplog.records
