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

import numpy as np
from numpy.typing import NDArray
from record import bar
from tasks import Task, load_task

from autoprompt.data import Example
from autoprompt.engine import Engine, ScoreMemory
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.study import Study, StudyOptions

__all__ = ["OURS", "Plan", "bars_of_live", "draw_curves", "live", "mean_curve"]

OURS, TPE, RANDOM, STARTING = "ours", "tpe", "random", "best of the starting prompts"
_CHUNK = 25  # prompts that are scored in one call


@dataclass(frozen=True)
class Plan:
    """seeds: searches of each method. full: full evaluations of dev that a search may spend. dev, test: examples
    at most."""

    seeds: int = 5
    full: int = 60
    dev: int = 300
    test: int = 1000


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


class Bench:
    """A task with one engine for all of its searches. Only scores that a single search needs are kept elsewhere."""

    def __init__(self, task: Task, plan: Plan) -> None:
        self.task, self.plan = task, plan
        # a sentence encoder's engine remembers vectors, which serve all label words
        memory = None if task.model.family == "encoder" else ScoreMemory(None, task.model.identity)
        self.engine = Engine(task.model, memory=memory)
        self.dev = task.splits.dev[: plan.dev]
        self._test = task.splits.test.open("the search benchmark", lambda reason: None)[: plan.test]
        self._on_test: dict[str, float] = {}

    def scorer(self) -> Scorer:
        scorer = Scorer(self.task.model, self.task.metric)
        scorer.engine = self.engine
        return scorer

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
        tests = self.on_test(prompts)
        return {
            "prompts": len(prompts),
            "evaluations": len(prompts) * len(self.dev),
            "dev": found[best][0],
            "test": tests[best],
            "baseline_dev": found[0][0],
            "baseline_test": tests[0],
            "best_on_test": max(tests),
        }

    def search(self, method: str, seed: int) -> dict[str, Any]:
        """One search: what it found, and its course."""
        began = time.perf_counter()
        budget = self.plan.full * len(self.dev)
        study = Study(self.task.space, self.scorer(), self.dev, options_of(method, budget), seed=seed)
        course: list[Incumbent] = []
        while batch := study.ask():
            for runner in study.raced(batch):
                study.tell(runner)
            best = study.candidates()[0]
            course.append(Incumbent(study.evaluations(), _tokens(study), best.value, best.prompt))
        winner = study.confirm(study.candidates())[0]
        seconds = time.perf_counter() - began
        tests = self.on_test([*(one.prompt for one in course), winner.prompt])
        return {
            "dev": winner.value,
            "test": tests[-1],
            "evaluations": study.evaluations(),
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
    runs: dict[str, list[dict[str, Any]]] = {RANDOM: [], TPE: [], OURS: []}
    for seed in range(plan.seeds):
        for method, found in runs.items():
            started = time.perf_counter()
            found.append({"seed": seed, **bench.search(method, seed)})
            print(
                f"live      {name:10} {method:8} seed {seed}: dev {found[-1]['dev']:.3f}, test {found[-1]['test']:.3f}, "
                f"{found[-1]['evaluations']:,} evaluations by {_shown(found[-1]['branches'])}   "
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


# -- what comes of it ------------------------------------------------------------------------


def mean_curve(
    runs: Sequence[dict[str, Any]], axis: str = "evaluations", of: str = "test"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x (n,) at which anything changed in any run, and the values (runs, n) there; curves are steps."""
    curves = [run["curve"] for run in runs]
    begin = max(curve[axis][0] for curve in curves)
    x = np.unique([at for curve in curves for at in curve[axis] if at >= begin])
    rows = [np.array(c[of])[np.searchsorted(c[axis], x, side="right") - 1] for c in curves]
    return x.astype(np.float64), np.array(rows)


def _reached(runs: Sequence[dict[str, Any]], goal: float, whole: float, axis: str = "evaluations") -> float:
    """The first x at which the mean test accuracy is `goal`, as a share of `whole`; 2 if that is never."""
    x, values = mean_curve(runs, axis)
    there = x[values.mean(0) >= goal - 1e-9]
    return round(float(there[0] / whole), 4) if len(there) else 2.0


def summary(measured: dict[str, Any]) -> dict[str, Any]:
    """Means over the seeds, the standard error of ours minus the others', and how early ours is as good."""
    runs = measured["runs"]
    tests = {method: np.array([run["test"] for run in found]) for method, found in runs.items()}
    finals = {method: float(values.mean()) for method, values in tests.items()}
    tokens = float(np.mean([run["tokens"] for run in runs[TPE]]))
    few = len(tests[OURS]) < 2
    return {
        "test": {method: round(value, 4) for method, value in finals.items()},
        "test_deviation": {method: round(float(values.std()), 4) for method, values in tests.items()},
        "dev": {method: round(float(np.mean([run["dev"] for run in found])), 4) for method, found in runs.items()},
        "ours_minus": {
            method: {
                "mean": round(finals[OURS] - finals[method], 4),
                "error": 0.0 if few else round(float((tests[OURS] - tests[method]).std(ddof=1) / len(runs[OURS]) ** 0.5), 4),
            }
            for method in (TPE, RANDOM)
        },
        "to_tpe": _reached(runs[OURS], finals[TPE], measured["budget"]),
        "to_random": _reached(runs[OURS], finals[RANDOM], measured["budget"]),
        "to_tpe_in_tokens": _reached(runs[OURS], finals[TPE], tokens, "tokens"),
    }  # fmt: skip


def bars_of_live(tasks: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """On the tasks that were searched; of all five, random search may win one."""
    found = [task["summary"] for task in tasks.values()]
    below = sum(task["summary"]["test"][OURS] < task["starting"]["test"] for task in tasks.values())
    above = sum(one["test"][OURS] > one["test"][RANDOM] for one in found)
    median = float(np.median([one["to_tpe"] for one in found]))
    return {
        "live, evaluations to reach tpe's final test accuracy, median over tasks": bar(median, 0.15, at_most=True),
        "live, tasks below the best starting prompt": bar(below, 0, at_most=True),
        "live, tasks above random": bar(above, 4 if len(tasks) == 5 else len(tasks)),
    }


def draw_curves(tasks: dict[str, Any], path: Path) -> None:
    """The anytime curves, one panel a task: the mean over the seeds, and their range."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(tasks), figsize=(4 * len(tasks), 3.6), squeeze=False, layout="constrained")
    for panel, (name, task) in zip(panels[0], tasks.items(), strict=True):
        starting = task["starting"]
        panel.axhline(starting["test"], color="0.4", linestyle=":", label=STARTING)
        for method, color in ((RANDOM, "tab:gray"), (TPE, "tab:orange"), (OURS, "tab:blue")):
            x, values = mean_curve(task["runs"][method])
            x = x / task["dev"]
            panel.step(x, values.mean(0), where="post", color=color, label=method)
            panel.fill_between(x, values.min(0), values.max(0), step="post", color=color, alpha=0.15, linewidth=0)
        panel.set(title=name, xlabel="evaluations, in full passes over dev", xscale="log")
    panels[0][0].set_ylabel("test accuracy of the best so far")
    panels[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
