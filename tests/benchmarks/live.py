"""Part two of the search benchmark: whole searches at equal budgets of example evaluations.

Each method searches the same task on the same dev split; seeds differ in what is drawn and in the
order of dev. After each batch the best candidate that saw all of dev is what the search would
answer; its accuracy on the test split is measured when the search is over, and never seen by it. One
engine serves all searches of a task: what one has read none reads again, so that seconds are no
cost of a method; tokens are, counted as if nothing were remembered, proposals included.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from curves import METHODS, OURS, STARTING, summary
from tasks import Task, load_task

from autoprompt.data import Example
from autoprompt.engine import Engine, ScoreMemory
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.study import Study, StudyOptions

__all__ = ["Plan", "live"]

_CHUNK = 25  # prompts that are scored in one call


_TEMPLATES, _INSTRUCTIONS = 5, 3  # of an encoder task's space


@dataclass(frozen=True)
class Plan:
    """seeds: searches of each method. full: evaluations that a search may spend, in passes over dev; 1 for the
    baseline and 8 a batch is what searches without a race can stop at. dev, test: examples at most."""

    seeds: int = 5
    full: int = 33
    dev: int = 150
    test: int = 500


@dataclass(frozen=True)
class Incumbent:
    """What a search would answer after `evaluations`."""

    evaluations: int
    tokens: int
    dev: float
    prompt: Prompt


def options_of(method: str, evaluations: int) -> StudyOptions:
    """A method's options; the evaluations alone end it."""
    if method == OURS:
        return StudyOptions(trials=10**6, evaluations=evaluations)
    return StudyOptions(
        trials=10**6, evaluations=evaluations, sampler=method, pruner="none", branches=("discrete",)
    )  # fmt: skip


