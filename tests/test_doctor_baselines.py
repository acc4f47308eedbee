"""doctor/: the baselines that a search must beat, and the linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from autoprompt.data import Example
from autoprompt.doctor.baselines import BASELINES, Baseline, automatic_baselines, strongest
from autoprompt.doctor.probe import Embeddings, Floats, Probe, _fitted, _Frame, cross_fitted
from autoprompt.metrics import Metric
from autoprompt.metrics.builtin import accuracy, log_loss, macro_f1
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.space import DemonstrationSpace, Space

OWN = Prompt("{{ text }}\nTopic: {{ label }}", {"sports": "sports", "money": "money", "weather": "film"})
FAMILIES = ("llama", "t5", "bert", "encoder")
SHOWN = ("random demonstrations", "nearest demonstrations")


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path], encoder_folder: Path) -> dict[str, LanguageModel]:
    """A small model of each family."""
    return {name: load_model(str({**model_folders, "encoder": encoder_folder}[name])) for name in FAMILIES}


@pytest.fixture(scope="module")
def rows(topics_rows: list[dict[str, str]]) -> list[Example]:
    return [Example(at, {"text": row["text"]}, row["topic"]) for at, row in enumerate(topics_rows)]


def made(
    model: LanguageModel, rows: Sequence[Example], judge: Metric = accuracy, seed: int = 1, **parts: Any
) -> tuple[Scorer, list[Baseline]]:
    """The baselines of a space, trained on the last rows; dev is the first 21."""
    names = parts.pop("names", BASELINES)
    scorer, space = Scorer(model, judge), Space(parts.pop("own", OWN), **parts)
    return scorer, automatic_baselines(scorer, space, rows[21:], rows[:21], seed, names)


def one(model: LanguageModel, rows: Sequence[Example], name: str, **parts: Any) -> Baseline:
    [found] = made(model, rows, names=[name], **parts)[1]
    return found


# -- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_baselines(family: str, loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    shown: dict[str, Any] = {
        "demonstrations": DemonstrationSpace(2),
        "pool": tuple(rows[21:]),
        "instructions": ("", "Which topic?"),
    }
    scorer, found = made(loaded[family], rows, **shown)
    expected = [name for name in BASELINES if family != "encoder" or name not in SHOWN]
    assert [baseline.name for baseline in found] == expected
    again = made(loaded[family], rows, **shown)[1]
    assert [(b.value, b.text, b.prompt, b.tokens) for b in found] == [
        (b.value, b.text, b.prompt, b.tokens) for b in again
    ]
    for baseline in found:
        assert baseline.value == accuracy(baseline.predictions)
        answered = baseline.outcome_on(scorer, rows[:21])
        np.testing.assert_allclose(answered.probabilities, baseline.predictions.probabilities, atol=1e-6)
        np.testing.assert_allclose(answered.probabilities.sum(1), 1, atol=1e-9)
        assert (baseline.tokens == 0) == (baseline.name == "majority class")
        assert baseline.event().name == baseline.name
        other = baseline.outcome_on(scorer, rows[21:25])  # as on the locked test
        assert (other.targets, other.labels) == (tuple(e.label for e in rows[21:25]), OWN.labels)


def test_only_the_named_ones_are_made(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    found = made(loaded["llama"], rows, names=["linear probe", "majority class"])[1]
    assert [baseline.name for baseline in found] == ["majority class", "linear probe"]


def test_the_strongest_is_best_in_the_metrics_direction(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    found = made(loaded["bert"], rows, judge=log_loss, names=["majority class", "calibrated", "linear probe"])[1]
    assert strongest(found, log_loss) is min(found, key=lambda b: b.value)
    assert strongest(found, accuracy) is max(found, key=lambda b: b.value)


def test_of_equally_strong_baselines_the_first_is_taken(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    first = one(loaded["llama"], rows, "majority class")
    assert strongest([first, replace(first, name="other")], accuracy) is first
    assert strongest([], accuracy) is None


def test_a_metric_of_the_whole_set_judges_baselines(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    found = one(loaded["llama"], rows, "majority class", judge=macro_f1)
    assert found.value == pytest.approx((2 * 7 / (7 + 21)) / 3)


# -- each of them ----------------------------------------------------------------------------


def test_the_majority_is_that_of_train(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    train = [e for e in rows[21:] if e.label != "weather"][:9] + [e for e in rows[21:] if e.label == "weather"]
    found = one(loaded["llama"], [*rows[:21], *train], "majority class", judge=log_loss)
    assert found.text == "always 'weather'"
    counts = np.array([sum(e.label == label for e in train) for label in OWN.labels])
    np.testing.assert_allclose(found.predictions.probabilities[0], counts / counts.sum())
    assert found.prompt is None


def test_a_tie_of_classes_goes_to_the_first_label(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    assert one(loaded["llama"], rows, "majority class").text == "always 'sports'"


def test_the_best_starting_prompt_differs_from_the_users_in_one_part(
    loaded: dict[str, LanguageModel], rows: list[Example]
) -> None:
    templates = (OWN.template, "{{ text }} It is about {{ label }}", "{{ text }} {{ nothing }} {{ label }}")
    found = one(loaded["llama"], rows, "best starting prompt", templates=templates, instructions=("", "Which topic?"))
    prompts = [OWN, replace(OWN, template=templates[1]), replace(OWN, instruction="Which topic?")]
    values = [score.value for score in Scorer(loaded["llama"], accuracy).score(prompts, rows[:21])]
    assert found.value == max(values)
    assert found.prompt in prompts
    assert found.text.endswith(", of 4")  # the template that cannot be shown is among them, and left out


def test_many_starting_prompts_are_not_all_read_on_all_of_dev(
    loaded: dict[str, LanguageModel], rows: list[Example]
) -> None:
    dev = [*rows, *(replace(e, fields={"text": f"{e.fields['text']} Yes."}) for e in rows)]
    instructions = ("", *(f"Topic number {n}?" for n in range(20)))
    scorer = Scorer(loaded["llama"], accuracy)
    space = Space(OWN, instructions=instructions)
    [found] = automatic_baselines(scorer, space, rows, dev, 1, ["best starting prompt"])
    read = [len(known) for known in scorer._known.values()]
    assert sorted(read) == [32] * 14 + [96] * 4 + [120] * 3
    assert len(found.predictions.targets) == 120
    assert found.tokens > scorer.work(OWN if found.prompt is None else found.prompt, dev)


def test_a_space_without_anything_to_try_starts_with_the_users_own(
    loaded: dict[str, LanguageModel], rows: list[Example]
) -> None:
    found = one(loaded["bert"], rows, "best starting prompt")
    assert (found.prompt, found.text) == (OWN, "your own, of 1")


def test_random_demonstrations_are_the_median_draw(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    pool = tuple(rows[21:])
    found = one(loaded["llama"], rows, "random demonstrations", demonstrations=DemonstrationSpace(3), pool=pool)
    assert found.prompt is not None
    shown = found.prompt.demonstrations
    assert sorted(d.label for d in shown) == sorted(OWN.labels)  # each class in turn
    assert {d.fields["text"] for d in shown} <= {e.fields["text"] for e in pool}
    low, high = (float(text) for text in found.text.partition("(")[2].rstrip(")").split(" to "))
    assert low <= round(found.value, 4) <= high
    other = one(loaded["llama"], rows, "random demonstrations", seed=2)
    assert other.prompt != found.prompt


def test_a_space_without_demonstrations_is_shown_four(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    found = one(loaded["llama"], rows, "nearest demonstrations")
    assert found.prompt is not None
    assert found.prompt.retrieval is not None
    assert found.prompt.retrieval.number == 4
    assert found.text == "4 examples most like the input"


def test_fewer_are_shown_where_they_leave_no_room(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    long = [replace(e, fields={"text": e.fields["text"] + " and so on" * 6}) for e in rows]
    shown: dict[str, Any] = {"demonstrations": DemonstrationSpace(8), "pool": tuple(long[21:])}
    found = one(loaded["llama"], long, "random demonstrations", **shown)
    assert found.prompt is not None
    assert len(found.prompt.demonstrations) in (1, 2, 4)
    endless = [replace(e, fields={"text": e.fields["text"] + " and so on" * 90}) for e in rows]
    shown = {"demonstrations": DemonstrationSpace(8), "pool": tuple(endless[21:])}
    assert made(loaded["llama"], endless, names=SHOWN, **shown)[1] == []


def test_one_training_example_is_the_only_demonstration(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    found = made(loaded["llama"], rows[:22])[1]
    by_name = {baseline.name: baseline for baseline in found}
    assert "linear probe" not in by_name  # there is one class
    prompt = by_name["random demonstrations"].prompt
    assert prompt is not None
    assert [d.fields for d in prompt.demonstrations] == [rows[21].fields]


def test_what_is_calibrated_is_not_calibrated_again(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    found = one(loaded["bert"], rows, "calibrated")
    assert found.prompt == replace(OWN, calibration="content_free")
    assert made(loaded["bert"], rows, names=["calibrated"], own=found.prompt)[1] == []


# -- the probe -------------------------------------------------------------------------------


def clusters(count: int, classes: int, size: int, seed: int = 0, spread: float = 1.0) -> tuple[Floats, Any]:
    """Vectors around a centre for each class, with one number that is far greater than all others."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((classes, size))
    gold = np.arange(count) % classes
    vectors = centres[gold] + spread * generator.standard_normal((count, size))
    vectors[:, 0] = 500 + 20 * generator.standard_normal(count)
    return vectors, gold


