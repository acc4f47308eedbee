"""samplers/: the surrogate, Optuna's samplers on this space, and which branch gets the next batch."""

from __future__ import annotations

import hashlib
import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import check_grad
from scipy.spatial.distance import cdist

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.errors import PromptError, StudyError
from autoprompt.models import LanguageModel, load_model, text_vectors
from autoprompt.models.encoder import EncoderModel
from autoprompt.prompt import Prompt
from autoprompt.samplers import (
    SAMPLERS,
    Observation,
    Surrogate,
    Turn,
    ask_parameters,
    named_sampler,
    next_branch,
)  # fmt: skip
from autoprompt.samplers.features import PARTS, Features
from autoprompt.samplers.field import log_improvement
from autoprompt.samplers.points import Points, identity
from autoprompt.samplers.process import Fitted, Process, _likelihood, fit
from autoprompt.space import DemonstrationSpace, Drawn, Space, Stored

OWN = [name for name in SAMPLERS if name != "surrogate"]
LABELS = ("a", "b", "c")
HIDDEN, LATENT = 48, 4
MIX = np.random.default_rng(5).standard_normal((LATENT, HIDDEN))


def generator_of(text: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


def latent(text: str) -> NDArray[np.float64]:
    """What a text means: that of its group, the number behind its #, and something of its own."""
    group = np.random.default_rng(900 + int(text.partition("#")[2][:1] or 0)).standard_normal(LATENT)
    return np.asarray(0.8 * group + 0.6 * generator_of(text).standard_normal(LATENT))


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that say what texts mean, with noise, and one number that is far greater than all others."""
    rows = np.array([latent(t) @ MIX + 0.3 * generator_of("noise" + t).standard_normal(HIDDEN) for t in texts])
    rows[:, 3] += 50
    return rows.astype(np.float32)


def make_space(seed: int = 0, **changes: Any) -> Space:
    pool = tuple(Example(n, {"text": f"#{n % 7} example {n} {seed}"}, LABELS[n % 3]) for n in range(60))
    parts: dict[str, Any] = {
        "templates": tuple(f"#{n % 4} {{{{ text }}}} t{n} {seed} {{{{ label }}}}" for n in range(8)),
        "instructions": ("", *(f"#{n % 5} instruction {n} {seed}" for n in range(19))),
        "label_words": {label: tuple(f"{label} #{n} word" for n in range(4)) for label in LABELS},
        "calibrations": ("none", "content_free"),
        "demonstrations": DemonstrationSpace(6, 16, 3, ("drawn", "similar")),
        "pool": pool,
        "seed": seed,
    }
    parts |= changes
    baseline = Prompt("{{ text }} #0 -> {{ label }}", {label: f"{label} #0 word" for label in LABELS}, "#0 base")
    return Space(baseline, **parts)


class Landscape:
    """How good prompts are: what each part says, and two that act together."""

    def __init__(self, seed: int) -> None:
        g = np.random.default_rng(seed)
        self.waves = [
            (g.standard_normal((LATENT, 10)) / 2, g.uniform(0, 6, 10), g.standard_normal(10) / 3) for _ in "1234"
        ]
        self.both, self.calibrated, self.similar = g.standard_normal((LATENT, LATENT)) / 8, *g.standard_normal(2) / 2

    def part(self, number: int, text: str) -> float:
        weights, phases, heights = self.waves[number]
        return float(np.cos(latent(text) @ weights + phases) @ heights)

    def value(self, prompt: Prompt) -> float:
        found = self.part(0, prompt.instruction) + 0.7 * self.part(1, prompt.template)
        found += float(latent(prompt.instruction) @ self.both @ latent(prompt.template))
        found += 0.25 * sum(self.part(2, word) for word in prompt.label_words.values())
        if prompt.calibration != "none":
            found += self.calibrated - 0.05 * len(prompt.demonstrations)
        if prompt.demonstrations:
            says = np.mean([self.part(3, shown.fields["text"]) for shown in prompt.demonstrations])
            found += 0.8 * (1 - 0.6 ** len(prompt.demonstrations)) * (1 + 2 * float(says))
        if prompt.retrieval:
            found += 0.8 * (1 - 0.6**prompt.retrieval.number) * (1 + self.similar)
        return found / 4


def drawn(space: Space, count: int, seed: int = 0) -> list[Prompt]:
    generator = random.Random(seed)
    return [space.discrete(Drawn(generator)) for _ in range(count)]


def observed(space: Space, count: int, seed: int = 0) -> list[Observation]:
    land, noise = Landscape(seed), np.random.default_rng(seed)
    return [Observation(p, land.value(p) + 0.05 * noise.standard_normal(), 0.0025) for p in drawn(space, count, seed)]


# -- the surrogate: what is suggested ------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 5, 40])
def test_suggestions_are_new_and_distinct_prompts(number: int) -> None:
    space = make_space()
    seen = observed(space, number)
    params = Surrogate(space, embed, 1).suggest(seen, 8, number)
    prompts = [space.discrete(Stored(p)) for p in params]
    assert len({p.fingerprint for p in prompts}) == 8
    assert not {p.fingerprint for p in prompts} & {o.prompt.fingerprint for o in seen}
    assert {type(value) for p in params for value in p.values()} == {int}


def test_suggestions_hold_only_what_their_prompt_asks_for() -> None:
    space = make_space()
    for params in Surrogate(space, embed, 1).suggest(observed(space, 40), 30, 40):
        again = Drawn(random.Random(0), params)
        assert space.discrete(again) == space.discrete(Stored(params))
        assert again.params == params


def test_suggestions_depend_on_what_is_seen_and_the_number_alone() -> None:
    space = make_space()
    seen = observed(space, 70)
    running = Surrogate(space, embed, 1)
    for number in (3, 16, 24, 40, 56):
        running.suggest(seen[:number], 8, number)
    resumed = Surrogate(make_space(), embed, 1)
    assert running.suggest(seen, 8, 70) == resumed.suggest(seen, 8, 70)
    assert resumed.suggest(seen, 8, 70) != resumed.suggest(seen, 8, 71)
    assert resumed.suggest(seen[:9], 8, 70) != Surrogate(space, embed, 2).suggest(seen[:9], 8, 70)


def test_every_choice_comes_early_and_equally_often() -> None:
    space = make_space()
    surrogate, found = Surrogate(space, embed, 1, startup=60), list[dict[str, Any]]()
    seen = [Observation(space.baseline, 0.0, 0.0)]
    for number in range(1, 41, 8):
        batch = surrogate.suggest(seen, 8, number)
        seen += [Observation(space.discrete(Stored(params)), 0.0, 0.0) for params in batch]
        found += batch
    for name in ("instruction", "template", "calibration", "demonstrations"):
        counts = Counter(params[name] for params in found)
        assert len(counts) == space.choices[name]
        assert max(counts.values()) - min(counts.values()) <= 2
    assert len({params["template"] for params in found[:7]}) == 7  # the eighth is the baseline's


def test_a_design_that_gives_two_labels_one_word_draws_the_words_again() -> None:
    words = {"a": ("x", "y", "z"), "b": ("x", "y", "z"), "c": ("x", "y", "w")}
    space = make_space(label_words=words)
    points = [Points(space, 1).design(row) for row in range(30)]
    assert all(points)
    assert len({point.params["template"] for point in points[:8] if point}) == 8


def test_a_small_space_is_exhausted_and_then_nothing_is_suggested() -> None:
    options = DemonstrationSpace(most=0)
    space = make_space(
        label_words={}, demonstrations=options, templates=("{{ text }} {{ label }}", "{{ text }}: {{ label }}")
    )
    assert space.size == 2 * 20 * 2
    surrogate, seen = Surrogate(space, embed, 1), list[Observation]()
    while batch := surrogate.suggest(seen, 7, len(seen)):
        seen += [Observation(space.discrete(Stored(p)), 0.01 * len(seen), 0.01) for p in batch]
    assert len(seen) == len({o.prompt.fingerprint for o in seen}) == space.size
    assert len(batch) == 0


def test_a_space_of_one_prompt_has_nothing_to_suggest() -> None:
    space = Space(Prompt("{{ text }} {{ label }}", {"a": "a", "b": "b"}))
    surrogate = Surrogate(space, embed, 1, startup=2)
    assert surrogate.suggest([], 3, 0) == [{}]
    assert surrogate.suggest([Observation(space.baseline, 0.0, 0.0)], 3, 1) == []
    assert surrogate.suggest([Observation(space.baseline, 0.0, 0.0)] * 3, 3, 1) == []


def test_prompts_from_outside_of_the_space_are_learned_from() -> None:
    space = make_space()
    seen = observed(space, 30)
    strange = Prompt(
        "#3 other {{ text }}: {{ label }}",
        {"c": "z", "a": "x", "b": "y"},
        "#2 written by a model",
        (Demonstration({"text": "#1 written too"}, "b"),),
        temperature=2.0,
    )
    seen += [Observation(strange, 0.9, 0.001), Observation(strange, 0.8, 0.5)]
    params = Surrogate(space, embed, 1).suggest(seen, 8, 32)
    assert len(params) == 8
    assert params != Surrogate(space, embed, 1).suggest(seen[:30], 8, 32)


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_gains_that_do_not_differ_and_strange_noises_are_taken(gain: float) -> None:
    space = make_space()
    noises = itertools.cycle([0.0, float("inf"), float("nan"), 1e-12])
    seen = [Observation(p, gain, next(noises)) for p in drawn(space, 40)]
    assert len(Surrogate(space, embed, 1).suggest(seen, 8, 40)) == 8


def test_observations_with_many_examples_count_more() -> None:
    space = make_space()
    prompts = drawn(space, 60)
    liked = {n: 0.5 if p.calibration == "none" else -0.5 for n, p in enumerate(prompts)}
    counts = []
    for sure in (True, False):  # half of the observations are turned round; which half is noise?
        seen = [
            Observation(p, liked[n] if (n % 2 == 0) == sure else -liked[n], 0.0001 if n % 2 == 0 else 0.9)
            for n, p in enumerate(prompts)
        ]
        found = Surrogate(space, embed, 1).suggest(seen, 8, 60)
        counts.append(sum(space.discrete(Stored(p)).calibration == "none" for p in found))
    assert counts[0] >= 7
    assert counts[1] <= 1


def best_found(method: str, seed: int, trials: int = 56, batch: int = 8) -> float:
    """The true value of the best prompt that a search finds on the landscape of a seed."""
    space, land, noise = make_space(seed), Landscape(seed), np.random.default_rng(seed)
    surrogate, generator = Surrogate(space, embed, seed), random.Random(seed)
    study = optuna.create_study(direction="maximize")
    seen: list[Observation] = []
    while len(seen) < trials:
        asked: list[optuna.Trial] = []
        if method == "surrogate":
            prompts = [space.discrete(Stored(p)) for p in surrogate.suggest(seen, batch, len(seen) + 1)]
        elif method == "random":
            prompts = [space.discrete(Drawn(generator)) for _ in range(batch)]
        else:
            asked = [ask_parameters(study, space, method, seed, len(seen) + k, 16) for k in range(batch)]
            prompts = [space.discrete(Stored(trial.params)) for trial in asked]
        for at, prompt in enumerate(prompts):
            variance = 0.36 / float(noise.choice([16, 64, 192]))
            gain = land.value(prompt) + variance**0.5 * noise.standard_normal()
            seen.append(Observation(prompt, gain, variance))
            if asked:
                study.tell(asked[at], gain)
    return max(land.value(o.prompt) for o in seen)


def test_the_surrogate_finds_better_prompts_than_chance_and_no_worse_ones_than_tpe() -> None:
    found = {method: [best_found(method, seed) for seed in range(4)] for method in ("surrogate", "random", "tpe")}
    means = {method: float(np.mean(values)) for method, values in found.items()}
    assert all(ours > chance for ours, chance in zip(found["surrogate"], found["random"], strict=True))
    assert means["surrogate"] > means["random"] + 0.1
    assert means["surrogate"] >= means["tpe"]


# -- the surrogate: its parts --------------------------------------------------------------------


def test_features_tell_every_part_apart() -> None:
    space = make_space()
    features, base = Features(space, embed), dict.fromkeys(space.choices, 0) | {"demonstrations": 4}
    features.fit([])
    changed = {  # the part that must differ, and those that may
        "instruction": ("instruction", {"shape"}),
        "template": ("template", {"shape"}),
        "words.b": ("words", set()),
        "draw": ("demonstrations", {"shape"}),
        "order": ("demonstrations", set()),
        "selection": ("shape", {"demonstrations"}),
        "calibration": ("settings", set()),
    }
    for name, (part, others) in changed.items():
        pair = [space.discrete(Stored(base)), space.discrete(Stored(base | {name: 1}))]
        rows = features.of(pair)
        differ = {found for found, (one, two) in rows.items() if not np.allclose(one, two)}
        assert set(rows) == set(PARTS)
        assert {part} <= differ <= {part, *others}


def test_texts_that_mean_the_same_are_near_and_others_about_one_apart() -> None:
    space = make_space()
    features = Features(space, embed)
    features.fit([])
    texts = [Prompt("{{ text }}{{ label }}", {"a": "a", "b": "b"}, text) for text in space.instructions[1:]]
    groups = np.array([text[1] for text in space.instructions[1:]])
    own = Features(space, embed)
    own.fit([])
    rows = np.stack([own._text("instruction", prompt.instruction) for prompt in texts])
    distances = cdist(rows, rows)
    same = groups[:, None] == groups[None]
    off = ~np.eye(len(rows), dtype=bool)
    assert distances[same & off].mean() < 0.8 * distances[~same].mean()
    assert 0.8 < (distances[off] ** 2).mean() < 1.3


def test_texts_of_the_space_are_embedded_in_one_call_and_later_ones_one_by_one() -> None:
    calls: list[list[str]] = []

    def counted(texts: Sequence[str]) -> NDArray[np.float32]:
        calls.append(list(texts))
        return embed(texts)

    space = make_space()
    features = Features(space, counted)
    outside = Prompt("{{ text }} new {{ label }}", dict(space.baseline.label_words), "new")
    features.fit([outside, *drawn(space, 10)])
    features.of([outside])
    features.fit([outside])
    assert len(calls[0]) > 40
    assert sorted(text for call in calls[1:] for text in call) == ["new", "{{ text }} new {{ label }}"]
    assert all(len(call) == 1 for call in calls[1:])
    assert "" not in calls[0]


def parts_of(rows: int, seed: int) -> dict[str, NDArray[np.float64]]:
    g = np.random.default_rng(seed)
    return {"one": g.standard_normal((rows, 3)), "two": g.standard_normal((rows, 1)), "still": np.ones((rows, 2))}


def test_the_gradient_of_the_likelihood_is_that_of_its_value() -> None:
    g, parts = np.random.default_rng(1), parts_of(25, 1)
    distances = [cdist(parts[name], parts[name]) * 5**0.5 for name in ("one", "two")]
    targets, noises = g.standard_normal(25), g.uniform(0, 0.5, 25)
    at = g.standard_normal(6) / 2
    error = check_grad(
        lambda x: _likelihood(x, distances, targets, noises)[0],
        lambda x: _likelihood(x, distances, targets, noises)[1],
        at,
    )
    assert error < 1e-4 * np.linalg.norm(_likelihood(at, distances, targets, noises)[1]) + 1e-4


def test_the_part_that_matters_gets_the_amplitude_and_one_that_never_differs_none() -> None:
    parts, g = parts_of(80, 2), np.random.default_rng(2)
    targets = np.sin(2 * parts["two"][:, 0]) + 0.1 * g.standard_normal(80)
    fitted = fit(parts, targets / targets.std(), np.full(80, 0.01))
    assert fitted.parts == ("one", "two")
    assert fitted.amplitudes[1] > 3 * fitted.amplitudes[0]


def test_the_posterior_goes_through_sure_observations_and_ignores_noisy_ones() -> None:
    parts = parts_of(12, 3)
    targets = np.random.default_rng(3).standard_normal(12)
    noises = np.where(np.arange(12) < 10, 0.0, 1e4)
    process = Process(
        Fitted(("one", "two"), np.array([2.0, 1.0]), np.array([0.5, 0.5]), 0.5, 1e-6), parts, targets, noises
    )
    means, variances, _ = process.at(parts)
    assert np.allclose(means[:10], targets[:10], atol=0.01)
    assert np.allclose(process.means, means)
    assert variances[:10].max() < 0.01 < variances[10:].min()


def test_what_is_believed_shrinks_variances_as_an_observation_would() -> None:
    fitted = Fitted(("one", "two"), np.array([1.0, 0.5]), np.array([1.0, 1.0]), 0.3, 0.05)
    parts, others = parts_of(10, 4), parts_of(5, 5)
    targets = np.random.default_rng(4).standard_normal(10)
    process = Process(fitted, parts, targets, np.zeros(10))
    means, variances, halves = process.at(others)
    shared = process.between(others, halves, 2)
    believed = variances - shared**2 / (shared[2] + 0.05)
    both = {part: np.concatenate([rows, others[part][2:3]]) for part, rows in parts.items()}
    again = Process(fitted, both, np.append(targets, means[2]), np.zeros(11)).at(others)
    assert np.allclose(again[0], means, atol=1e-4)
    assert np.allclose(again[1], believed, atol=1e-4)


def test_the_expected_improvement_is_that_of_samples_and_finite_far_below() -> None:
    drawn_values = 0.3 + 0.5 * np.random.default_rng(0).standard_normal(400_000)
    found = log_improvement(np.array([0.3]), np.array([0.25]), 0.6)
    assert np.exp(found[0]) == pytest.approx(np.maximum(drawn_values - 0.6, 0).mean(), rel=0.02)
    low = log_improvement(np.linspace(-60, 0, 601), np.ones(601), 0.0)
    assert np.isfinite(low).all()
    assert (np.diff(low) > 0).all()


def test_parameters_are_found_again_from_the_prompt() -> None:
    space = make_space()
    points, generator = Points(space, 1), random.Random(3)
    for _ in range(60):
        made = points.anywhere(generator)
        assert made is not None
        assert (
            space.discrete(Stored({"draw": 0, "order": 0, "selection": 0} | points.params_of(made.prompt)))
            == made.prompt
        )


def test_prompts_differ_in_identity_as_in_fingerprint() -> None:
    options = DemonstrationSpace(2, 2, 2, ("drawn", "similar"))
    prompts = drawn(make_space(demonstrations=options, label_words={}, instructions=("x", "y")), 300)
    pairs = {(prompt.fingerprint, identity(prompt)) for prompt in prompts}
    assert len({prompt.fingerprint for prompt in prompts}) == len({identity(p) for p in prompts}) == len(pairs) < 300


# -- Optuna's samplers ---------------------------------------------------------------------------


def small() -> Space:
    return make_space(
        demonstrations=DemonstrationSpace(3, 4, 2, ("drawn", "similar")), label_words={"a": ("x", "y"), "b": ("x", "z")}
    )


def searched(name: str, trials: int, startup: int, space: Space | None = None, directions: int = 1) -> optuna.Study:
    """A study with pruned and failed trials, and trials of another branch."""
    space, land = space or small(), Landscape(1)
    study = optuna.create_study(directions=["maximize"] * directions)
    for number in range(trials):
        if number % 6 == 5:
            study.tell(study.ask(), [9.0] * directions)
            continue
        trial = ask_parameters(study, space, name, 3, number, startup)
        try:
            value = land.value(space.discrete(Stored(trial.params)))
        except PromptError:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        if number % 3 == 1:
            if directions == 1:
                trial.report(value, 16)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, [value] * directions)
    return study


@pytest.mark.parametrize("name", OWN)
def test_every_sampler_works_beside_pruned_failed_and_other_trials(name: str, caplog: pytest.LogCaptureFixture) -> None:
    optuna.logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        study = searched(name, 24, startup=16 if name == "gp" else 8)
    optuna.logging.disable_propagation()
    assert not caplog.records
    states = Counter(trial.state.name for trial in study.trials)
    assert states["COMPLETE"] > 8
    assert states["PRUNED"] > 3
    assert {type(value) for trial in study.trials for value in trial.params.values()} == {int}
    again = searched(name, 24, startup=16 if name == "gp" else 8)
    assert [t.params for t in again.trials] == [t.params for t in study.trials]


@pytest.mark.parametrize("name", ["tpe", "nsgaii", "cmaes"])
def test_samplers_learn_what_is_good(name: str) -> None:
    space = make_space(label_words={}, demonstrations=DemonstrationSpace(most=6, draws=1, orders=1), instructions=())
    study = optuna.create_study(direction="maximize")
    for number in range(90):
        trial = ask_parameters(study, space, name, 1, number, 12)
        value = trial.params["demonstrations"] + (trial.params["template"] == 7) + 0.1 * trial.params["calibration"]
        study.tell(trial, float(value))
    shown = [trial.params["demonstrations"] for trial in study.trials]
    assert np.mean(shown[-20:]) > np.mean(shown[:12]) + 1


def test_the_gaussian_process_of_optuna_learns_what_is_good() -> None:
    space = make_space(label_words={}, demonstrations=DemonstrationSpace(most=6, draws=1, orders=1), instructions=())
    study = optuna.create_study(direction="maximize")
    for number in range(16):
        trial = ask_parameters(study, space, "gp", 1, number, 12)
        study.tell(trial, float(trial.params["demonstrations"]))
    assert [trial.params["demonstrations"] for trial in study.trials][-3:] == [6, 6, 6]


def test_the_choices_reach_cmaes_as_integers() -> None:
    study, space = searched("cmaes", 24, startup=8), small()
    told = [trial for trial in study.trials if trial.params]
    assert {type(d) for trial in told for d in trial.distributions.values()} == {optuna.distributions.IntDistribution}
    assert all(trial.params.keys() == space.choices.keys() for trial in told)
    assert all(0 <= v < space.choices[name] for trial in told for name, v in trial.params.items())
    assert any("cmawm:generation" in trial.system_attrs for trial in told)
    assert not any(trial.system_attrs for trial in study.trials if not trial.params)


def test_cmaes_draws_at_random_where_there_is_one_number() -> None:
    space = Space(Prompt("{{ text }}{{ label }}", {"a": "a", "b": "b"}), instructions=("x", "y", "z"))
    study = searched("cmaes", 30, startup=4, space=space)
    assert {trial.params["instruction"] for trial in study.trials if trial.params} == {0, 1, 2}


@pytest.mark.parametrize("name", ["tpe", "nsgaii", "random", "gp"])
def test_several_objectives_are_taken_by_all_but_cmaes(name: str) -> None:
    study = searched(name, 14, startup=8, directions=2)
    assert len([trial for trial in study.trials if trial.params]) > 10


@pytest.mark.parametrize("name", OWN)
def test_samplers_are_seeded_by_seed_and_number(name: str) -> None:
    def first(seed: int, number: int) -> dict[str, Any]:
        return ask_parameters(optuna.create_study(), make_space(), name, seed, number, 4).params

    assert first(1, 5) == first(1, 5)
    assert len({tuple(first(seed, number).items()) for seed in (1, 2) for number in (5, 6)}) == 4


def test_a_sampler_that_is_not_there_is_refused() -> None:
    wording = r"^The sampler is 'tep'; Optuna's are tpe, gp, cmaes, nsgaii, random\. Did you mean 'tpe'\?$"
    with pytest.raises(StudyError, match=wording):
        named_sampler("tep", 1, 1, 1)
    with pytest.raises(StudyError, match=r"^The sampler is 'surrogate'; "):
        named_sampler("surrogate", 1, 1, 1)


# -- branches ------------------------------------------------------------------------------------

Earns = Callable[[str, int, random.Random], float]
NAMES = ("discrete", "edits", "tuning", "words", "rewrite")


def played(earns: Earns, count: int, seed: int = 0, cost: Callable[[str], float] = lambda branch: 1000.0) -> list[str]:
    turns: list[Turn] = []
    luck = random.Random(seed)
    for at in range(count):
        branch = next_branch(NAMES, turns, seed)
        turns.append(Turn(branch, earns(branch, at, luck), cost(branch)))
    return [turn.branch for turn in turns]


def test_each_branch_has_one_turn_first() -> None:
    assert played(lambda branch, at, luck: 1.0 if branch == "discrete" else 0.0, 5) == list(NAMES)


def test_the_branch_that_earns_gets_most_turns() -> None:
    for seed in range(4):
        found = Counter(played(lambda b, at, luck: 0.01 if b == "tuning" else 0.0, 200, seed))
        assert found["tuning"] > 100
        rare = Counter(played(lambda b, at, luck: 0.01 * (luck.random() < (0.4 if b == "words" else 0.03)), 200, seed))
        assert rare.most_common(1)[0][0] == "words"


def test_turns_follow_a_change_of_what_is_good() -> None:
    found = played(lambda b, at, luck: 0.01 if b == ("edits" if at < 100 else "rewrite") else 0.0, 200)
    assert Counter(found[40:100]).most_common(1)[0][0] == "edits"
    assert Counter(found[140:]).most_common(1)[0][0] == "rewrite"


def test_the_cheaper_of_two_equal_branches_gets_more_turns() -> None:
    def earns(branch: str, at: int, luck: random.Random) -> float:
        return 0.01 if branch in ("discrete", "tuning") else 0.0

    found = Counter(played(earns, 300, cost=lambda branch: 10_000.0 if branch == "tuning" else 1000.0))
    assert found["discrete"] > 2 * found["tuning"]


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_no_branch_waits_for_more_than_four_rounds(floor: float) -> None:
    turns: list[Turn] = []
    for _ in range(400):
        branch = next_branch(NAMES, turns, 1, floor)
        turns.append(Turn(branch, 1.0 if branch == "edits" else 0.0, 1.0 if branch == "edits" else 10_000.0))
    for name in NAMES:
        places = [at for at, turn in enumerate(turns) if turn.branch == name]
        assert max(b - a - 1 for a, b in itertools.pairwise([*places, len(turns)])) <= 4 * len(NAMES)


def test_turns_are_spread_evenly_while_nothing_is_earned() -> None:
    found = Counter(played(lambda branch, at, luck: 0.0, 500))
    assert max(found.values()) < 1.5 * min(found.values())


def test_a_branch_depends_on_seed_and_turns_alone() -> None:
    def earns(branch: str, at: int, luck: random.Random) -> float:
        return 0.01 * luck.random()

    assert played(earns, 60, 1) == played(earns, 60, 1)
    assert played(earns, 60, 1) != played(earns, 60, 2)


def test_turns_of_what_is_no_branch_and_turns_for_nothing_do_no_harm() -> None:
    turns = [Turn("baseline", 5.0, 10.0), Turn("a", 0.0, 0.0), Turn("b", -1.0, 0.0)]
    assert next_branch(["a", "b"], turns[:1], 0) == "a"
    assert next_branch(["a", "b"], turns, 0) in {"a", "b"}
    with pytest.raises(StudyError, match=r"^There is no branch to give a turn to; a search needs at least one\.$"):
        next_branch([], turns, 0)


# -- texts as vectors ----------------------------------------------------------------------------

TEXTS = ["Which topic?", "", "The bank raised its rates.", "Is the text good or bad? " * 60, "Which topic?"]


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "bert", "roberta"])
def test_every_family_gives_texts_a_vector(model_folders: dict[str, Path], family: str) -> None:
    model = load_model(str(model_folders[family]))
    found = text_vectors(model, TEXTS)
    assert found.shape == (5, 32)
    assert found.dtype == np.float32
    assert not found[1].any()
    assert np.array_equal(found[0], found[4])
    assert np.linalg.norm(found[0] - found[2]) > 0.1
    alone = np.concatenate([text_vectors(model, [text]) for text in TEXTS])
    assert np.allclose(found, alone, atol=1e-4)


def test_the_vector_of_a_causal_text_is_the_mean_of_its_last_hidden_states(llama_folder: Path) -> None:
    model = load_model(str(llama_folder))
    [ids] = model.ids(["Which topic?"], special=True)
    with torch.inference_mode():
        hidden = model.network.model(input_ids=torch.tensor([ids])).last_hidden_state[0, 1:]  # without <s>
    assert np.allclose(text_vectors(model, ["Which topic?"])[0], hidden.mean(0).numpy(), atol=1e-5)


def test_a_sentence_encoder_gives_its_own_unit_vectors(encoder_folder: Path) -> None:
    model = load_model(str(encoder_folder))
    assert isinstance(model, EncoderModel)
    found = text_vectors(model, TEXTS)
    assert np.allclose(np.linalg.norm(found[[0, 2, 3, 4]], axis=1), 1.0, atol=1e-5)
    assert not found[1].any()
    assert text_vectors(model, [""]).shape == (1, 32)
    assert text_vectors(model, []).shape == (0, 32)


@pytest.mark.parametrize("broken", ["raises", "nan"])
def test_a_network_that_cannot_be_read_gives_input_embeddings(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    model: LanguageModel = load_model(str(llama_folder))

    def forward(self: object, input_ids: torch.Tensor, **other: object) -> Any:
        if broken == "raises":
            raise NotImplementedError("no states here")
        output = type("Output", (), {})()
        output.last_hidden_state = torch.full((*input_ids.shape, 32), torch.nan)
        return output

    monkeypatch.setattr(type(model.network.model), "forward", forward)
    with caplog.at_level(logging.WARNING, logger="autoprompt"):
        found = text_vectors(model, ["Which topic?", ""])
    [ids] = model.ids(["Which topic?"], special=False)
    assert np.allclose(found[0], model.embeddings[list(ids)].mean(0), atol=1e-6)
    assert not found[1].any()
    assert "texts are known by their input embeddings" in caplog.text
