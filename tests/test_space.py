"""space.py: a trial in, a prompt out, and the same prompt again from the trial's stored parameters."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprompt.data import Example
from autoprompt.errors import PromptError
from autoprompt.prompt import Prompt
from autoprompt.samplers import named_sampler
from autoprompt.soft import nearest_tokens
from autoprompt.space import DemonstrationSpace, Drawn, SoftSpace, SoftStructure, Space, Stored

LABELS = ("sports", "money", "weather")
BASELINE = Prompt("{{ text }}\nTopic: {{ label }}", {label: label for label in LABELS}, "Which topic?")
EMBEDDINGS = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def pool(topics_rows: list[dict[str, str]]) -> tuple[Example, ...]:
    return tuple(Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(topics_rows))


@pytest.fixture(scope="module")
def space(pool: tuple[Example, ...]) -> Space:
    return Space(
        BASELINE,
        templates=(BASELINE.template, "Text: {{ text }}\nIts topic is {{ label }}"),
        instructions=("Which topic?", "Name the topic.", ""),
        label_words={"sports": ("sports", "games"), "money": ("money", "business", "games")},
        calibrations=("none", "content_free"),
        demonstrations=DemonstrationSpace(most=5, draws=8, orders=3),
        pool=pool,
        seed=7,
    )


class Counting:
    """Records what is suggested; takes the first choice unless told otherwise."""

    def __init__(self, **params: int) -> None:
        self.params, self.asked = params, dict[str, int]()

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.asked[name] = high - low + 1
        return self.params.get(name, low)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked[name] = len(choices)
        return self.params.get(name, choices[0])


# -- replay ----------------------------------------------------------------------------------


def test_stored_parameters_give_the_same_prompt_again(space: Space) -> None:
    study = optuna.create_study()
    prompts: dict[int, Prompt] = {}
    for number in range(40):
        study.sampler = named_sampler("tpe", 1, number, startup=10)
        trial = study.ask()
        try:
            prompts[number] = space.discrete(trial)
        except PromptError:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, float(len(prompts[number].demonstrations)))
    assert len(prompts) > 20
    again = {n: space.discrete(Stored(study.trials[n].params)) for n in prompts}
    assert {n: p.fingerprint for n, p in again.items()} == {n: p.fingerprint for n, p in prompts.items()}
    assert len({p.fingerprint for p in prompts.values()}) > 15


def test_only_integers_are_stored(space: Space) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    for _ in range(10):
        trial = study.ask()
        try:
            space.discrete(trial)
        except PromptError:
            continue
        finally:
            study.tell(trial, 0.0)
    values = [value for trial in study.trials for value in trial.params.values()]
    assert len(values) >= 60
    assert {type(value) for value in values} == {int}


def test_every_name_is_asked_once_with_its_number_of_candidates(space: Space) -> None:
    trial = Counting()
    space.discrete(trial)
    assert trial.asked == {
        "words.sports": 2,
        "words.money": 3,
        "template": 2,
        "instruction": 3,
        "calibration": 2,
        "demonstrations": 6,
        "draw": 8,
        "order": 3,
    }


def test_what_has_one_candidate_is_not_asked(pool: tuple[Example, ...]) -> None:
    trial = Counting()
    options = DemonstrationSpace(most=2, draws=1, orders=1)
    fixed = Space(BASELINE, templates=(BASELINE.template,), demonstrations=options, pool=pool)
    fixed.discrete(trial)
    assert trial.asked == {"demonstrations": 3}


def test_an_empty_space_gives_the_baseline() -> None:
    trial = Counting()
    assert Space(BASELINE).discrete(trial) == BASELINE
    assert trial.asked == {}


def test_what_is_not_varied_is_taken_from_the_baseline() -> None:
    baseline = dataclasses.replace(BASELINE, normalize=True, separator="\n", calibration="content_free")
    found = Space(baseline, instructions=("Which topic?", "Other?")).discrete(Stored({"instruction": 1}))
    assert found == dataclasses.replace(baseline, instruction="Other?")


def test_parameters_choose_by_number(space: Space) -> None:
    found = space.discrete(
        Counting(template=1, instruction=1, calibration=1, **{"words.sports": 1, "words.money": 1})  # type: ignore[arg-type]
    )
    assert found.template == space.templates[1]
    assert found.instruction == "Name the topic."
    assert found.calibration == "content_free"
    assert dict(found.label_words) == {"sports": "games", "money": "business", "weather": "weather"}
    assert found.labels == LABELS


# -- demonstrations --------------------------------------------------------------------------


def test_the_number_of_demonstrations_cuts_one_draw(space: Space) -> None:
    shown = [space.discrete(Counting(demonstrations=n, draw=3)).demonstrations for n in range(6)]
    assert [len(found) for found in shown] == list(range(6))
    assert all(longer[: len(shorter)] == shorter for shorter, longer in itertools.pairwise(shown))


def test_an_order_keeps_the_same_demonstrations(space: Space) -> None:
    orders = [space.discrete(Counting(demonstrations=5, draw=3, order=n)).demonstrations for n in range(3)]
    texts = [[shown.fields["text"] for shown in found] for found in orders]
    assert len({tuple(found) for found in texts}) == 3
    assert len({frozenset(found) for found in texts}) == 1


def test_order_zero_is_the_order_of_the_draw(space: Space) -> None:
    found = space.discrete(Counting(demonstrations=5, draw=2)).demonstrations
    assert [shown.fields for shown in found] == [example.fields for example in space.drawn(2)]


def test_demonstrations_carry_their_own_label(space: Space, pool: tuple[Example, ...]) -> None:
    labels = {example.fields["text"]: example.label for example in pool}
    for draw in range(8):
        for shown in space.discrete(Counting(demonstrations=5, draw=draw, order=1)).demonstrations:
            assert shown.label == labels[shown.fields["text"]]


def test_the_classes_take_turns_in_a_draw(space: Space) -> None:
    for draw in range(8):
        counts = Counter(example.label for example in space.drawn(draw))
        assert set(counts) == set(LABELS)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_the_classes_take_turns_even_when_one_is_rare(pool: tuple[Example, ...]) -> None:
    few = tuple(e for e in pool if e.label != "weather") + tuple(e for e in pool if e.label == "weather")[:1]
    drawn = Space(BASELINE, demonstrations=DemonstrationSpace(most=9), pool=few).drawn(0)
    assert Counter(e.label for e in drawn) == {"sports": 4, "money": 4, "weather": 1}


def test_a_draw_holds_no_example_twice(space: Space) -> None:
    for draw in range(8):
        texts = [example.fields["text"] for example in space.drawn(draw)]
        assert len(texts) == len(set(texts)) == 5


def test_a_draw_is_the_same_each_time(space: Space) -> None:
    assert [space.drawn(n) for n in range(8)] == [space.drawn(n) for n in range(8)]


def test_draws_and_seeds_differ(space: Space) -> None:
    draws = {tuple(e.number for e in space.drawn(n)) for n in range(8)}
    assert len(draws) == 8
    assert dataclasses.replace(space, seed=8).drawn(0) != space.drawn(0)


def test_the_first_labels_of_draws_differ(space: Space) -> None:
    assert len({space.drawn(n)[0].label for n in range(8)}) > 1


def test_a_pool_smaller_than_a_draw_is_used_whole(pool: tuple[Example, ...]) -> None:
    drawn = Space(BASELINE, demonstrations=DemonstrationSpace(most=5), pool=pool[:3]).drawn(1)
    assert {e.number for e in drawn} == {0, 1, 2}


def test_demonstrations_of_the_baseline_stay_when_none_are_searched(space: Space) -> None:
    own = space.discrete(Counting(demonstrations=2)).demonstrations
    baseline = dataclasses.replace(BASELINE, demonstrations=own)
    assert Space(baseline).discrete(Counting()).demonstrations == own


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.sampled_from(LABELS), min_size=1, max_size=20),
    most=st.integers(1, 6),
    draw=st.integers(0, 50),
)
def test_any_pool_gives_draws_that_are_stratified(labels: list[str], most: int, draw: int) -> None:
    examples = tuple(Example(n, {"text": str(n)}, label) for n, label in enumerate(labels))
    drawn = Space(BASELINE, demonstrations=DemonstrationSpace(most=most), pool=examples).drawn(draw)
    assert len(drawn) == min(most, len(labels)) == len({e.number for e in drawn})
    counts, left = Counter(e.label for e in drawn), Counter(labels)
    for label, other in ((a, b) for a in left for b in left):
        assert counts[label] <= counts[other] + 1 or counts[other] == left[other]


# -- without a trial -------------------------------------------------------------------------

ASKED = {"words.sports", "words.money", "template", "instruction", "calibration", "demonstrations", "selection"}


@pytest.fixture(scope="module")
def both(space: Space) -> Space:
    """The space with both ways to choose demonstrations, and one of them asking for more."""
    options = DemonstrationSpace(most=3, draws=4, orders=2, selections=("similar", "drawn"))
    return dataclasses.replace(space, demonstrations=options)


def test_choices_are_what_may_be_asked(space: Space, both: Space) -> None:
    trial = Counting()
    space.discrete(trial)
    assert space.choices == trial.asked
    assert both.choices.keys() == {*ASKED, "draw", "order"}
    assert Space(BASELINE).choices == {}


def test_drawn_parameters_give_the_same_prompt_again(both: Space) -> None:
    generator, asked = random.Random(1), set[frozenset[str]]()
    for _ in range(60):
        drawn = Drawn(generator)
        try:
            prompt = both.discrete(drawn)
        except PromptError:
            continue
        assert both.discrete(Stored(drawn.params)) == prompt
        assert all(value in range(both.choices[name]) for name, value in drawn.params.items())
        assert (prompt.retrieval is not None) == (drawn.params["selection"] == 0 and drawn.params["demonstrations"] > 0)
        asked.add(frozenset(drawn.params))
    assert asked == {frozenset(ASKED), frozenset({*ASKED, "draw", "order"})}


def test_draws_keep_what_they_are_given_and_change_what_they_are_told_to(both: Space) -> None:
    base = Drawn(random.Random(1), {"selection": 0, "words.sports": 0})
    both.discrete(base)
    for seed in range(20):
        changed = Drawn(random.Random(seed), base.params, vary=("template", "selection"))
        both.discrete(changed)
        assert {n for n, v in base.params.items() if changed.params[n] != v} == {"template", "selection"}
        assert changed.params.keys() - base.params.keys() == {"draw", "order"}


def test_every_set_of_parameters_is_given_once(both: Space) -> None:
    few = dataclasses.replace(both, label_words={}, instructions=())
    params = list(few.every())
    assert len(params) == few.size == 2 * 2 * (1 + 3 * (1 + 4 * 2))
    assert len({tuple(sorted(p.items())) for p in params}) == few.size
    prompts = {few.discrete(Stored(p)).fingerprint for p in params}
    generator = random.Random(2)
    assert {few.discrete(Drawn(generator)).fingerprint for _ in range(300)} <= prompts
    assert (Space(BASELINE).size, list(Space(BASELINE).every())) == (1, [{}])


# -- what is refused -------------------------------------------------------------------------


def test_two_labels_that_get_the_same_word_are_refused(space: Space) -> None:
    params = {"words.sports": 1, "words.money": 2}
    with pytest.raises(PromptError, match=r"^The labels 'sports' and 'money' share the label word 'games'\.$"):
        space.discrete(Counting(**params))


def test_words_for_an_unknown_label_are_refused() -> None:
    wording = r"^There are words for the label 'politics', which the baseline does not have\.$"
    with pytest.raises(PromptError, match=wording):
        Space(BASELINE, label_words={"politics": ("politics",)})


def test_demonstrations_need_a_pool() -> None:
    wording = r"^Demonstrations are searched and there is no pool of examples to draw them from\.$"
    with pytest.raises(PromptError, match=wording):
        Space(BASELINE, demonstrations=DemonstrationSpace(most=2))


def test_a_stored_parameter_that_is_missing_is_an_error(space: Space) -> None:
    with pytest.raises(KeyError, match=r"words\.sports"):
        space.discrete(Stored({}))


# -- the soft part ---------------------------------------------------------------------------


def test_the_starts_of_structures_take_turns() -> None:
    soft = SoftSpace(starts=("best", "vocabulary", "random"))
    assert [soft.structure(run, 1).start for run in range(7)] == [
        "best", "vocabulary", "random", "best", "vocabulary", "random", "best",
    ]  # fmt: skip


def test_structures_are_drawn_from_run_and_seed() -> None:
    soft = SoftSpace(vectors=(2, 4, 8, 16), positions=("start", "example", "answer"))
    drawn = [soft.structure(run, 1) for run in range(40)]
    assert drawn == [soft.structure(run, 1) for run in range(40)]
    assert drawn != [soft.structure(run, 2) for run in range(40)]
    assert {s.vectors for s in drawn} == {2, 4, 8, 16}
    assert {s.position for s in drawn} == {"start", "example", "answer"}


def test_each_start_gives_its_own_vectors() -> None:
    space = Space(BASELINE, soft=SoftSpace(dimensions=5), seed=3)
    projections = {
        start: space.projection(0, SoftStructure(4, "start", start), EMBEDDINGS, [7, 9])
        for start in ("random", "vocabulary", "best")
    }
    assert nearest_tokens(projections["best"].start, EMBEDDINGS) == [7, 9, 7, 9]
    assert all(any(np.array_equal(v, e) for e in EMBEDDINGS) for v in projections["vocabulary"].start)
    assert not any(any(np.array_equal(v, e) for e in EMBEDDINGS) for v in projections["random"].start)
    assert {p.vectors(np.ones(5)).shape for p in projections.values()} == {(4, 8)}


def test_a_projection_is_drawn_from_run_and_seed() -> None:
    space, structure = Space(BASELINE, soft=SoftSpace(dimensions=5), seed=3), SoftStructure(4, "start", "random")
    z = np.ones(5)
    first, again, next_run = (space.projection(r, structure, EMBEDDINGS, []).vectors(z) for r in (0, 0, 1))
    other = dataclasses.replace(space, seed=4).projection(0, structure, EMBEDDINGS, []).vectors(z)
    assert np.array_equal(first, again)
    assert not np.allclose(first, next_run)
    assert not np.allclose(first, other)


def test_the_deviation_of_a_projection_is_that_of_the_embeddings() -> None:
    space = Space(BASELINE, soft=SoftSpace(dimensions=5))
    found = space.projection(0, SoftStructure(4, "start", "best"), EMBEDDINGS, [1])
    assert found.deviation == pytest.approx(float(EMBEDDINGS.std()))


def test_the_start_and_the_map_are_drawn_independently() -> None:
    space = Space(BASELINE, soft=SoftSpace(dimensions=1), seed=3)
    found = space.projection(0, SoftStructure(8, "start", "random"), EMBEDDINGS, [])
    drawn = (found.start - EMBEDDINGS.mean(0)) / EMBEDDINGS.std(0)
    moved = found.vectors(np.ones(1)) - found.start
    assert abs(np.corrcoef(drawn.reshape(-1), moved.reshape(-1))[0, 1]) < 0.5


def test_vectors_are_put_into_the_carrier() -> None:
    found = Space(BASELINE).with_vectors(BASELINE, EMBEDDINGS[:2], "answer")
    assert found.soft is not None
    assert (found.kind, found.soft.position) == ("soft", "answer")
    assert dataclasses.replace(found, soft=None) == BASELINE


def test_a_space_without_a_soft_part_has_no_projection() -> None:
    with pytest.raises(PromptError, match=r"^The space has no soft part\.$"):
        Space(BASELINE).projection(0, SoftStructure(4, "start", "random"), EMBEDDINGS, [])