@pytest.mark.parametrize(("count", "classes", "size"), [(90, 3, 12), (40, 2, 60)])
def test_the_regression_is_the_one_that_scikit_learn_finds(count: int, classes: int, size: int) -> None:
    rows, gold = clusters(count, classes, size)
    frame = _Frame.of(rows)
    places = frame.coordinates(rows)
    weights, biases = _fitted(places, gold, classes, frame.squares, [0.3])[0]
    own = places @ weights + biases
    theirs = LogisticRegression(C=1 / 0.3, tol=1e-10, max_iter=5000).fit(places, gold)
    if classes == 2:  # there one row of weights, here two of half the length, and half the penalty
        weights, biases = _fitted(places, gold, classes, frame.squares, [0.6])[0]
        own = places @ weights + biases
        np.testing.assert_allclose(own[:, 1] - own[:, 0], theirs.decision_function(places), atol=0.02)
    else:
        expected = theirs.decision_function(places)
        np.testing.assert_allclose(
            own - own.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=0.02
        )


def test_the_axes_hold_all_that_the_rows_differ_by() -> None:
    rows, _ = clusters(30, 3, 50)
    frame = _Frame.of(rows)
    places = frame.coordinates(rows)
    np.testing.assert_allclose(places.T @ places, np.diag(frame.squares), atol=1e-8)
    assert (places**2).sum() / len(rows) == pytest.approx(1)