class Counting(Scorer):
    """Counts what is scored beside the budget: (prompt, training example) pairs, which proposers learn from."""

    def __init__(self, task: Task, engine: Engine) -> None:
        super().__init__(task.model, task.metric)
        self.engine = engine
        self._pool = {example.key: at for at, example in enumerate(task.space.pool)}
        self.beside: set[tuple[str, int]] = set()

    def read(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> None:
        found = [self._pool[example.key] for example in examples if example.key in self._pool]
        self.beside |= {(prompt.fingerprint, at) for prompt in prompts for at in found}
        super().read(prompts, examples)


class Bench:
    """A task with one engine for all of its searches; what a single search keeps goes with its scorer."""

    def __init__(self, task: Task, plan: Plan) -> None:
        if task.model.family == "encoder":  # each framing costs a pass of the encoder over all texts
            few = {
                "templates": task.space.templates[:_TEMPLATES],
                "instructions": task.space.instructions[:_INSTRUCTIONS],
            }
            task = replace(task, space=replace(task.space, **few))
        self.task, self.plan = task, plan
        # a sentence encoder's engine remembers vectors, which serve all label words
        memory = None if task.model.family == "encoder" else ScoreMemory(None, task.model.identity)
        self.engine = Engine(task.model, memory=memory)
        self.dev = task.splits.dev[: plan.dev]
        self._test = task.splits.test.open("the search benchmark", lambda reason: None)[: plan.test]
        self._on_test: dict[str, float] = {}

    def scorer(self) -> Counting:
        return Counting(self.task, self.engine)

    def values(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[tuple[float, float]]:
        """(metric, mean margin) of each."""
        found = []
        for start in range(0, len(prompts), _CHUNK):
            scores = self.scorer().score(prompts[start : start + _CHUNK], examples)
            found += [(score.value, score.margin) for score in scores]
        return found

    def on_test(self, prompts: Sequence[Prompt]) -> list[float]:
        """The accuracy on test, computed once for each distinct prompt."""
        new = [p for p in dict.fromkeys(prompts) if p.fingerprint not in self._on_test]
        for prompt, (value, _) in zip(new, self.values(new, self._test), strict=True):
            self._on_test[prompt.fingerprint] = value
        return [self._on_test[prompt.fingerprint] for prompt in prompts]

    # -- the methods -------------------------------------------------------------------------

    def starting(self) -> dict[str, Any]:
        """Every template with the first instruction and every instruction in the first template, in full."""
        space = self.task.space
        own = {"label_words": space.baseline.label_words}
        prompts = [_with(space.baseline, template, space.instructions[0], own) for template in space.templates]
        prompts += [_with(space.baseline, space.templates[0], text, own) for text in space.instructions[1:]]
        found = self.values(prompts, self.dev)
        best = max(range(len(prompts)), key=lambda at: (found[at], -at))
        baseline, chosen = self.on_test([prompts[0], prompts[best]])
        return {
            "prompts": len(prompts),
            "evaluations": len(prompts) * len(self.dev),
            "dev": found[best][0],
            "test": chosen,
            "baseline_dev": found[0][0],
            "baseline_test": baseline,
        }

    def search(self, method: str, seed: int) -> dict[str, Any]:
        """One search: what it found, and its course."""
        began = time.perf_counter()
        budget = self.plan.full * len(self.dev)
        scorer = self.scorer()
        study = Study(self.task.space, scorer, self.dev, options_of(method, budget), seed=seed)
        course: list[Incumbent] = []
        while batch := study.ask():
            study.tell(study.raced(batch))
            best = study.candidates()[0]
            course.append(Incumbent(study.evaluations(), _tokens(study), best.value, best.prompt))
        winner = study.confirm(study.candidates())[0]
        seconds = time.perf_counter() - began
        tests = self.on_test([*(one.prompt for one in course), winner.prompt])
        return {
            "dev": winner.value,
            "test": tests[-1],
            "evaluations": study.evaluations(),
            "beside": len(scorer.beside),
            "tokens": course[-1].tokens,
            "seconds": round(seconds, 1),
            "kind": winner.kind,
            "branch": winner.branch,
            "winner": winner.prompt.placeholder_text()[:400],
            "branches": study.counts_by_branch(),
            "curve": _curve(course, tests[:-1]),
        }


def _with(baseline: Prompt, template: str, instruction: str, own: Mapping[str, Any]) -> Prompt:
    return replace(baseline, template=template, instruction=instruction, **own)


def _tokens(study: Study) -> int:
    """Tokens that the search has taken, proposals included, as if nothing had been remembered."""
    trials = [trial.user_attrs for trial in study.study.get_trials(deepcopy=False)]
    proposed = {attrs["batch"]: attrs["tokens"] for attrs in trials}
    return sum(map(int, proposed.values())) + sum(int(attrs["score"]["work"]) for attrs in trials if "score" in attrs)


def _curve(course: Sequence[Incumbent], tests: Sequence[float]) -> dict[str, list[float]]:
    """Where the answer changed, and the end."""
    kept = [at for at in range(len(course)) if at == 0 or course[at].prompt != course[at - 1].prompt]
    kept = sorted({*kept, len(course) - 1})
    return {
        "evaluations": [course[at].evaluations for at in kept],
        "tokens": [course[at].tokens for at in kept],
        "dev": [course[at].dev for at in kept],
        "test": [tests[at] for at in kept],
    }


def live(name: str, data: Path, plan: Plan) -> dict[str, Any]:
    """All methods on one task, seed by seed."""
    bench = Bench(load_task(name, data), plan)
    started = time.perf_counter()
    starting = bench.starting()
    print(
        f"live      {name:10} {STARTING}: dev {starting['dev']:.3f}, test {starting['test']:.3f}, baseline "
        f"{starting['baseline_test']:.3f}   {time.perf_counter() - started:.0f} s",
        flush=True,
    )
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for seed in range(plan.seeds):
        for method, found in runs.items():
            started = time.perf_counter()
            found.append({"seed": seed, **bench.search(method, seed)})
            print(
                f"live      {name:10} {method:8} seed {seed}: dev {found[-1]['dev']:.3f}, test {found[-1]['test']:.3f}, "
                f"{found[-1]['evaluations']:,} evaluations (+{found[-1]['beside']:,} in training) by {_shown(found[-1]['branches'])}   "
                f"{time.perf_counter() - started:.0f} s",
                flush=True,
            )
    measured = {
        "dev": len(bench.dev),
        "budget": plan.full * len(bench.dev),
        "starting": starting,
        "runs": runs,
    }
    return measured | {"summary": summary(measured)}


def _shown(branches: dict[str, dict[str, int]]) -> str:
    return ", ".join(f"{name} {sum(states.values())}" for name, states in branches.items() if name != "baseline")
