"""Where a run's files lie: whole or not at all, one process at a time, resumed only as the same run."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprompt import events
from autoprompt.errors import ResultsError
from autoprompt.results import (
    RunFolder,
    differences,
    is_held,
    read_journal,
    repair_tail,
    spent,
    write_json,
    write_text,
)

ROOT = Path(__file__).parents[1]

# -- whole files ---------------------------------------------------------------------------------


def test_a_text_is_written_with_its_folders_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.md"
    write_text(path, "one\r\ntwo\u2028é🙂\n")
    assert path.read_bytes() == "one\r\ntwo\u2028é🙂\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["c.md"]


def test_a_text_replaces_a_longer_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x" * 10_000)
    write_text(tmp_path / "a", "y")
    assert (tmp_path / "a").read_text() == "y"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise OSError(28, "No space left on device")

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(
        ResultsError,
        match=r"/a cannot be written \(No space left on device\)\. Free space and run the same command again",
    ):
        write_text(tmp_path / "a", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_the_new_file_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    replace, fsync = Path.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("fsync"), fsync(file))[1])
    monkeypatch.setattr(Path, "replace", lambda path, to: (steps.append("replace"), replace(path, to))[1])
    write_text(tmp_path / "a", "x")
    assert steps == ["fsync", "replace", "fsync"]  # the last: the folder, which holds the name


def test_a_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        write_text(tmp_path / "a", "\ud800")
    assert (tmp_path / "a").read_text() == "old"


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    """A process is killed while it writes one file again and again."""
    path = tmp_path / "a.json"
    code = (
        "import sys; from pathlib import Path; from autoprompt.results import write_json\n"
        "for i in range(10**9): write_json(Path(sys.argv[1]), {'i': i, 'x': ['y' * 1000] * 300})"
    )
    write_json(path, {"i": -1})
    for delay in (0.2, 0.25, 0.31):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT)
        while json.loads(path.read_text())["i"] < 1:
            assert writer.poll() is None
        with pytest.raises(subprocess.TimeoutExpired, match="timed out"):
            writer.wait(delay)
        writer.kill()
        writer.wait()
        assert len(json.loads(path.read_text())["x"]) == 300
        write_json(path, {"i": -1})


def test_json_is_written_to_be_read_by_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, 2.5, None], "path": "x"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8").startswith('{\n  "é": [')
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1, 2.5, None], "path": "x"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan(value: float, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "a.json", {"value": value})
    assert json.loads((tmp_path / "a.json").read_text()) == 1


# -- torn tails ----------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [0, 1, 2, 100, 4094, 4095, 4096, 4097, 8191, 8192, 8193, 20_000])
@pytest.mark.parametrize("whole", [b"", b"{}\n", b'{"a": 1}\n' * 1000, b"x" * 4095 + b"\n", b"x" * 4096 + b"\n"])
def test_a_torn_tail_is_cut_off_and_nothing_else(whole: bytes, torn: int, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(whole + b"y" * torn)
    repair_tail(path)
    assert path.read_bytes() == whole


def test_a_missing_file_needs_no_repair(tmp_path: Path) -> None:
    repair_tail(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_a_repaired_file_ends_with_its_last_line_end(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    repair_tail(path)
    assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


# -- the journal ---------------------------------------------------------------------------------


def test_a_journal_is_read_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "j").write_text('{"event": "A"}\n{"event": "B"}\n', encoding="utf-8")
    assert list(read_journal(tmp_path / "j")) == [{"event": "A"}, {"event": "B"}]


@pytest.mark.parametrize("torn", ['{"n": 3', "{", '{"text": "é'.encode()[:-1].decode("utf-8", "surrogateescape"), "{}"])
def test_a_torn_last_line_is_passed_over(torn: str, tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"event": "A"}\n{"event": "B"}\n' + torn.encode("utf-8", "surrogateescape"))
    assert list(read_journal(tmp_path / "j")) == [{"event": "A"}, {"event": "B"}]


@pytest.mark.parametrize("broken", ["{", "", "nonsense", '{"n": 2', "[1, 2]", '"text"', '{"n": 2}'])
def test_a_broken_line_before_the_last_is_refused(broken: str, tmp_path: Path) -> None:
    (tmp_path / "j").write_text(f'{{"event": "A"}}\n{broken}\n{{"event": "B"}}\n', encoding="utf-8")
    with pytest.raises(ResultsError, match=r"j, line 2 is not an event\. Was the file edited\?"):
        [event["event"] for event in read_journal(tmp_path / "j")]


def test_a_missing_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"There is no journal .*events\.jsonl\. Is this the folder of a run\?"):
        list(read_journal(tmp_path / "events.jsonl"))


def test_a_folder_in_place_of_the_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"cannot be read|no journal"):
        list(read_journal(tmp_path))


EVENTS: list[events.Event] = [
    events.RunStarted("demo", False, "accuracy", True, 7, 80),
    events.ModelLoaded("builtin", "causal", "cpu", "float32", 1234),
    events.DataRead(10, 20, 30, ("a", "b"), 2),
    events.ExampleQuarantined("dev", 3, "a text", "the model returns NaN"),
    events.PlanMade(80, 2.5, {"search": 60.0, "export": 1.0}, 10**9, 10**7, 10**10, 61.0),
    events.StageStarted("search"),
    events.BatchPlanned(3, "edits", 8),
    events.TrialFinished(0, "baseline", 0.5, 0.1, 96, 1000, 0.25, "f" * 16, "line\nline\u2028é🙂 {text}"),
    events.TrialFailed(1, "soft", "RuntimeError: out of memory"),
    events.Confirmed(0, "baseline", 0.5, 0.1, "f" * 16),
    events.WinnerChosen(0, "baseline", 0.5, "f" * 16, "text"),
    events.TestOpened("the verdict", 1),
    events.EpochFinished(1, 6, 0.5, 0.75),
    events.ExamplesAdded("unlabelled", 3, {"read": 9, "refused": {"unsure": 6}}),
    events.PartsCompared({"base": 0.5, "both": 0.7}, {"both - base": (0.2, 0.1, 0.3)}, "Fine-tuning improves."),
    events.SecondTask("other.jsonl", 40, 0.8, 0.7, (-0.2, 0.0)),
    events.Finding("duplicates", "warning", "3 texts stand twice.", {"pairs": [[1, 2]]}),
    events.BaselineScored("majority class", 0.4),
    events.VerdictDetailed(
        "McNemar", 0.01, 0.06, {}, {"a": {"examples": 9, "baseline": 0.5, "winner": 0.7}}, {"winner": 0.1}, {"right": 9}
    ),
    events.ExamplesFlipped(1, 0, ({"number": 1, "fields": {"text": "x"}, "label": "a", "turn": "gained"},)),
    events.GainExplained("dev", 20, 0.2, ({"part": "instruction", "value": 0.2},), "All of it is the instruction."),
    events.PromptShortened(
        ("instruction",), "{{ text }}", "f" * 16, (30.0, 20.0), (0.7, 0.7), (-0.01, 0.01), 0.01, "Shorter."
    ),
    events.RobustnessMeasured(0.7, 0.69, 0.6, 0.4, ({"kind": "casing", "change": "upper", "value": 0.6},), "Sturdy."),
    events.PromptsTransferred(({"model": "other", "values": {"winner": 0.5}},)),
    events.VerdictReached("improved", "It is better.", 0.5, 0.75, (0.1, 0.3), None),
    events.Notice("note"),
    events.StageFinished("search", 1.5, 1000),
    events.RunFinished(2.5, 1),
]


def test_every_kind_of_event_is_tried_below() -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert {type(event) for event in EVENTS} == kinds - {events.Event}


def test_events_come_back_from_the_journal(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        for event in EVENTS:
            folder(event)
    records = list(read_journal(folder.journal))
    assert len(folder.journal.read_bytes().splitlines()) == len(EVENTS)
    for event, record in zip(EVENTS, records, strict=True):
        plain = json.loads(json.dumps(dataclasses.asdict(event)))
        assert isinstance(record.pop("at"), float)
        assert 0 <= record.pop("up") < 60
        assert record == {"event": type(event).__name__, **plain}


def test_an_event_with_a_lone_surrogate_is_written(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        folder(events.Notice("a\ud800b"))
    assert next(read_journal(folder.journal))["message"] == "a?b"


def test_an_event_is_in_the_journal_before_the_call_returns(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        for number in range(3):
            folder(events.Notice(str(number)))
            assert [record["message"] for record in read_journal(folder.journal)][-1] == str(number)


def test_an_event_is_whole_when_the_system_writes_a_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`os.write` may write less than it was given, as on a disk that is nearly full."""
    write = os.write
    with RunFolder(tmp_path, "run") as folder:
        monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:16]))
        folder(events.Notice("one"))
        folder(events.Notice("two"))
        monkeypatch.undo()
    assert [record["message"] for record in read_journal(folder.journal)] == ["one", "two"]


