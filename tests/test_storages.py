"""Where a study is stored: nothing that was acknowledged is lost, whatever is killed, full or away."""

from __future__ import annotations

import json
import logging
import random
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from crew import crew
from optuna.trial import FrozenTrial, TrialState, create_trial
from postgres import Proxy, Server, free_port, proxy, server

from autoprompt.errors import ResultsError, StudyError
from autoprompt.prompt import Prompt, SoftPart
from autoprompt.space import Space
from autoprompt.study import Shared, open_storage, serve_proxy
from autoprompt.study.journal import Journal
from autoprompt.study.records import Asked
from autoprompt.study.storages import Store
from autoprompt.study.trials import Trials

pytestmark = pytest.mark.process

PRELOADED = ("test_workers", "test_storages")
MAXIMIZE = (optuna.study.StudyDirection.MAXIMIZE,)


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    with server() as started:
        yield started


@pytest.fixture(scope="module")
def served(database: Server) -> Iterator[Proxy]:
    with proxy(database.create("proxied")) as started:
        yield started


@pytest.fixture
def space() -> Space:
    return Space(Prompt("{{ text }} {{ label }}", {"a": "yes", "b": "no"}), instructions=("", "Which?"))


def template(mark: list[int]) -> FrozenTrial:
    return create_trial(state=TrialState.RUNNING, user_attrs={"mark": mark, "batch": 0})


def study_of(store: Store, name: str = "s") -> optuna.Study:
    return optuna.create_study(storage=store.storage, study_name=name, load_if_exists=True)


# -- the journal file ------------------------------------------------------------------------------


def append(path: Path, who: str, count: int, size: int) -> None:
    """What a writer's process does: it acknowledges each line in a file of its own."""
    journal = Journal(path, shared=True)
    with path.with_name(f"acknowledged.{who}").open("w") as acknowledged:
        for at in range(count):
            journal.append_logs([{"op_code": 99, "who": who, "at": at, "text": "x" * size}])
            acknowledged.write(f"{at}\n")
            acknowledged.flush()


def appending(path: Path, who: str, count: int, size: int = 10) -> BaseProcess:
    process: BaseProcess = crew(*PRELOADED).Process(target=append, args=(path, who, count, size))
    process.start()
    return process


