"""Whole runs that meet faults end with one clear error, or come out as one that was never disturbed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from faults import NAME, Fault, Run, differing, lock, outcome_of, stored_trials, trials_of, written

from autoprompt import events
from autoprompt.results import RunFolder, is_held, read_journal, spent

pytestmark = pytest.mark.model

DAY = 86_400.0
ROUNDED = 1e-4  # what is scored again beside other requests differs in its last digits
AS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def space() -> Iterator[Path]:
    """The space file, in a folder that every user may read."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        Path(folder).chmod(0o755)
        yield written(Path(folder))


@pytest.fixture(scope="module")
def done(space: Path) -> Path:
    """The run's folder of a run that was never disturbed."""
    return succeeded(Run(space, space.parent / "done"))


@pytest.fixture(scope="module")
def halves(space: Path) -> dict[str, Path]:
    """The results of a run that was killed with -9 in the search, among its soft trials, and in fine-tuning."""
    moments = {"search": "TrialFinished=9", "soft": "TrialFinished=16", "finetune": "EpochFinished=2"}
    found, before = {}, None
    for name, moment in moments.items():
        found[name] = results = space.parent / name
        if before is not None:
            shutil.copytree(before, results)
        code, _, error = Run(space, results, Fault(moment, kill=True)).wait()
        assert code == -9, error
        before = results
    return found


def succeeded(run: Run) -> Path:
    code, _, error = run.wait()
    assert (code, "Traceback" in error) == (0, False), error
    return run.folder


def refused_with(run: Run, *words: str) -> str:
    """A run that ends with one error, which says this; the error."""
    code, _, error = run.wait()
    assert code == 2, error
    told = " ".join(error[error.index("Error:") :].split())
    assert [word for word in words if word not in told] == [], told
    assert (error.count("Error:"), "Traceback" in error) == (1, False), error
    return told


def same_as(done: Path, folder: Path, within: float = 0.0) -> bool:
    """Whether a run's trials, winner and result are those of the undisturbed one, numbers within so much."""
    one, other = outcome_of(done), outcome_of(folder)
    assert differing(trials_of(done), trials_of(folder), within) == []
    assert {key: (one.get(key), other.get(key)) for key in differing(one, other, within)} == {}
    prompts = [(each / "winner" / "prompt.json").read_bytes() for each in (done, folder)]
    return prompts[0] == prompts[1]


# -- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 MB of its own; a plain folder where no disk may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(place)]
    if not AS_ROOT or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


# in the search a trial, then what is stored of the next ones; a line of the confirmation; the verdict; an epoch; the export
MOMENTS = (
    "TrialFinished=6",
    "BatchPlanned=4",
    "StageStarted=confirm",
    "TestOpened",
    "EpochFinished=1",
    "StageStarted=export",
)


@pytest.mark.fault("disk full in a stage")
def test_a_disk_that_is_full_in_every_stage_costs_nothing_that_was_finished(
    done: Path, space: Path, disk: Path
) -> None:
    known: dict[int, object] = {}
    for moment in MOMENTS:
        refused_with(
            Run(space, disk / "results", Fault(moment, disk=disk)),
            "No space left on device", "Free space and run the same command again; finished trials are kept.",
        )  # fmt: skip
        (disk / "filler").unlink()
        folder = disk / "results" / NAME
        told = trials_of(folder)
        assert [number for number in known if known[number] != told.get(number)] == []
        assert set(told) <= set(stored_trials(folder))
        known = dict(told)
    assert same_as(done, succeeded(Run(space, disk / "results")))


def test_a_limit_on_file_sizes_costs_nothing_that_was_finished(done: Path, space: Path, tmp_path: Path) -> None:
    """Without a small disk too: in the middle of a line of the journal and of all that is larger."""
    for moment in MOMENTS[::2]:
        refused_with(
            Run(space, tmp_path, Fault(moment, limit=90)),
            "File too large", "Allow larger files (ulimit -f) and run the same command again; finished trials are kept.",
        )  # fmt: skip
    assert same_as(done, succeeded(Run(space, tmp_path)))


# -- a folder that is or becomes read-only ---------------------------------------------------------


