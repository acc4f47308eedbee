"""Many workers on one study: real processes, killed with -9, on each storage."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from postgres import Proxy, Server, proxy, server

from autoprompt.data import Example
from autoprompt.engine import ScoreMemory
from autoprompt.events import Event, Notice, TrialFinished
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import load_model
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.space import DemonstrationSpace, SoftSpace, Space
from autoprompt.study import Shared, Study, StudyOptions, joined, open_storage

pytestmark = pytest.mark.model

STORAGES = ("journal", "postgresql", "grpc")
BRANCHES = ("discrete", "edits", "coordinates")


# -- a worker, in a process of its own -------------------------------------------------------------


def crew() -> Any:
    """Where processes come from: forked from one that has loaded the libraries, so that each starts at once."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["test_workers"])
    return found


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


def make_study(folder: Path, model: str, place: Path | Shared | None, trials: int, pause: float = 0.0) -> Study:
    """pause: seconds that each score takes longer, so that there is time to be killed in."""
    rows = json.loads((folder / "rows.json").read_text())
    space, examples = make_space(rows)

    class Slow(Scorer):
        def log_likelihoods(self, prompts: Any, examples: Any) -> Any:
            time.sleep(pause)
            return super().log_likelihoods(prompts, examples)

    loaded = load_model(model, device="cpu")
    memory = ScoreMemory(folder / "scores.sqlite", loaded.identity)
    number = place.worker if isinstance(place, Shared) else 0
    log = (folder / f"heard.{number}.{os.getpid()}").open("a")

    def hear(event: Event) -> None:
        if isinstance(event, TrialFinished):
            log.write(f"{event.number} {event.fingerprint} {event.value!r} {event.dropped}\n")
            log.flush()
        elif isinstance(event, Notice):
            log.write(f"# {event.message}\n")
            log.flush()

    options = StudyOptions(trials=trials, batch=4, slice=8, startup=8, branches=BRANCHES, generations=2)
    return Study(space, Slow(loaded, accuracy, memory=memory), examples, options, place, 5, hear)


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


@pytest.mark.parametrize("kind", STORAGES)
def test_four_workers_of_which_one_is_killed_lose_and_double_nothing(
    kind: str, folder: Path, llama_folder: Path, request: pytest.FixtureRequest
) -> None:
    ctx, place, trials = crew(), place_of(kind, folder, request), 61
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
    print(kind, "prompts asked twice:", sum(n - 1 for n in prints.values()), Counter(t.user_attrs["worker"] for t in found))
