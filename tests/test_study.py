"""The study: asked in batches, told one by one, resumed to the same trials."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprompt.data import Example
from autoprompt.engine import ScoreMemory
from autoprompt.errors import Halted, ModelError, StudyError
from autoprompt.events import Event, Notice, TrialFailed, TrialFinished
from autoprompt.metrics.builtin import accuracy, log_loss
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.soft import Array
from autoprompt.space import DemonstrationSpace, SoftSpace, Space
from autoprompt.study import Study, StudyOptions, confirm, finalists, pareto_front, search
from autoprompt.study.trials import Trials

pytestmark = pytest.mark.model

OPTIONS = StudyOptions(trials=37, batch=4, slice=8, generations=2, startup=4, steps=8, finalists=3)


@pytest.fixture(scope="module")
def model(llama_folder: Path) -> LanguageModel:
    return load_model(str(llama_folder), device="cpu")


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    key = next(k for k in topics_rows[0] if k != "text")
    return [Example(i, {"text": row["text"]}, row[key]) for i, row in enumerate(topics_rows)]


@pytest.fixture(scope="module")
def space(examples: list[Example]) -> Space:
    labels = sorted({e.label for e in examples})
    words = {label: (label, f"{label}!", f"the {label}") for label in labels}
    return Space(
        Prompt("{{ text }}\nTopic: {{ label }}", {label: label for label in labels}),
        templates=("{{ text }}\nTopic: {{ label }}", "{{ text }} -> {{ label }}"),
        instructions=("", "Name the topic.", "What is it about?"),
        label_words=words,
        calibrations=("none", "content_free"),
        demonstrations=DemonstrationSpace(most=2, draws=4, orders=2),
        pool=tuple(examples[30:]),
        soft=SoftSpace(vectors=(2, 3), dimensions=4),
        seed=5,
    )


def told(study: Study) -> list[tuple[Any, ...]]:
    """What each trial was and what it got, in their order."""
    return [
        (
            t.user_attrs["kind"],
            t.user_attrs["branch"],
            t.user_attrs.get("fingerprint"),
            t.state.name,
            t.value,
            t.user_attrs.get("score", {}).get("loss"),
        )
        for t in study.trials.all()
    ]


class Dying(Scorer):
    """Is killed at its n-th score."""

    left = 10**9

    def score(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> Any:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt("killed")
        return super().score(prompts, examples)


def test_the_study_holds_both_kinds_and_exactly_the_trials_it_was_given(
    model: LanguageModel, space: Space, examples: list[Example]
) -> None:
    heard: list[Event] = []
    study = Study(space, Scorer(model, accuracy), examples, OPTIONS, None, 5, heard.append)
    found = study.run()
    counts = study.counts()
    assert sum(n for states in counts.values() for n in states.values()) == OPTIONS.trials
    assert counts["baseline"] == {"complete": 1}
    assert sum(counts["soft"].values()) >= 8
    assert sum(counts["discrete"].values()) >= 8
    assert counts["soft"]["pruned"] + counts["discrete"]["pruned"] > OPTIONS.trials / 2
    assert set(study.counts_by_branch()) >= {"baseline", "discrete", "edits", "demonstrations", "tuning", "coordinates"}
    assert [e.number for e in heard if isinstance(e, TrialFinished)] == list(range(OPTIONS.trials))
    assert heard[0].kind == "baseline"  # type: ignore[attr-defined]
    complete = {t.number for t in study.trials.all() if t.state.name == "COMPLETE"}
    values = [c.value for c in found if c.number in complete]
    assert values == sorted(values, reverse=True)
    assert {c.kind for c in found} == {"baseline", "discrete", "soft"}
    assert len({c.prompt.fingerprint for c in found}) == len(found)


def test_a_minimized_metric_puts_the_lowest_first(model: LanguageModel, space: Space, examples: list[Example]) -> None:
    options = StudyOptions(trials=6, batch=4, pruner="none", branches=("discrete",))
    values = [c.value for c in Study(space, Scorer(model, log_loss), examples, options).run()]
    assert len(values) >= 5
    assert values == sorted(values)


def remembering(model: LanguageModel, path: Path | None = None) -> dict[str, Any]:
    """As a run has it: what was scored is in the results folder, so no score is computed a second time
    in other company, where its last digits would differ."""
    return {"memory": ScoreMemory(path and path / "scores.sqlite", model.identity)}


@pytest.fixture(scope="module")
def whole(model: LanguageModel, space: Space, examples: list[Example]) -> Study:
    """A search that was never disturbed."""
    study = Study(space, Scorer(model, accuracy, **remembering(model)), examples, OPTIONS, None, 5)
    study.run()
    assert study.halted == ""
    return study


@pytest.mark.parametrize("deaths", [(7, 1, 6)])
def test_a_study_that_was_killed_reaches_the_trials_of_one_that_was_not(
    model: LanguageModel,
    space: Space,
    examples: list[Example],
    tmp_path: Path,
    deaths: tuple[int, ...],
    whole: Study,
) -> None:
    for death in deaths:
        scorer = Dying(model, accuracy, **remembering(model, tmp_path))
        scorer.left = death
        with pytest.raises(KeyboardInterrupt, match="killed"):
            Study(space, scorer, examples, OPTIONS, tmp_path, 5).run()
    resumed = Study(space, Scorer(model, accuracy, **remembering(model, tmp_path)), examples, OPTIONS, tmp_path, 5)
    best = resumed.run()[0]
    assert told(resumed) == told(whole)
    assert best.prompt == whole.candidates()[0].prompt


def test_without_a_memory_a_killed_study_differs_in_the_last_digits_at_most(
    model: LanguageModel, space: Space, examples: list[Example], tmp_path: Path
) -> None:
    whole = Study(space, Scorer(model, accuracy), examples, OPTIONS, None, 5)
    whole.run()
    scorer = Dying(model, accuracy)
    scorer.left = 7
    with pytest.raises(KeyboardInterrupt, match="killed"):
        Study(space, scorer, examples, OPTIONS, tmp_path, 5).run()
    resumed = Study(space, Scorer(model, accuracy), examples, OPTIONS, tmp_path, 5)
    resumed.run()
    for found, expected in zip(told(resumed), told(whole), strict=True):
        assert found[:3] == expected[:3]
        assert found[3] == pytest.approx(expected[3], abs=1e-4)


def test_a_study_killed_while_it_asks_asks_the_same_again(
    model: LanguageModel,
    space: Space,
    examples: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: Study,
) -> None:
    asked = {"left": 14}
    add = Trials.add

    def dies(self: Trials, *given: Any) -> Any:
        asked["left"] -= 1
        if asked["left"] == 0:
            raise KeyboardInterrupt("killed")
        return add(self, *given)

    monkeypatch.setattr(Trials, "add", dies)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        Study(space, Scorer(model, accuracy, **remembering(model, tmp_path)), examples, OPTIONS, tmp_path, 5).run()
    monkeypatch.setattr(Trials, "add", add)
    resumed = Study(space, Scorer(model, accuracy, **remembering(model, tmp_path)), examples, OPTIONS, tmp_path, 5)
    resumed.run()
    assert told(resumed) == told(whole)


def test_a_trial_that_was_committed_and_not_told_of_is_told_of_on_resume(
    model: LanguageModel, space: Space, examples: list[Example], tmp_path: Path
) -> None:
    heard: list[Event] = []

    def dies(event: Event) -> None:
        if len(heard) == 6:
            raise KeyboardInterrupt("killed")
        heard.append(event)

    with pytest.raises(KeyboardInterrupt, match="killed"):
        Study(space, Scorer(model, accuracy), examples, OPTIONS, tmp_path, 5, dies).run()
    numbers = {e.number for e in heard if isinstance(e, TrialFinished)}
    rest: list[Event] = []
    Study(space, Scorer(model, accuracy), examples, OPTIONS, tmp_path, 5, rest.append, numbers).run()
    told_of = [e for e in heard + rest if isinstance(e, TrialFinished)]
    assert sorted(e.number for e in told_of) == list(range(OPTIONS.trials))


def test_a_torn_last_line_of_the_storage_is_repaired(
    model: LanguageModel, space: Space, examples: list[Example], tmp_path: Path
) -> None:
    options = StudyOptions(trials=5, batch=4, slice=6, branches=("discrete",))
    first = Study(space, Scorer(model, accuracy), examples, options, tmp_path, 5)
    first.run()
    before = told(first)
    with (tmp_path / "study.journal").open("ab") as file:
        file.write(b'{"op_code": 4, "trial_id"')
    again = Study(
        space,
        Scorer(model, accuracy),
        examples,
        StudyOptions(trials=9, batch=4, slice=6, branches=("discrete",)),
        tmp_path,
        5,
    )
    again.run()
    assert told(again)[:5] == before
    assert len(told(again)) == 9


class Failing(Scorer):
    """Cannot score the prompts that say `word`."""

    word = "money!"

    def read(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> None:
        if any(self.word in word for p in prompts for word in p.label_words.values()):
            raise ModelError("no numbers today")
        super().read(prompts, examples)


def test_a_failing_prompt_is_recorded_and_the_others_go_on(
    model: LanguageModel, space: Space, examples: list[Example]
) -> None:
    heard: list[Event] = []
    study = Study(space, Failing(model, accuracy), examples, OPTIONS, None, 5, heard.append)
    found = study.run()
    failed = [e for e in heard if isinstance(e, TrialFailed)]
    assert failed
    assert {e.reason for e in failed} == {"ModelError: no numbers today"}
    assert len(failed) == sum(states.get("fail", 0) for states in study.counts().values())
    assert all("money!" not in w for c in found for w in c.prompt.label_words.values())


def test_a_failing_baseline_stops_the_search(model: LanguageModel, space: Space, examples: list[Example]) -> None:
    scorer = Failing(model, accuracy)
    scorer.word = ""
    with pytest.raises(StudyError, match=r"The baseline, your own prompt, cannot be scored: ModelError: no numbers"):
        Study(space, scorer, examples, OPTIONS, None, 5).run()


def test_too_many_failures_stop_the_search(model: LanguageModel, space: Space, examples: list[Example]) -> None:
    class MostlyFailing(Failing):
        def read(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> None:
            if any(p != space.baseline for p in prompts):
                raise ModelError("no numbers today")
            Scorer.read(self, prompts, examples)

    with pytest.raises(StudyError, match=r"of \d+ trials failed, the last one with: ModelError: no numbers today"):
        Study(space, MostlyFailing(model, accuracy), examples, OPTIONS, None, 5).run()


def test_finalists_hold_the_best_of_each_kind(model: LanguageModel, space: Space, examples: list[Example]) -> None:
    found = Study(space, Scorer(model, accuracy), examples, OPTIONS, None, 5).run()
    chosen = finalists(found, 1)
    assert chosen[0] is found[0]
    assert {c.kind for c in chosen} == {"baseline", "discrete", "soft"}
    confirmed = confirm(found, Scorer(model, accuracy), examples, OPTIONS, 36)
    assert {c.number for c in finalists(found, 3)} == {c.number for c in confirmed}


def test_equal_prompts_are_scored_once(model: LanguageModel, examples: list[Example]) -> None:
    labels = sorted({e.label for e in examples})
    baseline = Prompt("{{ text }}\n{{ label }}", {label: label for label in labels})
    scorer = Scorer(model, accuracy)
    narrow = Space(baseline, instructions=("", "Topic?"))
    search(narrow, scorer, examples[:8], StudyOptions(trials=12, batch=4, pruner="none", branches=("discrete",)))
    direct = Scorer(model, accuracy)
    direct.score([baseline], examples[:8])
    direct.score([Prompt(baseline.template, baseline.label_words, "Topic?")], examples[:8])
    assert scorer.tokens == direct.tokens


def test_vectors_lie_beside_the_study_and_not_in_it(
    model: LanguageModel, space: Space, examples: list[Example], tmp_path: Path
) -> None:
    study = Study(space, Scorer(model, accuracy), examples, OPTIONS, tmp_path, 5)
    study.run()
    soft = [t for t in study.trials.all() if t.user_attrs["kind"] == "soft"]
    assert {f"{t.user_attrs['fingerprint']}.safetensors" for t in soft} == {
        p.name for p in (tmp_path / "vectors").iterdir()
    }
    structure = {"soft.vectors", "soft.position", "soft.start"}
    assert all(set(t.params) == structure for t in soft if t.user_attrs["branch"] == "coordinates")
    assert all(len(json.dumps(t.user_attrs)) < 4096 for t in study.trials.all())
    reopened = Study(space, Scorer(model, accuracy), examples, OPTIONS, tmp_path, 5)
    first: Array = study.trials.prompt(soft[0]).soft.vectors  # type: ignore[union-attr]
    assert (reopened.trials.prompt(soft[0]).soft.vectors == first).all()  # type: ignore[union-attr]


def test_a_branch_that_fails_is_told_of_and_the_others_go_on(
    model: LanguageModel, space: Space, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs_away(*given: Any) -> Any:
        raise ModelError("The loss is not a number.")

    monkeypatch.setattr("autoprompt.study.branches.tune_vectors", runs_away)
    heard: list[Event] = []
    options = replace(OPTIONS, trials=25, branches=("discrete", "tuning", "edits"))
    study = Study(space, Scorer(model, accuracy), examples, options, None, 5, heard.append)
    study.run()
    notices = [e.message for e in heard if isinstance(e, Notice)]
    assert notices[0] == "The branch 'tuning' of the search made nothing this time: The loss is not a number."
    assert sum(sum(states.values()) for states in study.counts_by_branch().values()) == 25


# -- what may be chosen ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        ("tpe", "none"),
        ("cmaes", "successive_halving"),
        ("nsgaii", "hyperband"),
        ("random", "wilcoxon"),
        ("gp", "racing"),
    ],
)
def test_every_sampler_and_pruner_by_name_reaches_the_same_trials_after_a_kill(
    model: LanguageModel, space: Space, examples: list[Example], tmp_path: Path, sampler: str, pruner: str
) -> None:
    options = StudyOptions(
        trials=21, batch=4, slice=8, sampler=sampler, pruner=pruner, branches=("discrete", "edits"), startup=4
    )
    whole = Study(space, Scorer(model, accuracy, **remembering(model)), examples, options, None, 5)
    whole.run()
    scorer = Dying(model, accuracy, **remembering(model, tmp_path))
    scorer.left = 16
    with pytest.raises(KeyboardInterrupt, match="killed"):
        Study(space, scorer, examples, options, tmp_path, 5).run()
    resumed = Study(space, Scorer(model, accuracy, **remembering(model, tmp_path)), examples, options, tmp_path, 5)
    resumed.run()
    assert told(resumed) == told(whole)
    assert len(told(whole)) == 21
    dropped = sum(states.get("pruned", 0) for states in whole.counts().values())
    assert (dropped > 0) == (pruner != "none")


def test_an_unknown_sampler_and_an_unknown_branch_name_the_nearest(
    model: LanguageModel, space: Space, examples: list[Example]
) -> None:
    scorer = Scorer(model, accuracy)
    with pytest.raises(StudyError, match=r"The sampler is 'tpf'; allowed are surrogate, tpe.*tpe"):
        Study(space, scorer, examples, StudyOptions(sampler="tpf"))
    with pytest.raises(StudyError, match=r"The branch is 'edit'; allowed are discrete.*edits"):
        Study(space, scorer, examples, StudyOptions(branches=("edit",)))


def test_branches_that_can_do_nothing_are_an_error_where_no_other_is_left(
    model: LanguageModel, examples: list[Example]
) -> None:
    labels = sorted({e.label for e in examples})
    plain = Space(Prompt("{{ text }}\n{{ label }}", {label: label for label in labels}))
    with pytest.raises(StudyError, match=r"None of the branches tuning, projection can do anything"):
        Study(plain, Scorer(model, accuracy), examples, StudyOptions(branches=("tuning", "projection")))


def test_a_space_that_is_exhausted_leaves_the_trials_to_the_other_branches(
    model: LanguageModel, examples: list[Example]
) -> None:
    labels = sorted({e.label for e in examples})
    baseline = Prompt("{{ text }}\nTopic: {{ label }}", {label: label for label in labels}, "Name the topic.")
    narrow = Space(baseline, instructions=("Name the topic.", "Which topic is it?"), pool=tuple(examples[30:]))
    study = Study(narrow, Scorer(model, accuracy), examples[:30], StudyOptions(trials=18, batch=4), None, 5)
    study.run()
    counts = study.counts_by_branch()
    assert sum(counts["discrete"].values()) == 1
    assert sum(counts["edits"].values()) >= 4
    assert sum(sum(states.values()) for states in counts.values()) == 18


def test_a_last_batch_too_small_for_a_generation_ends_the_search(
    model: LanguageModel, space: Space, examples: list[Example]
) -> None:
    study = Study(space, Scorer(model, accuracy), examples, StudyOptions(trials=12, branches=("coordinates",)), None, 5)
    study.run()
    assert sum(sum(states.values()) for states in study.counts().values()) == 9


def test_a_batch_that_cannot_be_asked_again_whole_goes_on_with_what_is_there(
    model: LanguageModel, space: Space, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, trials=25, branches=("discrete", "tuning"))
    add, left = Trials.add, {"tuning": 3}

    def dies(self: Trials, asked: Any, *given: Any) -> Any:
        left["tuning"] -= asked.branch == "tuning"
        if left["tuning"] == 0:
            raise KeyboardInterrupt("killed")
        return add(self, asked, *given)

    monkeypatch.setattr(Trials, "add", dies)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        Study(space, Scorer(model, accuracy), examples, options, tmp_path, 5).run()
    monkeypatch.setattr(Trials, "add", add)

    def runs_away(*given: Any) -> Any:
        raise ModelError("The loss is not a number.")

    monkeypatch.setattr("autoprompt.study.branches.tune_vectors", runs_away)
    study = Study(space, Scorer(model, accuracy), examples, options, tmp_path, 5)
    study.run()
    assert sum(study.counts_by_branch()["tuning"].values()) == 2
    assert sum(sum(states.values()) for states in study.counts().values()) == 25


def test_a_budget_of_evaluations_ends_the_search(model: LanguageModel, space: Space, examples: list[Example]) -> None:
    options = StudyOptions(trials=1000, evaluations=400, batch=4, branches=("discrete",), startup=4)
    heard: list[Event] = []
    study = Study(space, Scorer(model, accuracy), examples, options, None, 5, heard.append)
    study.run()
    assert any("evaluations are spent, and 400 are allowed" in e.message for e in heard if isinstance(e, Notice))
    assert 400 <= study.evaluations() <= 400 + 4 * len(examples)


def test_with_two_objectives_the_study_has_both_and_the_winner_is_short(
    model: LanguageModel, space: Space, examples: list[Example]
) -> None:
    options = StudyOptions(
        trials=37, batch=4, branches=("discrete", "edits"), startup=8, objectives=("score", "tokens"), tolerance=1.0
    )
    scorer = Scorer(model, accuracy)
    study = Study(space, scorer, examples, options, None, 5)
    found = study.run()
    assert [direction.name for direction in study.study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert all(c.size > 0 for c in found)
    assert all(
        t.values == [t.user_attrs["score"]["value"], t.user_attrs["score"]["size"]] for t in study.study.best_trials
    )
    front = pareto_front(found)
    assert [c.value for c in front] == sorted((c.value for c in front), reverse=True)
    assert [c.size for c in front] == sorted((c.size for c in front), reverse=True)
    confirmed = study.confirm(found)
    assert {c.number for c in front} <= {c.number for c in confirmed}
    assert confirmed[0].size == min(c.size for c in confirmed)  # everything is within a tolerance of 1


def test_where_only_what_is_certain_is_promoted_the_baseline_wins_by_default(
    model: LanguageModel, space: Space, examples: list[Example]
) -> None:
    scorer = Scorer(model, accuracy)
    options = replace(OPTIONS, promote="certain", branches=("discrete",), trials=13)
    study = Study(space, scorer, examples, options, None, 5)
    confirmed = study.confirm(study.run())
    assert confirmed[0].certain
    assert confirmed[0].kind == "baseline" or confirmed[0].evidence > 0


def test_vectors_start_as_the_text_of_the_best_prompt_and_go_back_to_text(
    model: LanguageModel, space: Space, examples: list[Example]
) -> None:
    options = replace(OPTIONS, trials=41, branches=("discrete", "tuning", "projection"), startup=8)
    study = Study(space, Scorer(model, accuracy), examples, options, None, 5)
    study.run()
    trials = study.trials.all()
    tuned = [t for t in trials if t.user_attrs["branch"] == "tuning"]
    assert {t.user_attrs["operator"] for t in tuned} <= {
        "tuning from text",
        "tuning from structure",
        "tuning from soft",
    }
    assert all(trials[t.user_attrs["parents"][0]].user_attrs["batch"] < t.user_attrs["batch"] for t in tuned)
    steps = [t.user_attrs["step"] for t in tuned if t.user_attrs["run"] == 0]
    assert steps == sorted(set(steps))
    back = [t for t in trials if t.user_attrs["branch"] == "projection"]
    assert all(t.user_attrs["kind"] == "discrete" for t in back)
    assert all(trials[t.user_attrs["parents"][0]].user_attrs["kind"] == "soft" for t in back)


# -- halted from outside ---------------------------------------------------------------------


class Counted:
    """A halt that says something from its n-th question on."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self) -> str:
        self.left -= 1
        return "the night is over." if self.left < 0 else ""


