"""Many workers on one study: real processes, killed with -9, on each storage."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from crew import crew
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from postgres import Proxy, Server, proxy, server

from autoprompt.clock import never
from autoprompt.config import data_options, read_config
from autoprompt.data import Example, read_splits
from autoprompt.engine import ScoreMemory
from autoprompt.errors import ResultsError, StudyError
from autoprompt.events import Event, Notice, TrialFinished
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import load_model
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.setting import make_space as make_setting
from autoprompt.setting import study_options
from autoprompt.space import DemonstrationSpace, SoftSpace, Space
from autoprompt.study import Posting, Shared, Study, StudyOptions, joined, open_storage, publish, published
from autoprompt.study.asking import Plan
from autoprompt.study.beats import Beats
from autoprompt.study.board import Board
from autoprompt.study.branches import Found
from autoprompt.study.history import History
from autoprompt.study.records import Asked
from autoprompt.study.sharing import Roll
from autoprompt.study.together import AskingTogether
from autoprompt.study.trials import Trials
from autoprompt.worker import fingerprints
from autoprompt.worker import work as join

pytestmark = pytest.mark.model

BRANCHES = ("discrete", "edits", "coordinates")
PRELOADED = ("test_workers", "test_storages")


# -- a worker, in a process of its own -------------------------------------------------------------


def make_space(rows: list[dict[str, str]]) -> tuple[Space, list[Example]]:
    examples = [Example(i, {"text": row["text"]}, row["topic"]) for i, row in enumerate(rows)]
    labels = sorted({e.label for e in examples})
    space = Space(
        Prompt("{{ text }}\nTopic: {{ label }}", {label: label for label in labels}),
        templates=("{{ text }}\nTopic: {{ label }}", "{{ text }} -> {{ label }}", "{{ text }} is {{ label }}"),
        instructions=("", "Name the topic.", "What is it about?"),
        label_words={label: (label, f"{label}!", f"the {label}") for label in labels},
        demonstrations=DemonstrationSpace(most=2, draws=4, orders=2),
        pool=tuple(examples[30:]),
        soft=SoftSpace(vectors=(2,), dimensions=4),
        seed=5,
    )
    return space, examples[:30]


def make_study(
    folder: Path, model: str, place: Path | Shared | None, trials: int, pause: float = 0.0, **changes: Any
) -> Study:
    """pause: seconds that each score takes longer, so that there is time to be killed in."""
    rows = json.loads((folder / "rows.json").read_text())
    space, examples = make_space(rows)

    class Slow(Scorer):
        def read(self, prompts: Any, examples: Any) -> None:
            time.sleep(pause)
            super().read(prompts, examples)

    loaded = load_model(model, device="cpu")
    memory = ScoreMemory(folder / "scores.sqlite", loaded.identity)
    number = place.worker if isinstance(place, Shared) else 0
    log = folder / f"heard.{number}.{os.getpid()}"

    def hear(event: Event) -> None:
        if isinstance(event, TrialFinished | Notice):
            with log.open("a") as file:
                if isinstance(event, TrialFinished):
                    file.write(f"{event.number} {event.fingerprint} {event.value!r} {event.dropped}\n")
                else:
                    file.write(f"# {event.message}\n")

    known = [int(line[0]) for line in heard(folder, 0)]
    options = StudyOptions(trials=trials, batch=4, slice=8, startup=8, branches=BRANCHES, generations=2)
    options = replace(options, **changes)
    return Study(space, Slow(loaded, accuracy, memory=memory), examples, options, place, 5, hear, known)


def work(folder: Path, model: str, place: Shared, trials: int, pause: float, main: bool) -> None:
    """What a worker's process does."""
    shared = place if main else joined(place)
    study = make_study(folder, model, shared, trials, pause)
    found = study.run()
    (folder / f"done.{shared.worker}").write_text(str(found[0].number if found else -1))


# -- storages --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    with server() as started:
        yield started


@pytest.fixture(scope="module")
def served(database: Server) -> Iterator[Proxy]:
    with proxy(database.create("proxied")) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path, topics_rows: list[dict[str, str]]) -> Path:
    (tmp_path / "rows.json").write_text(json.dumps(topics_rows))
    return tmp_path


def place_of(kind: str, folder: Path, request: pytest.FixtureRequest, grace: float = 4.0) -> Shared:
    name = folder.name
    if kind == "journal":
        storage = f"journal:{folder / 'study.journal'}"
    elif kind == "postgresql":
        storage = request.getfixturevalue("database").url()
    else:
        storage = request.getfixturevalue("served").url
    return Shared(storage, name, beat=0.2, grace=grace)