def test_a_resumed_journal_goes_on_behind_the_last_whole_line(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        folder(events.Notice("one"))
    with folder.journal.open("ab") as file:
        file.write(b'{"event": "Notice", "messa')
    with RunFolder(tmp_path, "run") as folder:
        folder(events.Notice("two"))
    assert [record["message"] for record in read_journal(folder.journal)] == ["one", "two"]


def test_an_acknowledged_event_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from autoprompt import events\n"
        "from autoprompt.results import RunFolder\n"
        "with RunFolder(Path(sys.argv[1]), 'run') as folder:\n"
        "    for i in range(10**9):\n"
        "        folder(events.Notice(str(i))); print(i, flush=True)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    heard = [writer.stdout.readline() for _ in range(20)]
    writer.send_signal(signal.SIGKILL)
    acknowledged = [int(line) for line in heard + writer.stdout.readlines() if line.endswith("\n")]
    writer.stdout.close()
    writer.wait()
    with RunFolder(tmp_path, "run") as folder:
        kept = [int(record["message"]) for record in read_journal(folder.journal)]
    assert kept[: len(acknowledged)] == acknowledged
    assert kept == list(range(len(kept)))


def test_a_closed_folder_takes_no_events(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    with pytest.raises(ResultsError, match=r"The run folder .*run is not open"):
        folder(events.Notice("x"))
    with folder:
        folder(events.Notice("x"))
    with pytest.raises(ResultsError, match="is not open"):
        folder(events.Notice("y"))


def test_openings_of_the_test_split_are_counted_over_all_runs(tmp_path: Path) -> None:
    assert RunFolder(tmp_path, "run").openings() == 0
    for times in (1, 2):
        with RunFolder(tmp_path, "run") as folder:
            folder(events.TestOpened("the verdict", times))
            assert folder.openings() == times


# -- what the system refuses ----------------------------------------------------------------------

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("step", ["write", "fsync"])
@pytest.mark.parametrize("part", [0, 1, 30])
def test_a_failed_line_is_taken_back_and_told(
    number: int, step: str, part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def fail(file: int, content: bytes = b"") -> int:
        if step == "write" and part and len(content) > part:
            return write(file, content[:part])
        raise OSError(number, os.strerror(number))

    with RunFolder(tmp_path, "run") as folder:
        folder(events.Notice("one"))
        before = folder.journal.read_bytes()
        monkeypatch.setattr(os, step, fail)
        told = (
            rf"events\.jsonl cannot be written \({os.strerror(number)}\)\. .* and run the same command again; finished"
        )
        with pytest.raises(ResultsError, match=told):
            folder(events.Notice("x" * 29 + "lost"))
        assert folder.journal.read_bytes() == before
        monkeypatch.undo()
        folder(events.Notice("two"))
    assert [record["message"] for record in read_journal(folder.journal)] == ["one", "two"]


def test_a_line_that_cannot_be_taken_back_is_cut_off_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with RunFolder(tmp_path, "run") as folder:
        folder(events.Notice("one"))
        parts = iter([20])

        def part(file: int, content: bytes) -> int:
            for size in parts:
                return write(file, content[:size])
            raise FULL

        def fail(*given: object) -> None:
            raise FULL

        monkeypatch.setattr(os, "write", part)
        monkeypatch.setattr(os, "ftruncate", fail)
        with pytest.raises(ResultsError, match="No space left on device"):
            folder(events.Notice("lost"))
        monkeypatch.undo()
        assert not folder.journal.read_bytes().endswith(b"\n")
        folder(events.Notice("two"))
    assert [record["message"] for record in read_journal(folder.journal)] == ["one", "two"]


@pytest.mark.parametrize("torn", [1, 5000])
def test_a_torn_line_is_cut_off_before_every_line(torn: int, tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        for number in range(3):
            folder(events.Notice(str(number)))
            with folder.journal.open("ab") as file:
                file.write(b"x" * torn)
        folder(events.Notice("3"))
    assert [record["message"] for record in read_journal(folder.journal)] == ["0", "1", "2", "3"]


def test_a_journal_that_somebody_removed_is_told(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        folder(events.Notice("one"))
        folder.journal.unlink()
        with pytest.raises(ResultsError, match=r"events\.jsonl was removed while this run wrote it\. Start it again"):
            folder(events.Notice("two"))


REFUSED: dict[str, tuple[Exception, str]] = {
    "anywhere": (
        OSError(errno.ENOSPC, "No space left on device", "/x/y"),
        r"/x/y cannot be read or written \(No space",
    ),
    "no name": (FULL, r"run cannot be read or written \(No space left on device\)\. Free space and run"),
    "a limit": (OSError(errno.EFBIG, "File too large", "/x"), r"\(File too large\)\. Allow larger files \(ulimit -f\)"),
    "a copy": (
        shutil.Error([("a", "/x/b", "[Errno 28] No space left on device: 'a' -> '/x/b'")]),
        r"/x/b cannot be .* \(No space left on device\)\. Free space and run",
    ),
    "rust": (RuntimeError("I/O error: full (os error 28)"), r"run cannot be .* \(No space left on device\)\. Free"),
    "read-only": (
        PermissionError(errno.EACCES, "Permission denied", "/x"),
        r"\(Permission denied\)\. Make it writable",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_system_refuses_in_a_run_is_told_with_what_to_do(case: str, tmp_path: Path) -> None:
    error, told = REFUSED[case]
    with pytest.raises(ResultsError, match=told) as caught, RunFolder(tmp_path, "run"):
        raise error
    assert str(caught.value).endswith("and run the same command again; finished trials are kept.")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        BrokenPipeError(errno.EPIPE, "mine"),
        OSError("mine"),
        ResultsError("mine: [Errno 28] (os error 28)"),
    ],
)
def test_other_errors_pass_through_a_folder(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error), match="mine") as caught, RunFolder(tmp_path, "run"):
        raise error
    assert caught.value is error


def test_what_killed_writers_left_is_removed_at_opening(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        folder.finish_stage("confirm", [1])
    kept = sorted(path for path in folder.path.rglob("*"))
    for name in ("result.json.7.part", "stages/verdict.json.7.part", "vectors/a.safetensors.7.part", "winner.part/x"):
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_text("half")
    with RunFolder(tmp_path, "run"):
        assert sorted(folder.path.rglob("*")) == sorted([*kept, folder.vectors])


# -- time -----------------------------------------------------------------------------------------


def started() -> events.Event:
    return events.RunStarted("run", False, "accuracy", True, 7, 80)


def test_the_time_of_all_processes_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the wall jumps back by a day, the other one begins anew with each process."""
    wall, monotonic = 1e9, 0.0
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic)
    for start in (500.0, 20.0, 3e6):
        monotonic = start
        with RunFolder(tmp_path, "run") as folder:
            monotonic += 2
            folder(started())
            wall -= 86_400
            monotonic += 10.0004
            folder(events.Notice("x"))
    journal = list(read_journal(folder.journal))
    assert [event["up"] for event in journal] == [2.0, 12.0] * 3
    assert journal[-1]["at"] < journal[0]["at"]
    assert spent(journal) == 36.0


def test_no_time_is_spent_in_an_empty_journal_or_one_without_it() -> None:
    assert spent([]) == 0.0
    assert spent([{"event": "RunStarted"}, {"event": "Notice", "at": 5.0}]) == 0.0


def test_a_journal_of_10_000_trials_is_read_in_bounded_memory(tmp_path: Path) -> None:
    trial = events.TrialFinished(0, "discrete", 0.5, 0.1, 210, 1000, 0.25, "f" * 16, "An instruction. {text}\n" * 20)
    path = tmp_path / "events.jsonl"
    with path.open("w") as file:
        for number in range(10_000):
            if number % 1000 == 0:
                file.write(json.dumps({"at": 1.0, "up": 0.0, **started().record()}) + "\n")
            record = {"at": 1.0, "up": number % 1000, **dataclasses.replace(trial, number=number).record()}
            file.write(json.dumps(record) + "\n")
    began = time.process_time()
    assert spent(read_journal(path)) == 9990.0
    assert time.process_time() - began < 3
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_journal(path)) == 10_010
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# -- one process at a time -----------------------------------------------------------------------

HOLD = (
    "import sys; from pathlib import Path; from autoprompt.results import RunFolder\n"
    "with RunFolder(Path(sys.argv[1]), 'run'):\n"
    "    print('held', flush=True); sys.stdin.read()"
)


def test_a_folder_in_use_by_another_process_is_refused_until_it_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(
            ResultsError, match=rf"Another process .* .*run \(process {holder.pid}\)\. Wait for it, or .* --name"
        ):
            RunFolder(tmp_path, "run").__enter__()
        with RunFolder(tmp_path, "other") as other:
            assert other.path.is_dir()
    finally:
        holder.kill()
        holder.communicate()
    with RunFolder(tmp_path, "run") as folder:
        assert folder.journal.exists()


def test_who_holds_a_folder_is_known_without_taking_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    assert (folder.holder(), is_held(folder.path)) == (None, False)
    with folder:
        assert (RunFolder(tmp_path, "run").holder(), is_held(folder.path)) == (os.getpid(), True)
    assert (folder.holder(), is_held(folder.path)) == (None, False)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert folder.holder() == holder.pid
    holder.kill()
    holder.communicate()
    assert (folder.holder(), is_held(folder.path)) == (None, False)


def test_looking_at_a_folder_never_makes_a_run_refuse_it(tmp_path: Path) -> None:
    RunFolder(tmp_path, "run").__enter__().__exit__(None, None, None)
    code = (
        "import sys; from pathlib import Path; from autoprompt.results import is_held\n"
        "print('looking', flush=True)\nwhile True: is_held(Path(sys.argv[1]))"
    )
    looker = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert looker.stdout is not None
    assert looker.stdout.readline() == "looking\n"
    for _ in range(200):
        with RunFolder(tmp_path, "run") as folder:
            assert folder.path.is_dir()
    looker.kill()
    looker.communicate()


def test_a_folder_in_use_is_refused_within_one_process_too(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path, "run"),
        pytest.raises(ResultsError, match="Another process is running in"),
    ):
        RunFolder(tmp_path, "run").__enter__()


def test_a_refused_run_leaves_the_journal_of_the_other_alone(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        folder(events.Notice("one"))
        with folder.journal.open("ab") as file:
            file.write(b"half a li")
        with pytest.raises(ResultsError, match="Another process is running in"):
            RunFolder(tmp_path, "run").__enter__()
        assert folder.journal.read_bytes().endswith(b"half a li")


def test_a_folder_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), RunFolder(tmp_path, "run"):
        raise RuntimeError("inside")
    with RunFolder(tmp_path, "run") as folder:
        assert folder.path.is_dir()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """For root every folder is writable: here a file stands where the folder should be."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(
        ResultsError, match=r"The results folder .*run cannot be written \(Not a directory\)\. .*--results"
    ):
        RunFolder(tmp_path / "file", "run").__enter__()
    with pytest.raises(ResultsError, match=r"cannot be written \(File exists\)"):
        RunFolder(tmp_path, "file").__enter__()


def test_a_folder_in_place_of_the_journal_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "run" / "events.jsonl").mkdir(parents=True)
    with pytest.raises(ResultsError, match="cannot be written"):
        RunFolder(tmp_path, "run").__enter__()
    (tmp_path / "run" / "events.jsonl").rmdir()
    with RunFolder(tmp_path, "run") as folder:  # the refusal let go of the lock
        assert folder.journal.is_file()


# -- resumption ----------------------------------------------------------------------------------

MANIFEST = {
    "settings": {"seed": 7, "study": {"trials": 80}, "shares": [0.4, 0.3, 0.3]},
    "data": {"train": "aaaa"},
    "model": "bbbb",
    "versions": {"torch": "2.13.0"},
}


def test_the_first_claim_starts_and_the_second_resumes(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        assert folder.claim(MANIFEST) is False
        assert folder.claim(MANIFEST) is True
    with RunFolder(tmp_path, "run") as folder:
        assert folder.claim(MANIFEST) is True


def test_tuples_and_lists_are_the_same_to_a_claim(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        folder.claim(MANIFEST)
        settings = {**MANIFEST["settings"], "shares": (0.4, 0.3, 0.3)}  # type: ignore[dict-item]
        assert folder.claim({**MANIFEST, "settings": settings}) is True


def test_other_versions_do_not_stop_a_resumption(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        folder.claim(MANIFEST)
        assert folder.claim({**MANIFEST, "versions": {"torch": "3"}}) is True


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"settings": {**MANIFEST["settings"], "seed": 8}}, r"  - settings\.seed: 7 -> 8\n"),  # type: ignore[dict-item]
        ({"data": {"train": "cccc"}}, r'  - data\.train: "aaaa" -> "cccc"\n'),
        ({"data": {}}, r'  - data\.train: "aaaa" -> null\n'),
        ({"model": "dddd"}, r'  - model: "bbbb" -> "dddd"\n'),
        ({"settings": {"study": {"trials": 90}}}, r"  - settings\.study\.trials: 80 -> 90\n"),
    ],
)
def test_a_claim_of_another_run_is_refused_with_what_differs(
    changes: dict[str, object], line: str, tmp_path: Path
) -> None:
    with RunFolder(tmp_path, "run") as folder:
        folder.claim(MANIFEST)
        before = folder.manifest.read_bytes()
        with pytest.raises(ResultsError, match=line) as caught:
            folder.claim({**MANIFEST, **changes})
        assert "Nothing was changed there. Give this run another --name" in str(caught.value)
        assert folder.manifest.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"settings": 3}'])
def test_a_damaged_manifest_is_refused(content: str, tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        folder.manifest.write_text(content, encoding="utf-8")
        with pytest.raises(ResultsError, match=r"manifest\.json cannot be read back|started with something else"):
            folder.claim(MANIFEST)


def test_differences_are_named_by_their_path() -> None:
    old = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "same": [1], "gone": "x"}
    new = {"a": 1.5, "b": {"c": 2, "d": {"e": None}}, "same": [1], "come": "y" * 100}
    assert differences(old, new) == [
        "a: 1 -> 1.5",
        "b.d.e: 3 -> null",
        'come: null -> "' + "y" * 56 + "...",
        'gone: "x" -> null',
    ]
    assert differences(old, old) == []


# -- a finished run that searches on ---------------------------------------------------------------


def test_a_process_that_is_killed_while_it_reopens_a_run_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished, with all that it was, or unfinished, with no stage of before: at each of the moves."""

    class KilledError(BaseException):
        pass

    replace = Path.replace
    for moves in range(5):
        folder = RunFolder(tmp_path, f"run{moves}")
        folder.finish_stage("confirm", [1])
        for path in (folder.result, folder.report, folder.winner / "prompt.json", folder.tuning / "x"):
            write_text(path, "{}")
        left = iter(range(moves))

        def killed(path: Path, to: Path, left: Iterator[int] = left) -> Path:
            if next(left, None) is None:
                raise KilledError
            return replace(path, to)

        monkeypatch.setattr(Path, "replace", killed)
        with pytest.raises(KilledError, match=r"^$"):
            folder.reopen()
        monkeypatch.undo()
        assert folder.result.exists() or folder.stage("confirm") is None
        assert folder.winner.exists() or not folder.result.exists()
        folder.reopen()
        assert not any(path.exists() for path in (folder.result, folder.report, folder.winner, folder.tuning))
        assert folder.stage("confirm") is None


# -- stages --------------------------------------------------------------------------------------


def test_a_finished_stage_is_read_back(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "run") as folder:
        assert folder.stage("verdict") is None
        folder.finish_stage("verdict", events.WinnerChosen(3, "soft", 0.5, "f", "text"))
        folder.finish_stage("plain", {"a": [1, 2]})
    again = RunFolder(tmp_path, "run")
    assert again.stage("verdict") == {"number": 3, "kind": "soft", "value": 0.5, "fingerprint": "f", "text": "text"}
    assert again.stage("plain") == {"a": [1, 2]}


def test_a_damaged_stage_is_told(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    folder.finish_stage("verdict", {"a": 1})
    (tmp_path / "run" / "stages" / "verdict.json").write_bytes(b'{"a": \xff')
    with pytest.raises(ResultsError, match=r"verdict\.json cannot be read back \(.*\)\. Delete that file and run"):
        folder.stage("verdict")


@pytest.mark.parametrize("changed", ['{"value": 0.5}', "{}", "null", "[0.5]", "0.5", "edited"])
def test_a_stage_that_is_not_as_it_was_written_is_told(changed: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    folder.finish_stage("verdict", {"value": 0.25})
    path = tmp_path / "run" / "stages" / "verdict.json"
    path.write_text(path.read_text().replace("0.25", "0.75") if changed == "edited" else changed)
    with pytest.raises(ResultsError, match=r"verdict\.json is not as it was written\. Delete that file and run"):
        folder.stage("verdict")


def test_no_byte_of_a_stage_can_be_changed_unseen(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    folder.finish_stage("verdict", {"value": 0.25, "é": [1, None, True], 3: "x", 12: "y"})
    path = tmp_path / "run" / "stages" / "verdict.json"
    whole, stored = path.read_bytes(), folder.stage("verdict")
    told = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert folder.stage("verdict") == stored
        except ResultsError:
            told += 1
    assert told > len(whole) / 2  # the others are spaces between the values


def test_all_files_lie_in_the_runs_own_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    paths = [folder.journal, folder.manifest, folder.study, folder.vectors, folder.winner, folder.result, folder.report]
    assert {path.parent for path in paths} == {tmp_path / "run"}
    assert len({path.name for path in paths}) == len(paths)