@pytest.mark.parametrize("halts", [(14, 1, 0, 6)])
def test_a_search_that_was_halted_goes_on_to_the_trials_of_one_that_was_not(
    model: LanguageModel,
    space: Space,
    examples: list[Example],
    tmp_path: Path,
    halts: tuple[int, ...],
    whole: Study,
) -> None:
    for count in halts:
        heard: list[Event] = []
        scorer = Scorer(model, accuracy, **remembering(model, tmp_path))
        study = Study(space, scorer, examples, OPTIONS, tmp_path, 5, heard.append, halt=Counted(count))
        found = study.run()
        assert study.halted == "the night is over."
        ended = [t for t in study.trials.all() if t.state.is_finished()]
        assert isinstance(heard[-1], Notice)
        assert heard[-1].message == f"The search ends after {len(ended)} trials: the night is over."
        assert {t.user_attrs["batch"] for t in ended}.isdisjoint(
            {t.user_attrs["batch"] for t in study.trials.all() if not t.state.is_finished()}
        )
        assert {c.number for c in found} <= {t.number for t in ended}
    resumed = Study(space, Scorer(model, accuracy, **remembering(model, tmp_path)), examples, OPTIONS, tmp_path, 5)
    best = resumed.run()[0]
    assert told(resumed) == told(whole)
    assert best.prompt == whole.candidates()[0].prompt