def trials_of(place: Shared) -> list[Any]:
    import optuna

    store = open_storage(place.storage)
    return list(optuna.load_study(study_name=place.name, storage=store.storage).get_trials(deepcopy=False))


def heard(folder: Path, number: int | str = "*") -> list[list[str]]:
    """The trials that processes were told of, by number."""
    lines = [line.split() for path in folder.glob(f"heard.{number}.*") for line in path.read_text().splitlines()]
    return sorted((line for line in lines if line[0] != "#"), key=lambda line: int(line[0]))


def started(ctx: Any, folder: Path, model: Path, place: Shared, trials: int, main: bool, pause: float) -> BaseProcess:
    process: BaseProcess = ctx.Process(target=work, args=(folder, str(model), place, trials, pause, main))
    process.start()
    return process


def until(condition: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


# -- the tests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["postgresql", "grpc"])
@pytest.mark.fault("kill -9 of one of four workers")
def test_four_workers_of_which_one_is_killed_lose_and_double_nothing(
    kind: str, folder: Path, llama_folder: Path, request: pytest.FixtureRequest
) -> None:
    ctx, place, trials = crew(*PRELOADED), place_of(kind, folder, request), 37
    main = started(ctx, folder, llama_folder, place, trials, True, 0.05)
    others = [started(ctx, folder, llama_folder, place, trials, False, 0.05) for _ in range(2)]
    until(lambda: len(heard(folder, 1)) >= 4 and len(heard(folder, 2)) >= 4)
    others[0].kill()
    late = started(ctx, folder, llama_folder, place, trials, False, 0.05)
    for process in (main, late, *others):
        process.join(180)
    assert [main.exitcode, late.exitcode, others[1].exitcode] == [0, 0, 0]
    found = trials_of(place)
    assert [t.number for t in found] == list(range(trials))
    assert {t.state.name for t in found} == {"COMPLETE", "PRUNED"}
    assert len({tuple(t.user_attrs["mark"]) for t in found[1:]}) == trials - 1
    assert len({t.user_attrs["worker"] for t in found}) >= 3
    # the main process tells of all, each once
    assert [int(line[0]) for line in heard(folder, 0)] == list(range(trials))
    # what any worker was told of is what is stored
    stored = {t.number: [t.user_attrs["fingerprint"], repr(t.user_attrs["score"]["value"])] for t in found}
    assert all(stored[int(line[0])] == line[1:3] for line in heard(folder))
    scores = [(t.user_attrs["score"], t.number) for t in found if t.state.name == "COMPLETE"]
    best = min(scores, key=lambda pair: (-pair[0]["value"], -pair[0]["margin"], pair[1]))
    assert (folder / "done.0").read_text() == str(best[1])
    prints = Counter(t.user_attrs["fingerprint"] for t in found)
    print(
        kind,
        "prompts asked twice:",
        sum(n - 1 for n in prints.values()),
        Counter(t.user_attrs["worker"] for t in found),
    )


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.fault("kill -9 of a lone worker on PostgreSQL", 4)
def test_a_lone_run_killed_anywhere_reaches_the_trials_of_one_never_killed(
    kind: str, folder: Path, llama_folder: Path, request: pytest.FixtureRequest, topics_rows: list[dict[str, str]]
) -> None:
    ctx, place, trials, drawn = crew(*PRELOADED), place_of(kind, folder, request), 33, random.Random(kind)
    (folder / "whole").mkdir()
    (folder / "whole/rows.json").write_text(json.dumps(topics_rows))
    whole = make_study(folder / "whole", str(llama_folder), None, trials)
    whole.run()
    acknowledged: dict[str, list[str]] = {}
    for _ in range(4):
        before = len(heard(folder, 0))
        process = started(ctx, folder, llama_folder, place, trials, True, 0.02)
        until(lambda before=before, process=process: len(heard(folder, 0)) > before or not process.is_alive())  # type: ignore[misc]
        time.sleep(drawn.uniform(0, 0.4))
        process.kill()
        process.join()
        acknowledged |= {line[0]: line for line in heard(folder, 0)}
    process = started(ctx, folder, llama_folder, place, trials, True, 0.0)
    process.join(180)
    assert process.exitcode == 0
    found = trials_of(place)
    stored = {str(t.number): [t.user_attrs["fingerprint"], repr(t.user_attrs["score"]["value"])] for t in found}
    assert all(stored[number] == line[1:3] for number, line in acknowledged.items())
    assert len(acknowledged) >= 4
    assert told(found) == told(whole.trials.all())


def told(trials: Any) -> list[tuple[Any, ...]]:
    keys = ("branch", "batch", "size", "fingerprint", "parents")
    return [(*(t.user_attrs[key] for key in keys), t.state.name, t.value) for t in trials]


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.fault("kill -9 of one of three workers")
def test_two_that_find_the_batch_of_a_dead_worker_tell_each_of_its_trials_once(
    kind: str, folder: Path, llama_folder: Path, request: pytest.FixtureRequest
) -> None:
    ctx, place, trials = crew(*PRELOADED), place_of(kind, folder, request, grace=1.0), 17
    main = started(ctx, folder, llama_folder, place, trials, True, 0.3)
    until(lambda: len(heard(folder, 0)) >= 5)
    until(lambda: any(not t.state.is_finished() for t in trials_of(place)))  # in the middle of a batch
    main.kill()
    main.join()
    assert any(not t.state.is_finished() for t in trials_of(place))
    others = [started(ctx, folder, llama_folder, place, trials, False, 0.1) for _ in range(2)]
    for process in others:
        process.join(180)
    assert [process.exitcode for process in others] == [0, 0]
    found = trials_of(place)
    assert [t.number for t in found] == list(range(trials))
    assert all(t.state.is_finished() for t in found)
    main = started(ctx, folder, llama_folder, place, trials, True, 0.0)
    main.join(180)
    assert main.exitcode == 0
    assert [int(line[0]) for line in heard(folder, 0)] == list(range(trials))


def test_a_search_that_the_main_process_halts_ends_all_workers_and_goes_on_later(
    folder: Path, llama_folder: Path, request: pytest.FixtureRequest
) -> None:
    ctx, place, trials = crew(*PRELOADED), place_of("journal", folder, request), 200
    others = [started(ctx, folder, llama_folder, place, trials, False, 0.05) for _ in range(2)]
    main = make_study(folder, str(llama_folder), place, trials, 0.05)
    main._halt = lambda: "the night is over." if len(main.trials.all()) > 30 else ""
    main.run()
    assert main.halted == "the night is over."
    for process in others:
        process.join(60)
    assert [process.exitcode for process in others] == [0, 0]
    left = [t for t in trials_of(place) if not t.state.is_finished()]
    assert left
    notices = [
        line for path in folder.glob("heard.*") for line in path.read_text().splitlines() if line.startswith("#")
    ]
    assert [line.partition(" trials: ")[2] for line in notices] == ["the night is over."] * 3
    again = make_study(folder, str(llama_folder), place, 49)
    again.run()
    assert again.halted == ""
    found = trials_of(place)
    assert all(t.state.is_finished() for t in found)
    assert len(found) >= 49


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        ("surrogate", "racing"),
        ("cmaes", "successive_halving"),
    ],
)
def test_a_batch_that_any_other_worker_races_again_comes_to_the_same(
    sampler: str, pruner: str, folder: Path, llama_folder: Path, request: pytest.FixtureRequest
) -> None:
    place = place_of("journal", folder, request, grace=60)
    branches = ("discrete", "edits", "tuning", "coordinates")
    changes = {"sampler": sampler, "pruner": pruner, "branches": branches, "steps": 4}
    studies = [make_study(folder, str(llama_folder), replace(place, worker=n), 45, **changes) for n in range(3)]
    with contextlib.ExitStack() as alive:
        for study in studies:
            alive.enter_context(study._alive())
        studies[0].tell(studies[0].raced(studies[0].ask()))
        while True:
            batches = [study.ask() for study in studies[1:]]  # open side by side
            if not any(batches):
                break
            for study, batch in [(s, b) for s, b in zip(studies[1:], batches, strict=True) if b]:
                raced = study.raced(batch)
                third = studies[0]
                third._asking._refresh()  # type: ignore[attr-defined]
                again = third.raced(third.trials.members(batch[0].user_attrs["batch"]))
                assert [outcome(runner) for runner in again] == [outcome(runner) for runner in raced]
                study.tell(raced)
        while batch := studies[0].ask():  # what is left is too small for two
            studies[0].tell(studies[0].raced(batch))
    found = trials_of(place)
    assert len(found) == 45
    assert all(t.state.is_finished() for t in found)
    assert len({t.user_attrs["fingerprint"] for t in found if "fingerprint" in t.user_attrs}) > 30
    assert {t.user_attrs["worker"] for t in found} >= {0, 1, 2}