def test_a_results_folder_that_was_always_read_only_is_told(space: Path) -> None:
    results = space.parent / "locked"
    results.mkdir(mode=0o555)
    told = refused_with(Run(space, results, Fault(plain=True)), "--results FOLDER")
    assert f"The results folder {results / NAME} cannot be written (Permission denied)." in told
    assert list(results.iterdir()) == []


@pytest.mark.fault("results folder turned read-only")
def test_a_folder_that_becomes_read_only_ends_the_run_and_is_gone_on_with(
    done: Path, space: Path, tmp_path: Path
) -> None:
    told = refused_with(Run(space, tmp_path, Fault("TrialFinished=6", plain=True, locked=True)), "Permission denied")
    assert "Make it writable and run the same command again; finished trials are kept." in told
    before = trials_of(tmp_path / NAME)
    refused_with(Run(space, tmp_path, Fault(plain=True)), "cannot be written (Permission denied)")
    lock(tmp_path / NAME, write=True)
    folder = succeeded(Run(space, tmp_path, Fault(plain=True)))
    assert before == {number: trial for number, trial in trials_of(folder).items() if number in before}
    assert len(before) >= 7
    assert same_as(done, folder)


# -- time ----------------------------------------------------------------------------------------


@pytest.mark.fault("clock jumping back")
def test_a_clock_that_jumps_back_stops_nothing_and_no_time_is_lost(done: Path, space: Path, tmp_path: Path) -> None:
    folder = succeeded(Run(space, tmp_path, Fault("TrialFinished=9", clock=400 * DAY)))
    journal = list(read_journal(folder / "events.jsonl"))
    at = [event["at"] for event in journal]
    assert at[-1] < at[0] - 399 * DAY
    assert spent(journal) == journal[-1]["up"] > 0
    assert [event["up"] for event in journal] == sorted(event["up"] for event in journal)
    assert same_as(done, folder)


# -- two runs on one folder ------------------------------------------------------------------------


@pytest.mark.fault("second run on the same folder")
def test_a_second_run_on_the_same_folder_is_refused_and_the_first_goes_on(
    halves: dict[str, Path], space: Path, tmp_path: Path
) -> None:
    results = shutil.copytree(halves["search"], tmp_path / "results")
    first = Run(space, results, Fault("StageStarted=search", wait=True))
    while sum(event.get("stage") == "search" for event in first.events() if event["event"] == "StageStarted") < 2:
        assert first.runs()
    assert is_held(first.folder)
    refused_with(
        Run(space, results),
        f"Another process is running in {results / NAME} (process {first.pid}). "
        "Wait for it, or give this run another --name.",
    )
    assert first.runs()
    first.kill()
    assert not is_held(first.folder)


# -- torn and damaged files ------------------------------------------------------------------------


