"""Racing: who is dropped, how surely, and who may be called the winner."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from played import play

from autoprompt.data import Example
from autoprompt.errors import StudyError
from autoprompt.evidence import bounded, levelled
from autoprompt.metrics import Outcome
from autoprompt.metrics.builtin import accuracy, macro_f1
from autoprompt.racing import (
    RULES,
    Bets,
    Entrant,
    Lane,
    PairedRule,
    Rivals,
    in_class_turns,
    inflation,
    looks_at,
    make_rule,
    per_example,
    standings,
)

Floats = NDArray[np.float64]
LEVEL = 0.05
STRICT = PairedRule(LEVEL, 1.0, 16)  # drops none but those that are certainly worse
BUDGET = PairedRule(LEVEL)


def table(generator: np.random.Generator, worth: Floats, examples: int) -> tuple[Floats, Floats]:
    """Bounded margins and 0/1 scores (P, n) of prompts of a worth, on examples of varying difficulty."""
    difficulty = generator.normal(0, 1.2, examples)
    margins = worth[:, None] + difficulty + generator.normal(0, 0.8, (len(worth), examples))
    return bounded(margins, 1.0), (margins > 0).astype(float)


def lanes(evidence: Floats, n: int, rows: list[int]) -> list[Lane]:
    return [Lane(row, evidence[row, :n], float(evidence[row, :n].mean()), evidence[row, :n]) for row in rows]


# -- bets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["even", "skewed", "rare"])
def test_a_true_claim_is_rejected_at_most_at_the_level_whenever_one_stops(kind: str) -> None:
    generator = np.random.default_rng(1)
    searches, length, rejected = 400, 150, 0
    for _ in range(searches):
        drawn = {
            "even": lambda: generator.choice([-1.0, 0.0, 1.0], length),
            "skewed": lambda: generator.beta(0.3, 0.9, length) * 0.8 - 0.2,  # mean 0
            "rare": lambda: np.where(generator.random(length) < 0.05, -0.95, 0.05),  # mean 0
        }[kind]()
        bets = Bets()
        for difference in drawn:
            bets.add(np.array([difference]))
            if bets.log_wealth >= math.log(1 / LEVEL):
                rejected += 1
                break
    assert rejected / searches <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / searches)


def test_a_false_claim_is_rejected_after_a_few_examples() -> None:
    generator = np.random.default_rng(2)
    bets = Bets()
    bets.add(np.clip(generator.normal(-0.3, 0.3, 40), -1, 1))
    assert bets.log_wealth > math.log(1 / LEVEL)


def test_bounded_margins_keep_their_sign_and_lie_within_a_half() -> None:
    found = bounded(np.array([-1e9, -1.0, 0.0, 1.0, 1e9]), 2.0)
    assert found.tolist() == [-0.5, -math.tanh(0.5) / 2, 0.0, math.tanh(0.5) / 2, 0.5]


def test_means_of_few_easy_examples_are_brought_to_the_level_of_all() -> None:
    generator = np.random.default_rng(20)
    worth = np.array([0.0, 0.5, 1.0, 0.8])
    difficulty = np.concatenate([np.full(20, 0.5), np.full(180, -0.7)])  # the first ones are easy
    margins = worth[:, None] + difficulty + generator.normal(0, 0.3, (4, 200))
    evidence = bounded(margins, 1.0)
    means, variances = levelled([evidence[0], evidence[1], evidence[2], evidence[3, :20]], 200)
    assert means[:3] == pytest.approx(evidence[:3].mean(1))
    assert abs(means[3] - evidence[3].mean()) < 0.1 < evidence[3, :20].mean() - evidence[3].mean()
    assert variances[3] > 2 * variances[:3].max()


# -- the race --------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", ["every second example", "growing slices"])
def test_the_truly_best_is_dropped_at_most_at_the_level(looks: str) -> None:
    generator = np.random.default_rng(3)
    races, lost = 150, 0
    for _ in range(races):
        worth = np.append(generator.normal(0, 0.15, 11), 0.3)  # the last is the best, and hardly so
        evidence, _ = table(generator, worth, 160)
        order = generator.permutation(12)
        race = STRICT.race([int(r) for r in order], Rivals())
        running = [int(row) for row in order]
        for n in range(8, 161, 2) if looks == "every second example" else looks_at(160, 16):
            fates = race.judge(lanes(evidence, n, running))
            running = [row for row, fate in zip(running, fates, strict=True) if fate == "stays"]
        lost += 11 not in running
    assert lost / races <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / races)


def test_over_a_whole_search_the_truly_best_is_dropped_at_most_at_the_level() -> None:
    generator = np.random.default_rng(4)
    searches, lost = 100, 0
    for _ in range(searches):
        worth = generator.normal(0, 0.1, 65)
        worth[40] = 0.35
        evidence, values = table(generator, worth, 160)
        found = play(evidence, values, STRICT)
        lost += 40 in found.worse
    assert lost / searches <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / searches)


def test_among_equal_prompts_the_true_best_being_any_of_them_none_is_dropped_beyond_the_level() -> None:
    generator = np.random.default_rng(5)
    searches, dropped = 60, 0
    for _ in range(searches):
        evidence, values = table(generator, np.zeros(49), 160)
        found = play(evidence, values, STRICT)
        dropped += 48 in found.worse
    assert dropped / searches <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / searches)


def test_clear_differences_cost_a_small_part_of_all_evaluations() -> None:
    generator = np.random.default_rng(6)
    evidence, values = table(generator, generator.normal(0, 1.5, 97), 250)
    found = play(evidence, values, STRICT)
    assert found.used < 0.3 * evidence.size
    assert values[found.best].mean() >= np.sort(values.mean(1))[-3]


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.5])
@pytest.mark.parametrize("total", [60, 250, 1000])
def test_a_race_keeps_to_its_budget(spread: float, total: int) -> None:
    generator = np.random.default_rng(18)
    evidence, values = table(generator, generator.normal(0, spread, 161), total)
    found = play(evidence, values, BUDGET)
    assert found.used <= (BUDGET.share + 0.03) * evidence.size + 12 * 161 * 0.5
    assert len(found.complete) >= 3


def test_a_race_within_a_budget_chooses_nearly_as_well_as_scoring_everything() -> None:
    generator = np.random.default_rng(19)
    lost = []
    for _ in range(20):
        worth = generator.normal(0, 0.4, 97)
        evidence, values = table(generator, worth, 250)
        truth = np.array([NormalDist(0, math.hypot(1.2, 0.8)).cdf(w) for w in worth])
        lost.append(truth[values.mean(1).argmax()] - truth[play(evidence, values, BUDGET).best])
    assert np.mean(lost) < 0.006


def test_a_rival_of_an_earlier_race_drops_those_far_below_it() -> None:
    generator = np.random.default_rng(7)
    evidence, _ = table(generator, np.array([1.5, -1.5, 1.6]), 100)
    race = STRICT.race([1, 2], Rivals(tuple(lanes(evidence, 100, [0]))))
    assert race.judge(lanes(evidence, 40, [1, 2])) == ["worse", "stays"]


def test_a_smaller_prompt_is_not_dropped_by_a_larger_one() -> None:
    generator = np.random.default_rng(8)
    evidence, _ = table(generator, np.array([2.0, -2.0]), 60)
    for size, fate in ((50.0, "stays"), (200.0, "worse")):
        race = STRICT.race([0, 1], Rivals())
        pair = [Lane(0, evidence[0, :30], 1.0, size=100.0), Lane(1, evidence[1, :30], 0.0, size=size)]
        race.judge(pair)
        pair = [Lane(0, evidence[0], 1.0, size=100.0), Lane(1, evidence[1], 0.0, size=size)]
        assert race.judge(pair) == ["stays", fate]


@given(total=st.integers(1, 3000), first=st.integers(1, 200))
def test_looks_grow_and_end_with_all_examples(total: int, first: int) -> None:
    found = looks_at(total, first)
    assert found[-1] == total
    assert found[0] == min(first, total)
    assert found == sorted(set(found))


# -- the other rules -------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_every_rule_finds_a_clearly_best_prompt(name: str) -> None:
    generator = np.random.default_rng(9)
    worth = np.append(generator.normal(-0.5, 0.3, 40), 1.5)
    evidence, values = table(generator, worth, 128)
    found = play(evidence, values, make_rule(name, PairedRule(LEVEL, 0.3, 16), 128, True))
    assert found.best == 40
    assert (found.used == evidence.size) == (name == "none")


@pytest.mark.parametrize("name", ["successive_halving", "hyperband", "wilcoxon"])
def test_a_pruner_of_optuna_drops_the_worst_where_less_is_better_too(name: str) -> None:
    generator = np.random.default_rng(10)
    worth = generator.normal(0, 1.5, 41)
    evidence, values = table(generator, worth, 128)
    rule = make_rule(name, PairedRule(LEVEL, 0.3, 16), 128, False)
    complete = []
    for start in range(0, 40, 8):
        running = list(range(start, start + 8))
        race = rule.race(running, Rivals())
        for n in rule.looks(128):
            found = [
                Lane(row, evidence[row, :n], float(1 - values[row, :n].mean()), 1 - values[row, :n]) for row in running
            ]
            fates = race.judge(found) if found else []
            running = [row for row, fate in zip(running, fates, strict=True) if fate == "stays" or n == 128]
        race.finish([Lane(row, evidence[row], float(1 - values[row].mean())) for row in running])
        complete += running
    assert 0 < len(complete) < 40
    assert worth[complete].mean() > worth[:40].mean()


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(
        StudyError, match=r"The pruner is 'hyperbands'; allowed are racing, successive_halving.*hyperband"
    ):
        make_rule("hyperbands", PairedRule(), 100, True)


# -- the winner ------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [STRICT, BUDGET])
def test_among_equal_prompts_at_most_5_percent_of_searches_promote_one(rule: PairedRule) -> None:
    generator = np.random.default_rng(11)
    searches, promoted = 100, 0
    for _ in range(searches):
        evidence, values = table(generator, np.zeros(49), 160)
        promoted += play(evidence, values, rule).promoted != 0
    assert promoted / searches <= LEVEL


def test_a_clearly_better_prompt_is_promoted() -> None:
    generator = np.random.default_rng(12)
    evidence, values = table(generator, np.append(np.zeros(40), 1.0), 200)
    assert play(evidence, values, BUDGET).promoted == 40


def test_the_estimate_of_the_best_is_less_off_than_its_score() -> None:
    generator = np.random.default_rng(13)
    raw, shrunk = [], []
    for _ in range(100):
        worth = generator.normal(0, 0.1, 30)
        evidence, values = table(generator, worth, 120)
        truth = np.array([NormalDist(0, math.hypot(1.2, 0.8)).cdf(w) for w in worth])
        truth += values.mean() - truth.mean()  # these examples' difficulty
        stood = np.array(
            [s.estimate for s in standings([Entrant(e, v) for e, v in zip(evidence, values, strict=True)], 29)]
        )
        best, first = int(stood.argmax()), int(values.mean(1).argmax())
        raw.append(values[first].mean() - truth[first])
        shrunk.append(stood[best] - truth[best])
    assert abs(np.mean(shrunk)) < 0.3 * abs(np.mean(raw))


def test_estimates_of_a_metric_that_is_minimized_follow_it() -> None:
    generator = np.random.default_rng(14)
    evidence, values = table(generator, np.linspace(-1, 1, 9), 200)
    up = standings([Entrant(e, v) for e, v in zip(evidence, values, strict=True)], 8)
    down = standings([Entrant(e, -v) for e, v in zip(evidence, values, strict=True)], 8, maximize=False)
    assert [s.estimate for s in down] == pytest.approx([-s.estimate for s in up])
    assert [s.certain for s in down] == [s.certain for s in up]


def test_more_candidates_need_more_evidence() -> None:
    generator = np.random.default_rng(15)
    evidence, values = table(generator, np.array([0.0, 0.55]), 150)
    entrants = [Entrant(e, v) for e, v in zip(evidence, values, strict=True)]
    few, many = standings(entrants, 1)[1], standings(entrants, 10**9)[1]
    assert few.certain
    assert not many.certain
    assert few.evidence == many.evidence


def test_the_best_of_many_equal_ones_is_taken_for_luck() -> None:
    generator = np.random.default_rng(16)
    evidence, _ = table(generator, np.zeros(40), 200)
    lead = evidence.mean(1).max() - evidence.mean(1).mean()
    assert inflation(list(evidence)) > 0.6 * lead
    assert inflation(list(evidence[:2])) == 0.0


def test_a_metric_of_the_whole_set_has_values_of_examples_by_the_jackknife() -> None:
    generator = np.random.default_rng(17)
    labels = ("a", "b")
    targets = tuple(labels[i] for i in generator.integers(0, 2, 60))
    right = generator.random(60) < 0.8
    rows = np.array([[0.9, 0.1] if (t == "a") == r else [0.1, 0.9] for t, r in zip(targets, right, strict=True)])
    outcome = Outcome(targets, rows, labels)
    found = per_example(macro_f1, outcome)
    assert found.shape == (60,)
    assert found.mean() == pytest.approx(macro_f1(outcome), abs=0.02)
    assert per_example(accuracy, outcome).tolist() == right.astype(float).tolist()


# -- the order -------------------------------------------------------------------------------


@given(labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=60), seed=st.integers(0, 5))
def test_every_beginning_has_the_classes_in_proportion(labels: list[str], seed: int) -> None:
    examples = [Example(at, {"text": str(at)}, label) for at, label in enumerate(labels)]
    found = in_class_turns(examples, seed)
    assert sorted(e.number for e in found) == list(range(len(labels)))
    assert found == in_class_turns(examples, seed)
    for end in range(1, len(found) + 1):
        for label in set(labels):
            share = labels.count(label) * end / len(labels)
            assert abs(sum(e.label == label for e in found[:end]) - share) <= 1.5