def outcome(runner: Any) -> tuple[Any, ...]:
    lane = runner.lane
    return runner.trial.number, runner.fate, runner.reason, lane and lane.value, lane and lane.evidence.tolist()


# -- joining by name alone -------------------------------------------------------------------------


def joins(place: Shared, base: Path, told: Path) -> None:
    told.write_text(str(join(place.storage, place.name, base=base)))


@pytest.fixture
def published_run(folder: Path, llama_folder: Path, topics_rows: list[dict[str, str]]) -> dict[str, Any]:
    """The settings of a run, its data beside them."""
    lines = [json.dumps(row) for row in topics_rows]
    (folder / "topics.jsonl").write_text("\n".join(lines) + "\n")
    labels = sorted({row["topic"] for row in topics_rows})
    return {
        "name": "topics",
        "model": str(llama_folder),
        "seed": 3,
        "data": {"file": "topics.jsonl", "label": "topic"},
        "prompt": {"template": "{{ text }}\nTopic: {{ label }}", "label_words": {label: label for label in labels}},
        "space": {"instructions": ["", "Name the topic.", "What is it?"], "templates": ["{{ text }} -> {{ label }}"]},
        "study": {"trials": 25, "batch": 4, "branches": ["discrete", "edits"]},
        "finetune": {"method": "none"},
    }