@pytest.mark.fault("torn last line of a journal")
def test_a_journal_torn_at_any_byte_of_its_last_line_is_gone_on_with(done: Path, tmp_path: Path) -> None:
    whole = (done / "events.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    path = tmp_path / NAME / "events.jsonl"
    path.parent.mkdir()
    for kept in range(len(lines[-1])):
        path.write_bytes(whole[: len(whole) - len(lines[-1]) + kept])
        assert sum(1 for _ in read_journal(path)) == len(lines) - 1
        with RunFolder(tmp_path, NAME) as folder:
            folder(events.Notice("on"))
        assert path.read_bytes().startswith(b"".join(lines[:-1]))
        assert [event["event"] for event in read_journal(path)][-2:] == [json.loads(lines[-2])["event"], "Notice"]


@pytest.mark.fault("torn last line of a study")
def test_a_study_torn_at_any_byte_of_its_last_line_is_read(halves: dict[str, Path], tmp_path: Path) -> None:
    from autoprompt.study.storages import open_storage

    whole = (halves["search"] / NAME / "study.journal").read_bytes()
    lines = whole.splitlines(keepends=True)
    path = tmp_path / "study.journal"
    path.write_bytes(b"".join(lines[:-1]))
    expected = stored_trials(tmp_path)
    for kept in range(len(lines[-1])):
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
        opened = open_storage(path)
        study = optuna.load_study(study_name="autoprompt", storage=opened.storage)
        study.set_user_attr("kept", kept)
        assert stored_trials(tmp_path) == expected
        assert path.read_bytes().startswith(b"".join(lines[:-1]))
        assert optuna.load_study(study_name="autoprompt", storage=open_storage(path).storage).user_attrs["kept"] == kept


def flipped(path: Path, at: float = 0.5) -> None:
    """Change a bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


@pytest.mark.parametrize("damage", [torn, overwritten])
@pytest.mark.fault("damaged memory of scores")
def test_a_damaged_memory_of_scores_is_set_aside(
    damage: Callable[[Path], None], halves: dict[str, Path], done: Path, space: Path, tmp_path: Path
) -> None:
    results = shutil.copytree(halves["search"], tmp_path / "results")
    for suffix in ("-wal", "-shm"):
        (results / f"scores.sqlite{suffix}").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        damage(results / "scores.sqlite")
    with (
        (results / NAME / "events.jsonl").open("ab") as journal,
        (results / NAME / "study.journal").open("ab") as study,
    ):
        journal.write(b'{"event": "Tri')  # both were torn besides
        study.write(b'{"op_code": 5, "wor')
    assert same_as(done, succeeded(Run(space, results)), within=ROUNDED)


def test_the_best_prompt_so_far_is_shown_though_the_run_was_killed_before_it_was_written(
    done: Path, space: Path, tmp_path: Path
) -> None:
    best, number = -1.0, -1
    for event in read_journal(done / "events.jsonl"):
        if event["event"] == "TrialFinished" and not event["dropped"] and event["value"] > best:
            best, number = event["value"], event["number"]
    assert Run(space, tmp_path, Fault(f"TrialFinished={number}", kill=True)).wait()[0] == -9
    folder = succeeded(Run(space, tmp_path))
    assert (folder / "best" / "prompt.json").read_bytes() == (done / "best" / "prompt.json").read_bytes()


@pytest.mark.parametrize("stage", ["search", "confirm"])
@pytest.mark.parametrize("damage", [torn, flipped])
@pytest.mark.fault("damaged vectors")
def test_damaged_vectors_are_told_and_nothing_goes_on_without_them(
    damage: Callable[[Path], None], stage: str, halves: dict[str, Path], done: Path, space: Path, tmp_path: Path
) -> None:
    results = shutil.copytree(halves["soft" if stage == "search" else "finetune"], tmp_path / "results")
    shutil.rmtree(results / NAME / "stages", ignore_errors=True)
    whole = {path: path.read_bytes() for path in (results / NAME / "vectors").iterdir()}
    for path in whole:
        damage(path)
    refused_with(Run(space, results), "vectors", str(results / NAME))
    for path, content in whole.items():
        path.write_bytes(content)
    assert same_as(done, succeeded(Run(space, results)))
    assert len(whole) >= 4


@pytest.mark.parametrize("stage", ["confirm", "verdict", "finetune"])
@pytest.mark.fault("damaged outcome of a stage")
def test_a_damaged_stage_is_told_and_made_anew_once_it_is_deleted(
    stage: str, done: Path, space: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(done, results / NAME)
    (results / NAME / "result.json").unlink()
    path = results / NAME / "stages" / f"{stage}.json"
    flipped(path, 0.9)
    refused_with(Run(space, results), str(path), "Delete that file and run the same command again")
    path.unlink()
    assert same_as(done, succeeded(Run(space, results)), within=ROUNDED)  # the memory of scores is not there


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    halves: dict[str, Path], done: Path, space: Path, tmp_path: Path
) -> None:
    results = shutil.copytree(halves["finetune"], tmp_path / "results")
    flipped(results / NAME / "checkpoints" / "winner" / "epoch-2" / "weights.safetensors", 0.9)
    folder = succeeded(Run(space, results))
    epochs = [event["epoch"] for event in read_journal(folder / "events.jsonl") if event["event"] == "EpochFinished"]
    assert epochs == [1, 2, 2, 3]
    assert same_as(done, folder)


@pytest.mark.fault("damaged result")
def test_a_damaged_result_is_told_and_made_anew_once_it_is_deleted(done: Path, space: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "results" / NAME)
    torn(folder / "result.json")
    refused_with(Run(space, tmp_path / "results"), "result.json cannot be read back", "Delete that file and run the")
    (folder / "result.json").unlink()
    assert same_as(done, succeeded(Run(space, tmp_path / "results")))
