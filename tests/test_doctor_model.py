"""doctor/: what of it needs the model: the noise floor, suspicious labels, the context window."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprompt.data import DataOptions, Example, read_splits
from autoprompt.demonstrations import Demonstration
from autoprompt.doctor.labels import contradicted, suspicious_labels
from autoprompt.doctor.noise import _compared, noise_floor
from autoprompt.doctor.probe import Embeddings
from autoprompt.doctor.window import context_window
from autoprompt.engine import Checked, Engine, Request, ScoreMemory
from autoprompt.errors import MetricError, PromptError
from autoprompt.events import Finding
from autoprompt.metrics import Metric, metric
from autoprompt.metrics.builtin import accuracy, log_loss, macro_f1
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.space import DemonstrationSpace, Space

SUPPORT = Path(__file__).parents[1] / "search_spaces" / "support.jsonl"
OWN = Prompt("{{ text }}\nTopic: {{ label }}", {"sports": "sports", "money": "money", "weather": "film"})
FAMILIES = ("llama", "t5", "bert", "encoder")


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path], encoder_folder: Path) -> dict[str, LanguageModel]:
    """A small model of each family."""
    return {name: load_model(str({**model_folders, "encoder": encoder_folder}[name])) for name in FAMILIES}


@pytest.fixture(scope="module")
def rows(topics_rows: list[dict[str, str]]) -> list[Example]:
    return [Example(at, {"text": row["text"]}, row["topic"]) for at, row in enumerate(topics_rows)]


def scorer_of(model: LanguageModel, judge: Metric = accuracy, **options: Any) -> Scorer:
    return Scorer(model, judge, **options)


# -- the noise floor -------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_no_way_of_computing_moves_a_label_by_more_than_the_law_allows(
    family: str, loaded: dict[str, LanguageModel], rows: list[Example]
) -> None:
    scorer = scorer_of(loaded[family], batch_tokens=512)
    found = noise_floor(scorer, OWN, rows, seed=3)
    details = found.details
    assert json.loads(json.dumps(details)) == details
    assert (found.check, found.level) == ("noise", "fine")
    assert 0 < details["log_probability"] < 1e-4 / scorer.model.temperature
    assert details["changed"] == 0
    assert details["low"] == details["high"] == scorer.score([OWN], rows)[0].value
    assert f"{details['low']:.4f} to {details['high']:.4f}" in found.message
    assert details["tokens"] == sum_of_ways(details) > 0
    assert "eager attention" in details["ways"]
    assert ("nothing shared" in details["ways"]) == (family != "encoder")
    kernels = {p.config._attn_implementation for p in scorer.model.network.modules() if hasattr(p, "config")}
    assert kernels == {"sdpa"}


def sum_of_ways(details: dict[str, Any]) -> int:
    assert all(way["changed"] == 0 and way["value"] == details["low"] for way in details["ways"].values())
    return int(details["tokens"])


def test_half_precision_is_noisier(llama_folder: Path, rows: list[Example]) -> None:
    model = load_model(str(llama_folder), dtype="bfloat16")
    found = noise_floor(scorer_of(model), OWN, rows, seed=3)
    assert found.details["log_probability"] > 1e-3
    assert found.details["near"] > 0
    assert found.details["floor"] >= 0.5 / 60
    assert f"no gain below {found.details['floor']:.4f} is one" in found.message


def test_the_noise_is_the_same_for_the_same_seed(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    first, second = (noise_floor(scorer_of(loaded["llama"]), OWN, rows, seed=5) for _ in range(2))
    assert first == second


def test_the_memory_of_scores_is_not_asked(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    memory = ScoreMemory(None, "noise")
    scorer = scorer_of(loaded["llama"], memory=memory)
    [encoding] = scorer.encode(OWN, [dict(rows[0].fields)])
    request = Request(encoding.context, encoding.choices, encoding.tail)
    scores = Engine(scorer.model).score([request])[0]
    worst = np.full(3, -50.0)
    worst[scores.argmin()] = -1.0
    memory.put({memory.key(request): worst})
    found = noise_floor(scorer, OWN, rows[:12], seed=0)
    assert found.level == "warning"
    assert found.details["changed"] == 1
    assert all(way["changed"] == 1 for way in found.details["ways"].values())
    assert "1 of 12 predictions change" in found.message


def test_a_prediction_within_the_noise_makes_the_floor_half_an_example(loaded: dict[str, LanguageModel]) -> None:
    usual = np.array([[0.0, -1e-6, -4.0], [-3.0, 0.0, -3.0]])
    other = usual + np.array([[1e-6, 0.0, 0.0], [0.0, 0.0, 0.0]])
    scorer = scorer_of(loaded["llama"])
    details = _compared(scorer, ["sports", "money"], OWN.labels, usual, {"small batches": other})
    assert (details["near"], details["changed"], details["floor"]) == (1, 0, 0.25)
    wrong_both = _compared(scorer, ["weather", "money"], OWN.labels, usual, {"small batches": other})
    assert wrong_both["floor"] == 0  # from one wrong answer to another


def test_a_changed_prediction_is_part_of_the_floor(loaded: dict[str, LanguageModel]) -> None:
    usual = np.array([[0.0, -1e-6], [-3.0, 0.0]])
    details = _compared(scorer_of(loaded["llama"]), ["a", "b"], ("a", "b"), usual, {"w": usual - [[1e-5, 0], [0, 0]]})
    assert (details["changed"], details["low"], details["high"], details["floor"]) == (1, 0.5, 1.0, 0.5)


@pytest.mark.parametrize("judge", [log_loss, macro_f1])
def test_metrics_that_are_no_shares_have_a_floor_too(
    judge: Metric, loaded: dict[str, LanguageModel], rows: list[Example]
) -> None:
    details = noise_floor(scorer_of(loaded["llama"], judge), OWN, rows[:9], 1).details
    assert details["floor"] == pytest.approx(details["high"] - details["low"])
    assert (details["floor"] > 0) == (judge is log_loss)


def test_one_example_has_a_noise_floor(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    details = noise_floor(scorer_of(loaded["bert"]), OWN, rows[:1], 1).details
    assert (details["examples"], details["again"]) == (1, 1)


def test_an_engine_of_another_make_is_tried_in_batches_and_orders_alone(
    loaded: dict[str, LanguageModel], rows: list[Example]
) -> None:
    class Plain:
        def score(self, requests: Sequence[Request]) -> list[list[float]]:
            return [found.tolist() for found in Engine(loaded["llama"], share=False).score(requests)]

    scorer = scorer_of(loaded["llama"], other=Checked("plain", Plain(), loaded["llama"]))
    found = noise_floor(scorer, OWN, rows[:9], 0)
    assert list(found.details["ways"]) == ["the same again", "small batches", "another order"]


def test_what_stops_a_run_stops_the_doctor(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    scorer = scorer_of(loaded["llama"])
    scorer.score([OWN], rows[:9])

    def stop() -> None:
        raise KeyboardInterrupt("asked to stop")

    scorer.engine.check = stop
    with pytest.raises(KeyboardInterrupt, match="asked to stop"):
        noise_floor(scorer, OWN, rows[:9], 0)
    assert scorer.model.network.config._attn_implementation == "sdpa"


def test_a_metric_that_breaks_is_said_by_the_noise_floor(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    @metric
    def broken(targets: list[str]) -> float:
        return float("nan")

    with pytest.raises(MetricError, match="'broken' returned NaN or infinity"):
        noise_floor(scorer_of(loaded["llama"], broken), OWN, rows[:9], 0)


# -- suspicious labels -----------------------------------------------------------------------


def test_a_label_is_contradicted_where_another_one_reaches_its_usual_probability() -> None:
    gold = np.array([0, 0, 0, 1, 1, 1])
    sure = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]]
    assert contradicted(np.array(sure), gold).tolist() == [-1, -1, 1, -1, -1, -1]


def test_a_prompt_that_says_the_same_of_all_contradicts_nothing() -> None:
    assert set(contradicted(np.full((6, 3), 1 / 3), np.array([0, 0, 1, 1, 2, 2])).tolist()) == {-1}


def test_a_label_that_no_example_bears_contradicts_nothing() -> None:
    probabilities = np.array([[0.2, 0.1, 0.7], [0.1, 0.2, 0.7]])
    assert contradicted(probabilities, np.array([0, 1])).tolist() == [-1, -1]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_doubt_labels(family: str, loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    splits = {"train": rows[:36], "dev": rows[36:]}
    found = [suspicious_labels(scorer_of(loaded[family]), OWN, splits, seed=2) for _ in range(2)]
    assert found[0] == found[1]
    assert json.loads(json.dumps(found[0].details)) == found[0].details
    details = found[0].details
    assert (details["examined"], details["skipped"]) == (60, 0)
    assert details["tokens"] > 0
    for one in details["examples"]:
        assert splits[one["split"]][one["number"] - 36 * (one["split"] == "dev")].label == one["label"] != one["likely"]


@pytest.mark.model
def test_labels_that_were_swapped_are_named_first() -> None:
    options = DataOptions(label="team", file=SUPPORT)
    splits = read_splits(options, seed=7)
    labels = splits.labels
    generator = random.Random(4)
    wrong = set(generator.sample(range(200), 12))
    train = [
        replace(e, label=generator.choice([x for x in labels if x != e.label])) if at in wrong else e
        for at, e in enumerate(splits.train[:200])
    ]
    prompt = Prompt("{{ text }}\nLabel: {{ label }}", {label: label for label in labels}, "Sort the message.")
    found = suspicious_labels(scorer_of(load_model("builtin")), prompt, {"train": train, "dev": splits.dev[:100]}, 1)
    named = [one["number"] for one in found.details["examples"] if one["split"] == "train"]
    right = [number in {train[at].number for at in wrong} for number in named]
    assert found.level == "warning"
    assert right[0]
    assert sum(right) >= max(3, 0.7 * len(right))
    assert f"train {named[0]}" in found.message


def test_labels_with_few_examples_are_not_doubted(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    some = [e for e in rows if e.label != "weather"][:20] + [e for e in rows if e.label == "weather"][:2]
    details = suspicious_labels(scorer_of(loaded["llama"]), OWN, {"train": some, "dev": []}, 0).details
    assert details["skipped"] == 2
    assert "weather" not in {one["label"] for one in details["examples"]}


@pytest.mark.parametrize("count", [0, 1, 6])
def test_too_few_examples_are_no_reason_to_doubt(
    count: int, loaded: dict[str, LanguageModel], rows: list[Example]
) -> None:
    found = suspicious_labels(scorer_of(loaded["llama"]), OWN, {"train": rows[:count], "dev": []}, 0)
    assert (found.level, found.details["suspicious"]) == ("fine", 0)
    assert found.message == f"{count} examples are too few to doubt a label."


def test_a_list_that_was_embedded_is_not_read_again(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    scorer = scorer_of(loaded["bert"])
    embeddings = Embeddings(scorer, OWN)
    first, tokens = embeddings.of(rows), scorer.tokens
    assert embeddings.of(list(rows)) is first
    assert scorer.tokens == tokens == embeddings.tokens > 0


# -- the context window ----------------------------------------------------------------------


def lengths(model: LanguageModel, prompt: Prompt, examples: Sequence[Example], **parts: Any) -> Finding:
    return context_window(scorer_of(model), Space(prompt, **parts), {"train": examples[:-2], "dev": examples[-2:]})


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_said_to_be_shortened_is_what_scoring_shortens(
    family: str, loaded: dict[str, LanguageModel], rows: list[Example]
) -> None:
    long = [
        replace(e, fields={"text": f"{e.fields['text']} {'über 日本 ' * (10 * at)}"}) for at, e in enumerate(rows[:8])
    ]
    found = lengths(loaded[family], OWN, long)
    scorer = scorer_of(loaded[family])
    scorer.score([OWN], long)
    assert found.details["shortened"] == len(scorer.truncated) > 0
    assert found.details["by_split"]["dev"] == 2
    assert found.details["longest"] > found.details["window"] >= 126
    assert found.level == "problem"
    assert "are cut at their end to fit" in found.message


@pytest.mark.parametrize("family", FAMILIES)
def test_short_examples_fit(family: str, loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    found = lengths(loaded[family], OWN, rows[:20])
    details = found.details
    assert (found.level, details["shortened"], details["demonstrations"]) == ("fine", 0, {})
    assert details["prompt"] < details["median"] <= details["p95"] <= details["longest"] <= details["window"]
    assert "none is cut" in found.message


def test_one_long_example_of_many_is_a_warning(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    found = lengths(loaded["llama"], OWN, [replace(rows[0], fields={"text": "word " * 200}), *rows[1:30]])
    assert (found.level, found.details["shortened"]) == ("warning", 1)
    assert "1 (3 %) are cut" in found.message


def test_a_prompt_that_fills_the_window_is_a_problem(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    found = lengths(loaded["llama"], replace(OWN, instruction="Say what it is about. " * 30), rows[:5])
    assert found.level == "problem"
    assert found.message.startswith("Your prompt without an input takes ")
    assert found.message.endswith("and the model reads 160. Shorten it.")


@pytest.mark.parametrize("selection", ["drawn", "similar"])
def test_the_most_demonstrations_are_measured(
    selection: Any, loaded: dict[str, LanguageModel], rows: list[Example]
) -> None:
    shown = DemonstrationSpace(12, 4, 1, (selection,))
    found = lengths(loaded["llama"], OWN, rows[:20], demonstrations=shown, pool=tuple(rows[20:]))
    assert json.loads(json.dumps(found.details)) == found.details
    shares = found.details["demonstrations"]
    assert shares["share"] == 1
    assert 0 < shares["fit"] < 12
    assert found.level == "warning"
    assert f"With 12 demonstrations 100 % are cut; {shares['fit']} fit beside most inputs." in found.message
    few = DemonstrationSpace(shares["fit"], 4, 1, (selection,))
    fits = lengths(loaded["llama"], OWN, rows[:20], demonstrations=few, pool=tuple(rows[20:]))
    assert fits.details["demonstrations"]["share"] < 0.5


def test_a_model_without_a_limit_shortens_nothing(t5_folder: Path, rows: list[Example]) -> None:
    model = load_model(str(t5_folder))
    model.tokenizer.model_max_length = 10**30
    found = lengths(model, OWN, [replace(rows[0], fields={"text": "word " * 400}), *rows[1:9]])
    assert (found.level, found.details["window"], found.details["shortened"]) == ("fine", None, 0)
    assert found.message.startswith("The model names no limit of tokens; the longest of 9 examples takes ")


def test_no_examples_are_measured_without_complaint(loaded: dict[str, LanguageModel]) -> None:
    found = context_window(scorer_of(loaded["llama"]), Space(OWN), {"train": [], "dev": []})
    assert (found.level, found.details["examined"]) == ("fine", 0)


def test_demonstrations_of_the_users_own_prompt_count(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    shown = replace(OWN, demonstrations=(Demonstration(rows[0].fields, rows[0].label),))
    plain, with_one = (lengths(loaded["llama"], p, rows[:5]) for p in (OWN, shown))
    assert with_one.details["prompt"] > plain.details["prompt"]


def test_label_words_without_tokens_are_named(loaded: dict[str, LanguageModel], rows: list[Example]) -> None:
    words = {"sports": "Sports", "money": "sports", "weather": "film"}
    with pytest.raises(PromptError, match="are the same tokens to this model"):
        lengths(loaded["bert"], replace(OWN, label_words=words), rows[:5])