def acknowledged_by(path: Path, who: str) -> list[int]:
    file = path.with_name(f"acknowledged.{who}")
    return (
        [int(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if file.exists()
        else []
    )


def test_processes_that_append_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    writers = [appending(path, str(who), 100) for who in range(3)]
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    found = [(record["who"], record["at"]) for record in Journal(path).read_logs(0)]
    assert sorted(found) == [(str(who), at) for who in range(3) for at in range(100)]


@pytest.mark.fault("kill -9 in the middle of a journal's line", 12)
def test_a_writer_killed_in_the_middle_of_large_lines_leaves_all_that_it_acknowledged(tmp_path: Path) -> None:
    path, drawn = tmp_path / "study.journal", random.Random(1)
    for round_ in range(12):
        who = str(round_)
        writer = appending(path, who, 10_000, 500_000)
        while len(acknowledged_by(path, who)) < 3:
            time.sleep(0.001)
        time.sleep(drawn.uniform(0, 0.01))
        writer.kill()
        writer.join()
        began = time.monotonic()
        journal = Journal(path, shared=True)
        journal.append_logs([{"op_code": 99, "who": "survivor", "at": round_}])
        assert time.monotonic() - began < 1  # a dead one's lock holds nobody up
        found = [record["at"] for record in journal.read_logs(0) if record["who"] == who]
        assert found == list(range(len(found)))
        assert set(acknowledged_by(path, who)) <= set(found)


@pytest.mark.fault("journal's line on a full disk")
def test_a_full_disk_takes_the_line_back_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    journal = Journal(path)
    journal.append_logs([{"op_code": 99, "at": 0}])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(ResultsError, match=r"study\.journal cannot be written .* run the same command again"):
            journal.append_logs([{"op_code": 99, "text": "x" * 1000}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    journal.append_logs([{"op_code": 99, "at": 1}])
    assert [record["at"] for record in journal.read_logs(0)] == [0, 1]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study_of(open_storage(path))
    path.write_bytes(path.read_bytes() + b"{broken}\n")
    with pytest.raises(ResultsError, match=r"study\.journal, line 2 is not a record of a study\. Was the file edited"):
        open_storage(path)


def test_optuna_reads_the_journal_with_its_own_backend(tmp_path: Path) -> None:
    study = study_of(open_storage(tmp_path / "study.journal"))
    study.add_trial(create_trial(value=0.5))
    stock = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal")))
    assert optuna.load_study(study_name="s", storage=stock).best_value == 0.5


def opens(folder: Path, out: Path) -> None:
    """Open the study of a folder, in a process of its own: what that takes is not what other tests took."""
    space = Space(Prompt("{{ text }} {{ label }}", {"a": "yes", "b": "no"}), instructions=("", "Which?"))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    trials = Trials(folder, space, MAXIMIZE)
    seconds, after = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out.write_text(json.dumps({"trials": len(trials.all()), "seconds": seconds, "mb": (after - before) / 1024}))


def test_a_journal_of_ten_thousand_trials_opens_in_seconds_with_bounded_memory(tmp_path: Path, space: Space) -> None:
    trials = Trials(tmp_path, space, MAXIMIZE)
    trials.add(Asked(space.baseline, "baseline"), 0, 1)
    params = {"instruction": 1}
    among = {"instruction": optuna.distributions.CategoricalDistribution([0, 1])}
    trials.add(
        Asked(Prompt(space.baseline.template, space.baseline.label_words, "Which?"), "discrete", params, among), 1, 1
    )
    path = tmp_path / "study.journal"
    *head, line = path.read_text().splitlines()
    record = {
        "examples": 300, "value": 0.5, "loss": 1.0, "margin": 0.1, "gain": 0.1, "work": 100, "tokens": 100, "seconds": 1.0,
        "size": 0.0, "looks": {"300": 0.5}, "evidence": "A" * 3200, "values": "A" * 3200,
    }  # fmt: skip
    lines = list(head)
    for number in range(1, 10_000):
        score = {"op_code": 8, "worker_id": "w", "trial_id": number, "user_attr": {"score": {**record, "loss": number}}}
        state = {"op_code": 6, "worker_id": "w", "trial_id": number, "state": 1, "values": [0.5]}
        state["datetime_complete"] = "2026-11-25T22:32:32.718742+00:00"
        lines += [line, json.dumps(score), json.dumps(state)]
    path.write_text("\n".join(lines) + "\n")
    process = crew(*PRELOADED).Process(target=opens, args=(tmp_path, tmp_path / "opened.json"))
    process.start()
    process.join()
    opened = json.loads((tmp_path / "opened.json").read_text())
    assert opened["trials"] == 10_000
    assert opened["seconds"] < 3  # of the processor
    assert opened["mb"] < 300  # that opening it takes, the libraries not included


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:hush@127.0.0.1:5432/db", "postgresql://127.0.0.1/db?user=me&password=hush", "grpc://a:hush@b:1"],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StudyError, match=r"has a password in it.*PGPASSWORD") as caught:
        open_storage(url)
    assert "hush" not in str(caught.value) + caplog.text
    assert caught.value.__context__ is None


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite:///a.db", "redis://a", "nonsense", "journal:"])
def test_an_unknown_kind_names_those_that_are_allowed(url: str) -> None:
    with pytest.raises(StudyError, match=r"allowed are journal:PATH, postgresql://USER@HOST:PORT/DATABASE and grpc:"):
        open_storage(url)


def test_an_address_that_cannot_be_read_is_an_error_without_it() -> None:
    with pytest.raises(StudyError, match=r"^The address of the storage cannot be read; allowed are"):
        open_storage("postgresql://me@host:99999999/db")


def test_a_server_that_is_not_there_is_named(database: Server) -> None:
    port = free_port()
    with pytest.raises(StudyError, match=rf"postgresql at 127\.0\.0\.1:{port} cannot be used: .*Is the server running"):
        open_storage(f"postgresql://me@127.0.0.1:{port}/db")
    with pytest.raises(StudyError, match=r"cannot be used: .*database \"nowhere\" does not exist"):
        open_storage(database.url("nowhere"))


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprompt.study.storages._PROXY", 1)
    with pytest.raises(StudyError, match=r"grpc at 127\.0\.0\.1:\d+ does not answer\. Is its server running"):
        open_storage(f"grpc://127.0.0.1:{free_port()}")


def test_a_proxy_stands_in_front_of_a_database_alone() -> None:
    with pytest.raises(StudyError, match=r"give it postgresql://"):
        serve_proxy("journal:a")


def test_a_proxy_whose_port_is_taken_says_so(database: Server) -> None:
    with pytest.raises(StudyError, match=rf"The proxy cannot listen on 127\.0\.0\.1:{database.port}: .*another port"):
        serve_proxy(database.url(), port=database.port)


# -- PostgreSQL and gRPC -----------------------------------------------------------------------------


def open_and_ask(url: str, at: float) -> None:
    time.sleep(max(0.0, at - time.time()))
    study = study_of(open_storage(url))
    for _ in range(5):
        study.ask()


@pytest.mark.fault("first starts at once on an empty database", 5)
def test_five_first_starts_at_once_make_one_schema_and_no_crash(database: Server) -> None:
    for round_ in range(2):
        url = database.create(f"first{round_}")
        context, at = crew(*PRELOADED), time.time() + 1
        processes = [context.Process(target=open_and_ask, args=(url, at)) for _ in range(5)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * 5
        study = study_of(open_storage(url))
        assert [trial.number for trial in study.get_trials()] == list(range(25))


def test_a_trial_is_stored_as_optuna_stores_it(database: Server) -> None:
    url = database.create("alike")
    among: dict[str, Any] = {
        "a": optuna.distributions.CategoricalDistribution(["x", "y"]),
        "b": optuna.distributions.IntDistribution(0, 9),
    }
    attrs = {"text": "π", "list": [1, 2], "none": None}
    trial = create_trial(state=TrialState.RUNNING, params={"a": "y", "b": 3}, distributions=among, user_attrs=attrs)
    ours = study_of(open_storage(url))
    ours._storage.create_new_trial(ours._study_id, trial)
    stock = optuna.storages.RDBStorage(url.replace("postgresql", "postgresql+psycopg"))
    plain = optuna.create_study(storage=stock, study_name="plain")
    plain._storage.create_new_trial(plain._study_id, trial)
    [first], [second] = optuna.load_study(study_name="s", storage=stock).get_trials(), plain.get_trials()
    assert (first.params, first.distributions, first.user_attrs, first.state, first.number) == (
        second.params, second.distributions, second.user_attrs, second.state, second.number,
    )  # fmt: skip
    stock.engine.dispose()


@pytest.mark.model
@pytest.mark.parametrize("kind", ["postgresql", "grpc"])
@pytest.mark.fault("storage away for seconds")
def test_a_server_that_goes_down_and_comes_back_loses_and_doubles_nothing(kind: str, tmp_path: Path) -> None:
    with server() as own:
        if kind == "grpc":
            with proxy(own.url()) as before:
                found, acknowledged = _restarted_while_writing(own, before.url)
        else:
            found, acknowledged = _restarted_while_writing(own, own.url())
    assert Counter(tuple(t.user_attrs["mark"]) for t in found) == Counter(acknowledged)
    assert {t.state for t in found} == {TrialState.COMPLETE}
    assert [t.number for t in found] == list(range(len(found)))


def _restarted_while_writing(own: Server, url: str) -> tuple[list[FrozenTrial], list[tuple[int, ...]]]:
    """The trials of a study whose server goes down twice, and the marks of those that were acknowledged."""
    store = open_storage(url)
    study = study_of(store)
    storage, name = study._storage, study._study_id
    acknowledged: list[list[int]] = []
    stopped = threading.Event()

    def restart() -> None:
        for _ in range(2):
            time.sleep(1.0)
            own.stop()
            own.start()
        stopped.set()

    thread = threading.Thread(target=restart)
    thread.start()
    at = 0
    while not stopped.is_set() or at < 20:
        mark = [at, 0]

        def made(mark: list[int] = mark) -> int | None:
            found = storage.get_all_trials(name, deepcopy=False)
            return next((t._trial_id for t in found if t.user_attrs["mark"] == mark), None)

        trial = template(mark)
        number = store.steadily(lambda trial=trial: storage.create_new_trial(name, trial), made)  # type: ignore[misc]

        def ended(number: int = number) -> bool | None:
            return storage.get_trial(number).state.is_finished() or None

        store.steadily(lambda number=number: storage.set_trial_state_values(number, TrialState.COMPLETE, [1.0]), ended)  # type: ignore[misc]
        acknowledged.append(mark)
        at += 1
    thread.join()
    return storage.get_all_trials(name, deepcopy=False), [tuple(mark) for mark in acknowledged]


def test_a_server_that_stays_away_ends_the_search_with_an_error() -> None:
    with server() as own:
        store = open_storage(own.url(), patience=0.5)
        study = study_of(store)
        own.stop()
        with pytest.raises(StudyError, match=r"postgresql at 127\.0\.0\.1:\d+ has not answered for 0 s .*same command"):
            store.steadily(lambda: study._storage.get_all_trials(study._study_id))


def soft(space: Space, size: int) -> Asked:
    vectors = np.random.default_rng(1).normal(size=(2, size)).astype(np.float32)
    prompt = Prompt(space.baseline.template, space.baseline.label_words, soft=SoftPart(vectors, "start"))
    return Asked(prompt, "tuning")


@pytest.mark.parametrize("kind", ["journal", "postgresql", "grpc"])
def test_vectors_are_read_back_by_another_worker_bit_for_bit(
    kind: str, tmp_path: Path, space: Space, request: pytest.FixtureRequest
) -> None:
    url = {
        "journal": lambda: f"journal:{tmp_path / 'study.journal'}",
        "postgresql": lambda: request.getfixturevalue("database").url(),
        "grpc": lambda: request.getfixturevalue("served").url,
    }[kind]()
    asked = soft(space, 64)
    Trials(Shared(url, f"vectors {kind}"), space, MAXIMIZE).add(asked, 0, 1)
    other = Trials(Shared(url, f"vectors {kind}", 1), space, MAXIMIZE)
    [trial] = other.all()
    found = other.prompt(trial)
    assert asked.prompt is not None
    assert found.fingerprint == asked.prompt.fingerprint
    assert ("vectors" in trial.user_attrs) == (kind != "journal")
    assert (tmp_path / "vectors").is_dir() == (kind == "journal")


def test_vectors_too_large_for_a_message_are_refused_in_words(served: Proxy, space: Space) -> None:
    trials = Trials(Shared(served.url, "large"), space, MAXIMIZE)
    with pytest.raises(StudyError, match=r"A trial takes 4\.\d MB with its vectors; through gRPC 3 MB can go"):
        trials.add(soft(space, 400_000), 0, 1)
    assert trials.all() == []