@pytest.mark.parametrize("death", [3, 8])
def test_what_is_halted_in_the_middle_of_a_score_is_scored_again_later(
    model: LanguageModel, space: Space, examples: list[Example], tmp_path: Path, death: int, whole: Study
) -> None:
    class Late(Scorer):
        left = death

        def read(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> None:
            self.left -= 1
            if self.left < 0:
                raise Halted("the deadline has come.")
            super().read(prompts, examples)

    scorer = Late(model, accuracy, **remembering(model, tmp_path))
    study = Study(space, scorer, examples, OPTIONS, tmp_path, 5)
    study.run()
    assert study.halted == "the deadline has come."
    assert all("reason" not in t.user_attrs for t in study.trials.all())
    resumed = Study(space, Scorer(model, accuracy, **remembering(model, tmp_path)), examples, OPTIONS, tmp_path, 5)
    resumed.run()
    assert told(resumed) == told(whole)


def test_a_branch_that_is_halted_stores_nothing_of_its_batch(
    model: LanguageModel, space: Space, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*given: Any) -> Any:
        raise Halted("the deadline has come.")

    monkeypatch.setattr("autoprompt.study.branches.tune_vectors", ends)
    options = replace(OPTIONS, branches=("discrete", "tuning"))
    study = Study(space, Scorer(model, accuracy), examples, options, None, 5)
    study.run()
    assert study.halted == "the deadline has come."
    assert set(study.counts_by_branch()) == {"baseline", "discrete"}
    assert all(t.state.is_finished() for t in study.trials.all())


def test_a_search_whose_trials_are_done_was_not_halted(
    model: LanguageModel, space: Space, examples: list[Example], tmp_path: Path
) -> None:
    options = StudyOptions(trials=5, batch=4, branches=("discrete",))
    Study(space, Scorer(model, accuracy), examples, options, tmp_path, 5).run()
    again = Study(space, Scorer(model, accuracy), examples, options, tmp_path, 5, halt=lambda: "too late.")
    assert len(again.run()) >= 1
    assert again.halted == ""


def test_a_budget_of_tokens_ends_the_search(model: LanguageModel, space: Space, examples: list[Example]) -> None:
    options = StudyOptions(trials=1000, tokens=60_000, batch=4, branches=("discrete", "edits"), startup=4)
    heard: list[Event] = []
    study = Study(space, Scorer(model, accuracy), examples, options, None, 5, heard.append)
    study.run()
    assert any("tokens are spent, and 60,000 are allowed" in e.message for e in heard if isinstance(e, Notice))
    assert 60_000 <= study.tokens() < 90_000
    assert study.halted == ""