def posted(place: Shared, settings: dict[str, Any], folder: Path, **changes: Any) -> Study:
    """The study of the main process of a run, published."""
    config = read_config(settings, folder)
    splits = read_splits(data_options(config, folder), config.seed)
    posting = Posting(
        config.model_dump(mode="json", exclude_unset=True), str(folder), fingerprints(config, splits),
        {"dev": [splits.dev[-1].number]}, str(folder / "scores.sqlite"), place.beat, place.grace,
    )  # fmt: skip
    publish(place, replace(posting, **changes))
    scorer = Scorer(load_model(config.model.name, device="cpu"), accuracy)
    return Study(
        make_setting(config, Path.cwd(), splits, False),
        scorer,
        splits.dev[:-1],
        study_options(config),
        place,
        config.seed,
    )


@pytest.mark.parametrize("kind", ["grpc"])
def test_a_worker_joins_a_run_by_its_name_alone(
    kind: str, folder: Path, request: pytest.FixtureRequest, published_run: dict[str, Any]
) -> None:
    ctx, place = crew(*PRELOADED), place_of(kind, folder, request)
    study = posted(place, published_run, folder)
    process = ctx.Process(target=joins, args=(place, folder, folder / "told"))
    process.start()
    scored = study.scorer.score
    study.scorer.score = lambda *given: (time.sleep(0.1), scored(*given))[1]  # type: ignore[method-assign]
    study.run()
    process.join(120)
    assert process.exitcode == 0
    assert study.counts()["baseline"] == {"complete": 1}
    assert sum(sum(states.values()) for states in study.counts().values()) == 25
    own = sum(t.user_attrs["worker"] == 1 for t in study.trials.all())
    assert own == int((folder / "told").read_text())
    assert own > 0
    told = [t.user_attrs["score"]["examples"] for t in study.trials.all() if t.state.name == "COMPLETE"]
    assert set(told) == {len(study.examples)}  # what the run left out, the worker left out too