def test_the_probe_finds_classes_that_are_apart() -> None:
    rows, gold = clusters(200, 4, 32, spread=0.7)
    probe = Probe.of(rows[:100], gold[:100], 4, seed=0)
    assert (probe.probabilities(rows[100:]).argmax(1) == gold[100:]).mean() > 0.9


def test_out_of_fold_noise_is_not_learned() -> None:
    generator = np.random.default_rng(1)
    rows, gold = generator.standard_normal((120, 40)), np.arange(120) % 3
    penalty, found = cross_fitted(rows, gold, 3, seed=0)
    assert penalty == 3.0  # the strongest
    assert (found.argmax(1) == gold).mean() < 0.5
    assert -np.log(found[np.arange(120), gold]).mean() < 1.3  # log 3 is 1.1


def test_out_of_fold_probabilities_are_the_same_for_the_same_seed() -> None:
    rows, gold = clusters(60, 3, 8)
    first, second, other = (cross_fitted(rows, gold, 3, seed)[1] for seed in (1, 1, 2))
    assert (first == second).all()
    assert not (first == other).all()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_few_rows_have_probabilities_too(count: int) -> None:
    rows, gold = clusters(count, 3, 8)
    found = cross_fitted(rows, gold, 3, seed=0)[1]
    assert found.shape == (count, 3)
    np.testing.assert_allclose(found.sum(1), 1)


def test_a_class_without_rows_is_never_the_answer() -> None:
    rows, gold = clusters(40, 2, 8)
    found = Probe.of(rows, gold * 2, 4, seed=0).probabilities(rows)  # classes 0 and 2 of 4
    assert found[:, [1, 3]].max() < 1e-9
    np.testing.assert_allclose(found.sum(1), 1)


def test_embeddings_that_are_all_the_same_give_the_shares_of_the_classes() -> None:
    gold = np.array([0, 0, 0, 1])
    found = Probe.of(np.ones((4, 5)), gold, 2, seed=0).probabilities(np.ones((2, 5)))
    np.testing.assert_allclose(found, [[0.75, 0.25]] * 2, atol=0.01)


def test_texts_of_any_length_and_script_are_embedded(loaded: dict[str, LanguageModel]) -> None:
    texts = ["", "z", "日本語 " * 400, "é́\u202e👩‍👩‍👧 ok", "word " * 3000]
    examples = [Example(at, {"text": text}, "sports") for at, text in enumerate(texts)]
    for family in FAMILIES:
        found = Embeddings(Scorer(loaded[family], accuracy), OWN).of(examples)
        assert found.shape == (5, 32)
        assert np.isfinite(found).all()
