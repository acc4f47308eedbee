"""soft.py and samplers.py: coordinates to vectors, vectors to tokens, and the searches that replay."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from autoprompt.samplers import CoordinateSearch, GivenSampler, named_sampler
from autoprompt.soft import Projection, from_tokens, nearest_tokens, seed_of, start_random, start_vocabulary

EMBEDDINGS = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32) * np.float32(0.02)


# -- seeds -----------------------------------------------------------------------------------


def test_a_seed_depends_on_every_part_and_on_nothing_else() -> None:
    assert seed_of(1, "cma", 3) == seed_of(1, "cma", 3)
    others = [seed_of(1, "cma", 4), seed_of(2, "cma", 3), seed_of(1, "tpe", 3), seed_of(1, "cma3")]
    assert seed_of(1, "cma", 3) not in others
    assert seed_of(12, 3) != seed_of(1, 23)


def test_a_seed_is_the_same_in_every_process() -> None:
    assert seed_of(1, "cma", 3) == 2429956662608856884


@given(st.lists(st.integers() | st.text(), max_size=4))
def test_seeds_have_63_bits(parts: list[int | str]) -> None:
    assert 0 <= seed_of(*parts) < 2**63


# -- coordinates to vectors ------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size", "dimensions"), [(1, 1, 1), (4, 8, 3), (2, 16, 50)])
def test_vectors_have_the_shape_of_their_start(count: int, size: int, dimensions: int) -> None:
    projection = Projection(np.ones((count, size), np.float32), dimensions, 0.02, 1)
    vectors = projection.vectors(np.ones(dimensions))
    assert vectors.shape == (count, size)
    assert vectors.dtype == np.float32


def test_coordinates_of_zero_give_the_start() -> None:
    assert np.array_equal(Projection(EMBEDDINGS[:4], 6, 0.02, 1).vectors(np.zeros(6)), EMBEDDINGS[:4])


def test_the_projection_is_drawn_from_its_seed() -> None:
    z = np.arange(6.0)
    first, again, other = (Projection(EMBEDDINGS[:4], 6, 0.02, seed).vectors(z) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_the_projection_is_linear() -> None:
    projection = Projection(EMBEDDINGS[:4], 6, 0.02, 1)
    a, b = np.random.default_rng(1).standard_normal((2, 6))
    moved = projection.vectors(a) + projection.vectors(b) - projection.start
    assert projection.vectors(a + b) == pytest.approx(moved, abs=1e-6)


def test_coordinates_of_unit_deviation_move_a_vector_by_the_deviation() -> None:
    projection = Projection(np.zeros((40, 64), np.float32), 200, 0.5, 3)
    moved = projection.vectors(np.random.default_rng(2).standard_normal(200))
    assert moved.std() == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("shape", [(5,), (7,), (6, 1), ()])
def test_coordinates_of_another_number_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^coordinates have shape \(.*\), expected \(6,\)$"):
        Projection(EMBEDDINGS[:4], 6, 0.02, 1).vectors(np.zeros(shape))


# -- starts and nearest tokens ---------------------------------------------------------------


def test_starts_are_drawn_from_their_seed() -> None:
    for start in (start_random, start_vocabulary):
        assert np.array_equal(start(EMBEDDINGS, 5, 1), start(EMBEDDINGS, 5, 1))
        assert not np.array_equal(start(EMBEDDINGS, 5, 1), start(EMBEDDINGS, 5, 2))
        assert start(EMBEDDINGS, 5, 1).shape == (5, 16)
        assert start(EMBEDDINGS, 5, 1).dtype == np.float32


def test_a_random_start_has_the_mean_and_deviation_of_each_dimension() -> None:
    uneven = EMBEDDINGS * np.arange(1, 17, dtype=np.float32) + np.arange(16, dtype=np.float32)
    drawn = start_random(uneven, 4000, 1)
    assert drawn.mean(0) == pytest.approx(uneven.mean(0), abs=0.05)
    assert drawn.std(0) == pytest.approx(uneven.std(0), rel=0.1)


def test_a_vocabulary_start_is_made_of_embeddings() -> None:
    start = start_vocabulary(EMBEDDINGS, 5, 1)
    assert all(any(np.array_equal(vector, row) for row in EMBEDDINGS) for vector in start)


@pytest.mark.parametrize(("count", "rows"), [(2, [7, 3]), (3, [7, 3, 9]), (7, [7, 3, 9, 7, 3, 9, 7])])
def test_tokens_are_repeated_or_cut(count: int, rows: list[int]) -> None:
    assert np.array_equal(from_tokens(EMBEDDINGS, [7, 3, 9], count), EMBEDDINGS[rows])


def test_no_tokens_cannot_start_vectors() -> None:
    with pytest.raises(ValueError, match=r"^no tokens to start the vectors from$"):
        from_tokens(EMBEDDINGS, [], 3)


def test_the_nearest_token_of_an_embedding_is_the_token_itself() -> None:
    assert nearest_tokens(EMBEDDINGS, EMBEDDINGS) == list(range(50))


def test_the_nearest_token_does_not_depend_on_length() -> None:
    assert nearest_tokens(EMBEDDINGS[[4, 8]] * np.float32(1000), EMBEDDINGS * np.float32(3)) == [4, 8]


def test_a_token_without_length_is_never_nearest() -> None:
    embeddings = EMBEDDINGS.copy()
    embeddings[0] = 0
    assert 0 not in nearest_tokens(EMBEDDINGS, embeddings)


# -- search by coordinates -------------------------------------------------------------------

CENTRE = np.array([0.7, -0.4, 1.1, 0.2])


def sphere(point: NDArray[np.float64]) -> float:
    return float(((point - CENTRE) ** 2).sum())


def searched(generations: int, seed: int = 1) -> list[list[float]]:
    search, told = CoordinateSearch(4, 8, 0.5, seed), list[list[float]]()
    for _ in range(generations):
        told.append([sphere(point) for point in search.candidates(told)])
    return told


def test_a_generation_has_as_many_points_as_the_population() -> None:
    points = CoordinateSearch(4, 6, 0.5, 1).candidates([])
    assert [point.shape for point in points] == [(4,)] * 6
    assert len({point.tobytes() for point in points}) == 6


def test_a_search_replays_to_the_same_candidates() -> None:
    told = searched(6)
    search = CoordinateSearch(4, 8, 0.5, 1)
    for number in range(7):
        first, second = search.candidates(told[:number]), CoordinateSearch(4, 8, 0.5, 1).candidates(told[:number])
        assert np.array_equal(first, second)


def test_asking_twice_changes_nothing() -> None:
    search = CoordinateSearch(4, 8, 0.5, 1)
    assert np.array_equal(search.candidates([]), search.candidates([]))


def test_another_seed_gives_other_candidates() -> None:
    first, second = (CoordinateSearch(4, 8, 0.5, seed).candidates([]) for seed in (1, 2))
    assert not np.allclose(first, second)


def test_a_search_improves_on_a_sphere() -> None:
    told = searched(30)
    assert min(told[-1]) < 0.01 < np.mean(told[0]) / 10


def test_a_loss_that_is_not_known_counts_as_the_worst() -> None:
    losses: list[float | None] = [3.0, None, 1.0, 2.0, None, 5.0, 4.0, 0.5]
    as_worst = [5.0 if loss is None else loss for loss in losses]
    search = CoordinateSearch(4, 8, 0.5, 1)
    assert np.array_equal(search.candidates([losses]), search.candidates([as_worst]))
    as_best = [0.0 if loss is None else loss for loss in losses]
    assert not np.array_equal(search.candidates([losses]), search.candidates([as_best]))


def test_a_generation_that_failed_whole_is_survived() -> None:
    points = CoordinateSearch(4, 8, 0.5, 1).candidates([[None] * 8, searched(1)[0]])
    assert np.isfinite(points).all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=5, max_size=5), max_size=8),
    st.integers(0, 2**63 - 1),
)
def test_any_losses_give_finite_candidates(told: list[list[float | None]], seed: int) -> None:
    points = CoordinateSearch(3, 5, 0.5, seed).candidates(told)
    assert np.isfinite(points).all()


# -- optuna samplers -------------------------------------------------------------------------


def finished(count: int) -> optuna.Study:
    """A study with `count` finished trials that prefer "a" = 2."""
    study = optuna.create_study(direction="maximize")
    distribution = optuna.distributions.CategoricalDistribution(list(range(4)))
    for number in range(count):
        a, b = number % 4, (number * 7 // 3) % 4
        study.add_trial(
            optuna.trial.create_trial(
                params={"a": a, "b": b},
                distributions={"a": distribution, "b": distribution},
                value=float(a == 2) + 0.1 * b,
            )
        )
    return study


def suggested(seed: int, number: int, trials: int = 20) -> tuple[int, ...]:
    study = finished(trials)
    study.sampler = named_sampler("tpe", seed, number, startup=5)
    trial = study.ask()
    return tuple(trial.suggest_categorical(name, list(range(4))) for name in "abcdefgh")


def test_the_same_seed_and_number_suggest_the_same() -> None:
    assert [suggested(1, n) for n in range(4)] == [suggested(1, n) for n in range(4)]


def test_another_seed_or_number_suggests_something_else() -> None:
    assert len({suggested(seed, number) for seed in (1, 2) for number in range(4)}) == 8


def test_suggestions_learn_from_finished_trials() -> None:
    found = [suggested(1, number, trials=40)[0] for number in range(30)]
    assert found.count(2) > 12  # by chance 7.5


def test_the_first_trials_are_random() -> None:
    found = [suggested(1, number, trials=0)[0] for number in range(60)]
    assert {found.count(choice) for choice in range(4)} <= set(range(5, 28))


def test_given_parameters_are_suggested_as_they_are() -> None:
    study = optuna.create_study(sampler=GivenSampler({"a": 3, "n": 7}))
    trial = study.ask()
    assert trial.suggest_categorical("a", list(range(4))) == 3
    assert trial.suggest_int("n", 0, 9) == 7
    study.tell(trial, 1.0)
    [stored] = study.trials
    assert isinstance(stored, FrozenTrial)
    assert (stored.state, stored.params) == (TrialState.COMPLETE, {"a": 3, "n": 7})


def test_a_parameter_that_was_not_given_is_an_error() -> None:
    trial = optuna.create_study(sampler=GivenSampler({"a": 3})).ask()
    with pytest.raises(KeyError, match=r"^'b'$"):
        trial.suggest_categorical("b", list(range(4)))