def test_a_worker_with_other_data_is_refused_and_told_what_differs(
    folder: Path,
    request: pytest.FixtureRequest,
    published_run: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = place_of("journal", folder, request)
    posted(place, published_run, folder)
    other = tmp_path_factory.mktemp("other")
    lines = (folder / "topics.jsonl").read_text().splitlines()
    (other / "topics.jsonl").write_text("\n".join(lines[:-6]) + "\n")
    with pytest.raises(
        ResultsError, match=r"Data or models are not those of the run:\n  - data\.dev: .*\n  - data\.train"
    ):
        join(place.storage, place.name, base=other)


def test_a_worker_finds_no_run_of_that_name(folder: Path, request: pytest.FixtureRequest) -> None:
    with pytest.raises(StudyError, match=r"The storage has no run 'nobody' that a worker could join\. Start the run"):
        published(replace(place_of("journal", folder, request), name="nobody"), wait=0)


# -- when there is nothing new ---------------------------------------------------------------------


class OneAfterAnother:
    """Finds a prompt, and the next one once all before it are told."""

    name, whole = "discrete", False

    def __init__(self, space: Space) -> None:
        self.space, self.tried = space, 0

    def find(self, history: History, count: int, number: int) -> Found:
        self.tried += 1
        told = len(history.ended)
        prompt = replace(self.space.baseline, instruction=f"Number {told}.")
        return Found([] if prompt.fingerprint in history.taken else [Asked(prompt, self.name)])


@contextlib.contextmanager
def two_asking(folder: Path, place: Shared, said: list[Event]) -> Iterator[list[AskingTogether]]:
    """Two workers in this process, whose one branch is of that kind."""
    space, _ = make_space(json.loads((folder / "rows.json").read_text()))
    found = []
    with contextlib.ExitStack() as alive:
        for worker in range(2):
            own = replace(place, worker=worker)
            trials = Trials(own, space, (StudyDirection.MAXIMIZE,))
            branches = {"discrete": OneAfterAnother(space)}
            options = StudyOptions(trials=40, batch=4)
            plan = Plan(space.baseline, branches, options, accuracy, 5, said.append, never)
            beats = alive.enter_context(Beats(Roll(trials.store, place.name), own))
            assert trials.board is not None
            found.append(AskingTogether(plan, trials, trials.board, beats, lambda: None, 0.01))
        yield found


def tell(asking: AskingTogether, batch: list[FrozenTrial]) -> None:
    for trial in batch:
        asking.trials.fail(trial, "it is not scored here")
    asking.trials.commit()
    asking.ended(batch[0].user_attrs["batch"])


def test_a_worker_whose_view_lacks_the_baseline_looks_again(
    folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with two_asking(folder, place_of("journal", folder, request, grace=60), []) as (first, late):
        tell(first, first.ask())
        looks, look = itertools.count(), late.trials.refresh
        # what it sees of the trials is older than what it sees of the batches
        monkeypatch.setattr(late.trials, "refresh", lambda: look() if next(looks) > 3 else None)
        batch = late.ask()
        assert [trial.user_attrs["batch"] for trial in batch] == [1]
        assert [trial.number for trial in late.before(1).ended] == [0]


def test_a_worker_that_finds_nothing_new_waits_for_what_another_is_on(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    said: list[Event] = []
    with two_asking(folder, place_of("journal", folder, request, grace=60), said) as (busy, other):
        branch = other.plan.branches["discrete"]
        assert isinstance(branch, OneAfterAnother)
        tell(busy, busy.ask())
        open_ = busy.ask()
        found: list[FrozenTrial] = []
        waits = threading.Thread(target=lambda: found.extend(other.ask()))
        waits.start()
        until(lambda: branch.tried > 4)
        time.sleep(0.3)
        assert branch.tried == 5  # and no more, until there is something new to know
        assert waits.is_alive()
        tell(busy, open_)
        waits.join(60)
    assert [trial.user_attrs["batch"] for trial in found] == [7]
    assert not [event for event in said if isinstance(event, Notice)]


# -- who is alive ----------------------------------------------------------------------------------


def test_a_worker_is_thought_dead_when_its_count_has_not_moved_for_the_grace(folder: Path) -> None:
    store = open_storage(f"journal:{folder / 'study.journal'}")
    roll, now = Roll(store, "a"), [1000.0]
    shared = Shared("", "a", worker=1, beat=60, grace=30)
    beats = Beats(roll, shared, lambda: now[0])
    roll.write("beat:2", [7, 4])
    beats.look()
    assert beats.others_on(4) == [2]
    now[0] += 29
    beats.look()
    assert beats.lives(2)
    now[0] += 2
    beats.look()
    assert not beats.lives(2)
    assert beats.others_on(4, owner=2) == []
    roll.write("beat:2", [8, 4])  # it was only asleep
    beats.look()
    assert beats.lives(2)
    roll.write("beat:2", [-1, None])  # it has left
    beats.look()
    assert not beats.lives(2)
    assert beats.lives(3)  # never heard of: its time begins now
    now[0] += 31
    assert not beats.lives(3)


def test_numbers_of_workers_are_given_out_once(folder: Path) -> None:
    shared = Shared(f"journal:{folder / 'study.journal'}", "a")
    assert [joined(shared).worker for _ in range(4)] == [1, 2, 3, 4]


def test_batches_never_come_to_more_trials_than_there_are(folder: Path) -> None:
    store = open_storage(f"journal:{folder / 'study.journal'}")
    boards = [Board(store, "a", worker) for worker in range(3)]
    first = [board.take() for board in boards]
    assert [ticket.batch for ticket in first] == [0, 1, 2]
    assert [ticket.most(8) for ticket in first] == [1, 8, 8]  # who has not looked may take all
    boards[1].looked(1, 5, 1, [0, 2])
    boards[2].asked(2, 3, "edits", 10)
    boards[0].refresh()
    assert [ticket.most(8) for ticket in boards[0].tickets] == [1, 5, 3]
    boards[0].end(2)
    boards[2].end(2)
    boards[1].refresh()
    assert [ticket.ended for ticket in boards[1].tickets] == [False, False, True]
