"""explain/: what each part earned, the shortest prompt, sturdiness, and other models."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration, Retrieval
from autoprompt.errors import DataError, PromptError
from autoprompt.explain import (
    explain_gain,
    measure_robustness,
    robust_choice,
    shortest_equivalent,
    transfer,
    worst_case,
)
from autoprompt.explain.changes import changes, two_spaces
from autoprompt.explain.inputs import input_changes, mistyped
from autoprompt.explain.paraphrase import paraphrased
from autoprompt.explain.parts import literals, mixed, parts_of, with_literals
from autoprompt.explain.removals import Shorter, call_tokens
from autoprompt.explain.shapley import coalitions
from autoprompt.explain.shortest import lower_bound, showable_margin
from autoprompt.metrics import Metric, Outcome, metric
from autoprompt.metrics.builtin import accuracy, log_loss, macro_f1
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt, SoftPart
from autoprompt.scorer import Score, Scorer

pytestmark = pytest.mark.model

LABELS = {"sports": "sports", "money": "money", "weather": "weather"}
OWN = Prompt("{{ text }}\nTopic: {{ label }}", LABELS, "Which topic does the text have?")
NAMING = "Name the topic of the text.\nOptions: sports, money, weather."
WORDS = {"sports": "games", "money": "banks", "weather": "sky"}
FAMILIES = ("llama", "gpt2", "t5", "bert", "roberta", "encoder")


@pytest.fixture(scope="module")
def examples(topics_rows: list[dict[str, str]]) -> list[Example]:
    return [Example(n, {"text": row["text"]}, row["topic"]) for n, row in enumerate(topics_rows)]


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path], encoder_folder: Path) -> dict[str, LanguageModel]:
    folders = {**model_folders, "encoder": encoder_folder}
    return {name: load_model(str(folder), device="cpu") for name, folder in folders.items()}


def shown(examples: list[Example], *numbers: int) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(examples[n].fields, examples[n].label) for n in numbers)


def winner_of(examples: list[Example]) -> Prompt:
    return replace(
        OWN,
        template="Text: {{ text }}\nSubject: {{ label }}",
        instruction=NAMING,
        demonstrations=shown(examples, 50, 58),
    )


@metric
def always(targets: list[str]) -> list[float]:
    return [1.0 for _ in targets]


@metric
def whole_accuracy(targets: list[str], predictions: list[str]) -> float:
    return float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))


# -- Shapley values --------------------------------------------------------------------------------


def by_orders(players: int, worth: Callable[[frozenset[int]], float]) -> list[float]:
    """Shapley values as they are defined."""
    found = np.zeros(players)
    orders = list(itertools.permutations(range(players)))
    for order in orders:
        for at, player in enumerate(order):
            found[player] += worth(frozenset(order[: at + 1])) - worth(frozenset(order[:at]))
    return list(found / len(orders))


def random_game(players: int, seed: int) -> Callable[[frozenset[int]], float]:
    generator = random.Random(seed)
    table = {
        frozenset(some): generator.random()
        for size in range(players + 1)
        for some in itertools.combinations(range(players), size)
    }
    return lambda members: table[members]


def worths(plan: object, worth: Callable[[frozenset[int]], float]) -> np.ndarray:
    members = plan.members  # type: ignore[attr-defined]
    return np.array([worth(frozenset(np.flatnonzero(row).tolist())) for row in members])


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_exact_values_are_the_mean_over_all_orders(players: int) -> None:
    game = random_game(players, players)
    plan = coalitions(players)
    assert plan.exact
    assert len(plan.members) == 2**players
    assert plan.values(worths(plan, game)) == pytest.approx(by_orders(players, game))
    assert plan.errors(worths(plan, game)).tolist() == [0.0] * players


@pytest.mark.parametrize(("players", "budget"), [(2, 1), (5, 16), (8, 128), (12, 128), (20, 128)])
def test_sampled_values_sum_to_the_gain_of_all(players: int, budget: int) -> None:
    plan = coalitions(players, budget, seed=3)
    assert not plan.exact
    assert len(plan.weights) >= 5
    generator = np.random.default_rng(0)
    worth = generator.random(len(plan.members))
    assert plan.values(worth).sum() == pytest.approx(worth[1] - worth[0])
    assert plan.members[0].sum() == 0
    assert plan.members[1].sum() == players


def test_a_budget_is_kept_once_there_is_a_standard_error() -> None:
    plan = coalitions(10, 128, seed=1)
    assert len(plan.members) <= 128
    assert len(coalitions(10, 300, seed=1).weights) > len(plan.weights)


def test_sampled_values_of_parts_that_do_not_act_together_are_exact() -> None:
    worth = [0.3, -0.1, 0.0, 0.2, 0.05, 0.5, 0.0, 0.1]
    plan = coalitions(8, 64, seed=2)
    found = worths(plan, lambda members: sum(worth[player] for player in members))
    assert plan.values(found) == pytest.approx(worth)
    assert plan.errors(found) == pytest.approx([0.0] * 8, abs=1e-12)


def test_sampled_values_are_unbiased_and_their_standard_errors_honest() -> None:
    game = random_game(6, 9)
    exact = coalitions(6)
    truth = exact.values(worths(exact, game))
    plans = [coalitions(6, 32, seed) for seed in range(300)]
    found = np.stack([plan.values(worths(plan, game)) for plan in plans])
    spread = found.std(0)
    assert found.mean(0) == pytest.approx(truth, abs=4 * spread.max() / math.sqrt(300))
    stated = np.sqrt(np.mean([plan.errors(worths(plan, game)) ** 2 for plan in plans], 0))
    assert stated == pytest.approx(spread, rel=0.25)


def test_alone_and_last_are_the_first_and_the_last_step() -> None:
    game = random_game(4, 5)
    for plan in (coalitions(4), coalitions(4, 10)):
        found, everyone = worths(plan, game), frozenset(range(4))
        nobody: frozenset[int] = frozenset()
        assert plan.alone(found) == pytest.approx([game(frozenset({p})) - game(nobody) for p in range(4)])
        assert plan.last(found) == pytest.approx([game(everyone) - game(everyone - {p}) for p in range(4)])


# -- mixtures --------------------------------------------------------------------------------------


def pairs(examples: list[Example]) -> dict[str, tuple[Prompt, Prompt]]:
    some = shown(examples, 1, 2, 3)
    vectors = np.ones((2, 32), np.float32)
    listing = replace(OWN, instruction=NAMING)
    retrieving = replace(OWN, retrieval=Retrieval(shown(examples, 4, 5, 6, 7), 2))
    return {
        "all": (OWN, replace(winner_of(examples), label_words=WORDS, calibration="content_free", temperature=2.0)),
        "words": (listing, replace(listing, label_words=WORDS, instruction=NAMING.replace("sports", "games"))),
        "named words": (
            listing,
            replace(OWN, label_words=WORDS, instruction="Name the topic of the text.\nOptions: games, banks, sky."),
        ),
        "template words": (
            replace(OWN, template="sports, money or weather?\n{{ text }}\n{{ label }}"),
            replace(OWN, template="games, banks or sky?\n{{ text }}\n{{ label }}", label_words=WORDS),
        ),
        "removed": (replace(OWN, demonstrations=some), OWN),
        "reversed": (replace(OWN, demonstrations=some), replace(OWN, demonstrations=some[::-1])),
        "some in common": (
            replace(OWN, demonstrations=some),
            replace(OWN, demonstrations=(*shown(examples, 9), some[2], some[0])),
        ),
        "twice": (replace(OWN, demonstrations=(some[0], some[0])), replace(OWN, demonstrations=(some[0],) * 3)),
        "similar": (OWN, retrieving),
        "no longer similar": (retrieving, replace(OWN, demonstrations=some)),
        "soft": (OWN, replace(OWN, soft=SoftPart(vectors, "answer"), separator="\n", normalize=True)),
        "none": (OWN, OWN),
    }


NAMES = ("all", "words", "named words", "template words", "removed", "reversed", "some in common", "twice", "similar",
         "no longer similar", "soft", "none")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_without_parts_a_mixture_is_the_own_prompt_and_with_all_the_winner(name: str, examples: list[Example]) -> None:
    own, winner = pairs(examples)[name]
    parts = parts_of(own, winner)
    assert mixed(own, winner, ()) == own
    assert mixed(own, winner, {part.name for part in parts}) == winner
    assert len({part.name for part in parts}) == len(parts)
    assert (parts == []) == (own == winner)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_every_part_matters_to_some_mixture(name: str, examples: list[Example]) -> None:
    own, winner = pairs(examples)[name]
    parts = parts_of(own, winner)
    everything = {part.name for part in parts}
    for part in parts:
        alone = mixed(own, winner, {part.name}) != own
        assert alone or mixed(own, winner, everything - {part.name}) != winner


def test_the_parts_are_named_and_told(examples: list[Example]) -> None:
    own, winner = pairs(examples)["all"]
    parts = {part.name: part for part in parts_of(own, winner)}
    assert list(parts) == ["template", "instruction", "demonstration 1", "demonstration 2", "label words",
                           "calibration", "temperature"]  # fmt: skip
    assert parts["label words"].text == "sports: sports → games, money: money → banks, weather: weather → sky"
    assert parts["demonstration 1"].text == f"{examples[50].fields['text']} → {WORDS[examples[50].label]}"
    soft = {part.name: part.kind for part in parts_of(*pairs(examples)["soft"])}
    assert soft == {"separator": "template", "normalization": "calibration", "vectors": "vectors"}


def test_words_that_only_follow_the_label_words_are_no_part(examples: list[Example]) -> None:
    assert [part.name for part in parts_of(*pairs(examples)["named words"])] == ["label words"]
    assert [part.name for part in parts_of(*pairs(examples)["template words"])] == ["label words"]


def test_a_mixture_names_the_label_words_that_it_answers_with() -> None:
    winner = replace(OWN, label_words=WORDS, instruction="Say which: games, banks, or sky?")
    assert mixed(OWN, winner, {"instruction"}).instruction == "Say which: sports, money, or weather?"
    own = replace(OWN, instruction=NAMING)
    assert mixed(own, winner, {"label words"}).instruction == "Name the topic of the text.\nOptions: games, banks, sky."


def test_a_template_keeps_its_fields_when_its_words_change() -> None:
    template = "sports{{ text }}{# sports #}sports {{ label }}."
    assert with_literals(template, literals(template).upper()) == "SPORTS{{ text }}{# sports #}SPORTS {{ label }}."
    with pytest.raises(PromptError, match="fields were lost"):
        with_literals(template, "no gap")


def test_prompts_with_other_labels_are_not_compared() -> None:
    with pytest.raises(PromptError, match="other labels: sports, money, weather, and a, b"):
        parts_of(OWN, Prompt(OWN.template, {"a": "x", "b": "y"}))


# -- why -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("measure", [accuracy, log_loss], ids=lambda one: one.name)
def test_the_values_of_all_parts_sum_to_the_gain(
    family: str, measure: Metric, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    scorer, winner = Scorer(loaded[family], measure), winner_of(examples)
    found = explain_gain(scorer, OWN, winner, examples[:12], "dev", 1)
    before, after = (score.value for score in scorer.score([OWN, winner], examples[:12]))
    assert found.total == pytest.approx(measure.gain(after, before))
    assert sum(part["value"] for part in found.parts) == pytest.approx(found.total, abs=1e-9)
    assert [part["part"] for part in found.parts] == ["template", "instruction", "demonstration 1", "demonstration 2"]
    assert all(part["low"] <= part["value"] <= part["high"] and part["error"] == 0 for part in found.parts)
    assert (found.split, found.examples) == ("dev", 12)


def test_an_explanation_is_the_same_for_the_same_seed(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    winner = replace(winner_of(examples), label_words=WORDS)
    found = [
        explain_gain(Scorer(loaded["llama"], log_loss), OWN, winner, examples[:8], "dev", 5, budget=16)
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert all(part["error"] > 0 for part in found[0].parts)
    assert "sampled orders (standard error" in found[0].sentence
    assert sum(part["value"] for part in found[0].parts) == pytest.approx(found[0].total, abs=1e-9)


def test_a_part_that_changes_no_answer_earns_nothing(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    winner = replace(winner_of(examples), temperature=3.0)  # the likeliest label stays the likeliest
    found = explain_gain(Scorer(loaded["gpt2"], accuracy), OWN, winner, examples[:10], "dev", 1)
    part = next(part for part in found.parts if part["part"] == "temperature")
    assert [part[key] for key in ("value", "low", "high", "alone", "last")] == pytest.approx([0.0] * 5, abs=1e-12)


def test_a_metric_of_the_whole_set_is_explained_alike(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    winner = replace(winner_of(examples), demonstrations=())
    each, whole = (
        explain_gain(Scorer(loaded["bert"], one), OWN, winner, examples[:20], "dev", 1)
        for one in (accuracy, whole_accuracy)
    )
    assert [part["value"] for part in whole.parts] == pytest.approx([part["value"] for part in each.parts])
    for one, other in zip(each.parts, whole.parts, strict=True):
        assert (other["low"], other["high"]) == pytest.approx((one["low"], one["high"]), abs=0.06)
    assert explain_gain(Scorer(loaded["bert"], macro_f1), OWN, winner, examples[:20], "dev", 1).examples == 20


def test_of_the_own_prompt_there_is_nothing_to_explain(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    found = explain_gain(Scorer(loaded["llama"], accuracy), OWN, OWN, examples, "dev", 1)
    assert (found.total, found.parts) == (0.0, ())
    assert found.sentence == "The winner is your own prompt: there is no gain to explain."


def test_a_winner_without_a_gain_has_no_shares(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    scorer, winner = Scorer(loaded["llama"], log_loss), winner_of(examples)
    one, other = scorer.score([OWN, winner], examples[:6])
    better, worse = (OWN, winner) if one.value < other.value else (winner, OWN)
    lost = explain_gain(scorer, better, worse, examples[:6], "dev", 1)
    assert lost.total < 0
    assert {part["share"] for part in lost.parts} == {0.0}
    assert lost.sentence.startswith(f"The winner gains nothing over your prompt ({lost.total:+.3f} log_loss on 6 dev")
    won = explain_gain(scorer, worse, better, examples[:6], "dev", 1)
    assert won.total == pytest.approx(-lost.total)
    assert sum(part["share"] for part in won.parts) == pytest.approx(1.0)
    assert "% of the gain is " in won.sentence
    assert f"(the gain: {won.total:+.3f} log_loss on 6 dev examples)" in won.sentence


def test_a_mixture_that_does_not_fit_counts_as_the_own_prompt(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    """Three long demonstrations of each prompt fit the window of 160 tokens, and six do not."""
    own, winner = (replace(OWN, demonstrations=shown(examples, *some)) for some in ((50, 51, 52), (54, 55, 57)))
    found = explain_gain(Scorer(loaded["llama"], log_loss), own, winner, examples[:4], "dev", 1)
    assert " mixtures cannot be scored and count as your prompt." in found.sentence
    assert sum(part["value"] for part in found.parts) == pytest.approx(found.total, abs=1e-9)


def test_a_winner_that_cannot_be_scored_is_an_error(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    winner = replace(OWN, demonstrations=shown(examples, *range(30)))
    with pytest.raises(PromptError, match="fills the 160 tokens"):
        explain_gain(Scorer(loaded["llama"], accuracy), OWN, winner, examples[:4], "dev", 1)
    with pytest.raises(DataError, match="no examples to score"):
        explain_gain(Scorer(loaded["llama"], accuracy), OWN, winner_of(examples), [], "dev", 1)


def test_one_example_and_strange_texts_are_explained(loaded: dict[str, LanguageModel]) -> None:
    strange = Demonstration({"text": 'Ünïcödé 🎉 "\x1b[2J\n\u202e' + "x" * 90}, "money")
    winner = replace(OWN, demonstrations=(strange,))
    found = explain_gain(Scorer(loaded["gpt2"], log_loss), OWN, winner, [Example(0, {"text": ""}, "money")], "dev", 1)
    [part] = found.parts
    assert part["value"] == part["low"] == part["high"] == found.total
    assert found.sentence.isprintable()
    assert "..." in found.sentence


def test_texts_that_were_cut_for_a_mixture_are_not_the_users_concern(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    scorer = Scorer(loaded["llama"], accuracy)
    long = [replace(one, fields={"text": " ".join([one.fields["text"]] * 9)}) for one in examples[:3]]
    explain_gain(scorer, OWN, winner_of(examples), long, "dev", 1)
    assert scorer.truncated == set()
    assert set(scorer._known) == {OWN.fingerprint, winner_of(examples).fingerprint}  # mixtures are forgotten


# -- the shortest prompt ---------------------------------------------------------------------------


def scored(right: np.ndarray, measure: Metric = accuracy) -> Score:
    sure = np.where(np.asarray(right) > 0.5, 0.9, 0.1)
    outcome = Outcome(("yes",) * len(sure), np.stack([sure, 1 - sure], 1), ("yes", "no"))
    return Score(measure(outcome), outcome, sure, -np.log(sure), np.zeros(len(sure), dtype=np.bool_))


def test_equal_answers_bound_a_loss_by_the_rule_of_three() -> None:
    right = np.arange(300) % 3 > 0
    assert lower_bound(accuracy, scored(right), scored(right)) == pytest.approx(-3.0625 / 300)
    assert showable_margin(accuracy, scored(right)) == pytest.approx(3.0625 / 300)
    assert lower_bound(accuracy, scored(right), scored(right)) > -showable_margin(accuracy, scored(right))
    assert lower_bound(accuracy, scored(np.ones(300)), scored(np.ones(300))) == pytest.approx(-3.0625 / 300)


@pytest.mark.parametrize("lost", [1, 2, 5, 20])
def test_losses_without_gains_are_bounded_as_exactly_as_by_poisson(lost: int) -> None:
    """At the bound, so few losses or fewer are seen in 4 to 6 % of cases."""
    own, new = np.ones(1000), np.ones(1000)
    new[:lost] = 0
    rate = -1000 * lower_bound(accuracy, scored(own), scored(new))
    chance = sum(math.exp(-rate) * rate**k / math.factorial(k) for k in range(lost + 1))
    assert 0.035 < chance < 0.055


@pytest.mark.parametrize("churn", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("size", [80, 210])
def test_a_prompt_worse_by_the_margin_passes_in_one_of_twenty(churn: float, size: int) -> None:
    """Losses are more frequent than gains by the margin, which many examples can show."""
    margin, generator = 0.05, np.random.default_rng(7)
    lost, gained = generator.multinomial(size, [margin + churn, churn, 1 - margin - 2 * churn], 4000).T[:2]
    places = np.arange(size)
    passes = {
        (minus, plus): lower_bound(accuracy, scored(places >= plus), scored(places < size - minus)) > -margin
        for minus, plus in set(zip(lost.tolist(), gained.tolist(), strict=True))
    }
    passed = sum(passes[minus, plus] for minus, plus in zip(lost.tolist(), gained.tolist(), strict=True))
    assert passed / 4000 <= 0.057  # 0.05, and two standard errors


def test_the_bound_turns_with_the_metric() -> None:
    right = np.random.default_rng(1).random(400) < 0.7
    fewer = right & (np.random.default_rng(2).random(400) < 0.9)
    assert lower_bound(accuracy, scored(right), scored(fewer)) < -0.05
    assert lower_bound(log_loss, scored(right), scored(fewer)) < -0.05
    assert lower_bound(log_loss, scored(fewer), scored(right)) > 0


def test_all_that_does_nothing_is_left_out(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    """Under a metric that is always 1: what is left is the input and the answer's place."""
    winner = replace(winner_of(examples), soft=SoftPart(np.ones((2, 32), np.float32)))
    many = examples[:24]
    scorer = Scorer(loaded["bert"], always)
    found = shortest_equivalent(scorer, winner, many, 0.01, 3)
    assert found.prompt == replace(winner, instruction="", demonstrations=(), soft=None)
    assert set(found.event.dropped) == {
        "demonstration 1", "demonstration 2", "2 vectors",
        'instruction "Name the topic of the text. Options: sports, money, weather."',
    }  # fmt: skip
    assert found.event.text == "Text: {text}\nSubject: {label}"
    assert found.event.fingerprint == found.prompt.fingerprint
    assert found.event.tokens == (
        call_tokens(scorer, winner, many[:32]),
        call_tokens(scorer, found.prompt, many[:32]),
    )
    assert found.event.tokens[1] < found.event.tokens[0] / 2
    assert found.event.value == (1.0, 1.0)
    assert found.event.interval[0] <= 0 <= found.event.interval[1]
    assert found.event.margin == 0.01
    assert found.event.sentence.startswith("Without ")
    assert found.event.sentence.endswith("It was chosen on dev; the locked test has not judged it.")


def test_what_is_left_out_holds_on_examples_that_did_not_choose_it(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    scorer, winner = Scorer(loaded["gpt2"], accuracy), winner_of(examples)
    dev, pool = examples[:40], examples[40:]
    found = shortest_equivalent(scorer, winner, dev, 0.2, 1, pool)
    assert found == shortest_equivalent(Scorer(loaded["gpt2"], accuracy), winner, dev, 0.2, 1, pool)
    own, short = scorer.score([winner, found.prompt], dev)
    assert found.event.value == (own.value, short.value)
    assert lower_bound(accuracy, own, short) > -0.2 or found.prompt == winner
    assert found.event.tokens[1] <= found.event.tokens[0]
    assert found.event.interval[0] <= short.value - own.value <= found.event.interval[1]


def test_with_few_examples_nothing_is_left_out(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    winner = winner_of(examples)
    for size in (1, 2, 40):
        found = shortest_equivalent(Scorer(loaded["llama"], accuracy), winner, examples[:size], 0.01, 1)
        assert found.prompt == winner
        assert found.event.dropped == ()
        assert found.event.margin == 0.01
        assert "dev examples are too few to show that nothing is lost." in found.event.sentence
    with pytest.raises(DataError, match="no examples to score"):
        shortest_equivalent(Scorer(loaded["llama"], accuracy), winner, [], 0.01, 1)


def test_a_margin_that_cannot_be_shown_is_raised_and_told(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    many = [replace(one, fields={"text": f"{one.fields['text']} {n}"}, number=n) for n, one in enumerate(examples * 3)]
    found = shortest_equivalent(Scorer(loaded["t5"], accuracy), OWN, many, 0.01, 1)
    assert found.event.margin == pytest.approx(3.0625 / 90)
    assert "(the least that 90 dev examples can show; 0.01 was asked for)" in found.event.sentence


def test_a_prompt_with_nothing_to_leave_out_stays(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    bare = replace(OWN, instruction="")
    found = shortest_equivalent(Scorer(loaded["roberta"], accuracy), bare, examples * 3, 0.1, 1)
    assert found.prompt == bare
    assert found.event.sentence == "Nothing can be left out of the winner and shown to cost less than 0.100 accuracy."


def test_removals_are_single_things(examples: list[Example]) -> None:
    text = "Read the message and name the team that handles it. Be brief!"
    prompt = replace(OWN, instruction=text, demonstrations=shown(examples, 1, 2))
    prompt = replace(prompt, retrieval=Retrieval(shown(examples, 3, 4), 2))
    found = {one.dropped[-1]: one for one in Shorter.whole(prompt).removals()}
    assert {one.prompt.instruction for one in found.values()} == {
        text, "", "Be brief!", "Read the message and name the team that handles it.",
        "Read the message and name the team. Be brief!", "Read the message that handles it. Be brief!",
    }  # fmt: skip
    assert found["demonstration 2"].prompt.demonstrations == prompt.demonstrations[:1]
    again = {one.dropped: one for one in found["demonstration 1"].removals()}
    assert again["demonstration 1", "demonstration 2"].prompt.demonstrations == ()
    less = found["a demonstration that is like the input"]
    assert less.prompt.retrieval is not None
    assert less.prompt.retrieval.number == 1
    assert [one.prompt.retrieval for one in less.removals() if one.dropped[-1].startswith("a ")] == [None]
    assert all(one.prompt.template == OWN.template for one in found.values())


# -- robustness ------------------------------------------------------------------------------------


def test_every_change_makes_another_prompt_with_the_same_fields_and_words(examples: list[Example]) -> None:
    prompt = replace(winner_of(examples), demonstrations=shown(examples, 1, 2, 3))
    found = changes(prompt, 4, examples)
    assert len({change.prompt for change in found} | {prompt}) == len(found) + 1
    assert len({change.name for change in found}) == len(found)
    assert {change.kind for change in found} == {
        "whitespace", "casing", "punctuation", "order", "demonstrations", "paraphrase", "format",
    }  # fmt: skip
    for change in found:
        assert change.prompt.fields == prompt.fields
        assert change.prompt.label_words == prompt.label_words
        change.prompt.render(examples[0].fields)
    assert found == changes(prompt, 4, examples)
    assert found != changes(prompt, 5, examples)


def test_the_space_before_the_answer_is_left_alone() -> None:
    spaced = two_spaces(replace(OWN, template="The text: {{ text }}\nIts topic is {{ label }} ."))
    assert spaced.template == "The  text:  {{ text }}\nIts  topic  is {{ label }}  ."
    names = {change.name: change.prompt.template for change in changes(OWN, 1)}
    assert names["no colons in the template"] == "{{ text }}\nTopic {{ label }}"
    assert "tabs for spaces in the template" not in names


def test_case_is_left_alone_where_label_words_are_named() -> None:
    naming = replace(OWN, instruction=NAMING, template="sports or what?\n{{ text }}\n{{ label }}")
    assert "casing" not in {change.kind for change in changes(naming, 1)}
    assert {c.name for c in changes(OWN, 1) if c.kind == "casing"} == {
        "instruction in small letters", "instruction in capitals", "template in small letters", "template in capitals",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("instruction", "turned"),
    [
        ("Options: sports, money, weather.", "Options: weather, money, sports."),
        ("1. sports\n2. money\n3. weather", "1. weather\n2. money\n3. sports"),
        ('Is it "sports", "money", or "weather"?', 'Is it "weather", "money", or "sports"?'),
        ("sports: games and teams. money: banks. weather: rain.", None),  # what stands behind a word belongs to it
        ("sports, money", None),
        ("sports, sports, money, weather", None),
    ],
)
def test_listed_labels_change_places(instruction: str, turned: str | None) -> None:
    found = [c.prompt.instruction for c in changes(replace(OWN, instruction=instruction), 1) if c.kind == "order"]
    assert found[:1] == ([] if turned is None else [turned])


def test_demonstrations_change_their_order_and_are_drawn_anew(examples: list[Example]) -> None:
    prompt = replace(OWN, demonstrations=shown(examples, 1, 2, 3))
    orders = [c.prompt.demonstrations for c in changes(prompt, 1) if c.kind == "order"]
    assert orders[0] == prompt.demonstrations[::-1]
    assert all(sorted(map(str, order)) == sorted(map(str, prompt.demonstrations)) for order in orders)
    assert "demonstrations" not in {c.kind for c in changes(prompt, 1)}  # without a pool
    drawn = [c.prompt.demonstrations for c in changes(prompt, 1, examples) if c.kind == "demonstrations"]
    assert [len(one) for one in drawn] == [3, 3, 3]
    retrieving = replace(OWN, retrieval=Retrieval(shown(examples, *range(30)), 2))
    parts = [c.prompt.retrieval for c in changes(retrieving, 1) if c.kind == "demonstrations"]
    assert [(len(one.pool), one.number) for one in parts if one] == [(20, 2)] * 3


def test_a_bare_prompt_and_one_of_another_script_can_be_changed() -> None:
    bare = Prompt("{{ text }}{{ label }}", {"a": "是", "b": "否"})
    assert {c.kind for c in changes(bare, 1)} <= {"format", "whitespace", "punctuation"}
    other = replace(
        bare,
        instruction="这段文字是正面的吗？\nΕίναι; straße",
        template="{% if text %}{{ text }}{% endif %}：{{ label }}",
    )
    assert changes(other, 1)


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.3])
def test_typing_errors_are_as_frequent_as_asked(rate: float, examples: list[Example]) -> None:
    import difflib

    text = " ".join(one.fields["text"] for one in examples)
    made = mistyped(Example(0, {"text": text}, "money"), rate, 3)
    assert made.label == "money"
    changed = sum(
        max(b - a, d - c) for tag, a, b, c, d in difflib.SequenceMatcher(None, text, made.fields["text"], False).get_opcodes()
        if tag != "equal"
    )  # fmt: skip
    letters = sum(map(str.isalpha, text))
    assert 0.6 * rate < changed / letters < 1.6 * rate


def test_typing_errors_depend_on_the_seed_and_the_text_alone(examples: list[Example]) -> None:
    one, moved = examples[3], replace(examples[3], number=99)
    assert mistyped(one, 0.2, 1).fields == mistyped(moved, 0.2, 1).fields
    assert mistyped(one, 0.2, 1).fields != mistyped(one, 0.2, 2).fields
    assert mistyped(Example(0, {"text": "12 34 !?", "more": ""}, "a"), 0.9, 1).fields == {
        "text": "12 34 !?",
        "more": "",
    }
    assert mistyped(Example(0, {"text": "日本語のテキスト"}, "a"), 0.5, 1).fields["text"] != "日本語のテキスト"
    assert all(mistyped(Example(0, {"text": "a"}, "a"), 1.0, seed).fields["text"] for seed in range(20))


def test_changed_inputs_keep_their_labels_and_their_order(examples: list[Example]) -> None:
    for change in input_changes(examples[:9], 1):
        assert [one.label for one in change.examples] == [one.label for one in examples[:9]]
        assert [one.number for one in change.examples] == list(range(9))
        assert [one.fields for one in change.examples] != [one.fields for one in examples[:9]]


@pytest.mark.parametrize("family", FAMILIES)
def test_robustness_is_the_mean_and_the_worst_of_its_rows(
    family: str, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    measure = log_loss if family in ("llama", "bert") else accuracy
    winner = replace(OWN, instruction="Name the topic.", demonstrations=shown(examples, 50))
    scorer = Scorer(loaded[family], measure)
    found = measure_robustness(scorer, winner, OWN, examples[:5], 1)
    values = [row["value"] for row in found.rows]
    assert found.value == scorer.score([winner], examples[:5])[0].value
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert found.worst == (min(values) if measure.maximize else max(values))
    assert found.rows[-1]["kind"] == "precision"
    assert str(loaded[family].dtype) == "torch.float32"  # the model itself stays as it was
    assert len({row["change"] for row in found.rows}) == len(found.rows)
    other = measure_robustness(Scorer(loaded[family], measure), OWN, winner, examples[:5], 1)
    assert other.worst == pytest.approx(found.baseline_worst, abs=1e-6)
    assert f"{found.worst:.3f} at worst (" in found.sentence


def test_half_precision_is_nearly_the_model(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    scorer = Scorer(loaded["gpt2"], log_loss)
    found = measure_robustness(scorer, OWN, OWN, examples[:12], 1)
    half = found.rows[-1]["value"]
    assert half != found.value
    assert half == pytest.approx(found.value, rel=0.05)
    assert found.sentence.startswith(f"Under {len(found.rows)} changes that should not matter your prompt is worth")


def test_a_model_in_half_precision_has_no_other(llama_folder: Path, examples: list[Example]) -> None:
    half = Scorer(load_model(str(llama_folder), device="cpu", dtype="bfloat16"), accuracy)
    found = measure_robustness(half, OWN, OWN, examples[:4], 1)
    assert "precision" not in {row["kind"] for row in found.rows}
    assert found.sentence.endswith("Half precision was not measured: the model computes in bfloat16 already.")


def test_changes_that_do_not_fit_are_left_out_and_told(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    """A prompt that fills the window: in capitals it has more tokens."""
    full = replace(OWN, instruction="Which topic does the text have? Answer with one word. " * 4)
    found = measure_robustness(Scorer(loaded["llama"], accuracy), full, OWN, examples[:3], 1)
    assert " changed prompts could not be scored." in found.sentence
    assert all(math.isfinite(row["value"]) for row in found.rows)


def test_soft_prompts_are_measured_too(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    soft = replace(OWN, soft=SoftPart(np.full((2, 32), 0.1, np.float32), "answer"))
    scorer = Scorer(loaded["llama"], log_loss)
    found = measure_robustness(scorer, soft, OWN, examples[:4], 1)
    assert "format" not in {row["kind"] for row in found.rows}
    assert {"whitespace", "typos", "precision"} <= {row["kind"] for row in found.rows}
    assert len(robust_choice(scorer, [soft, OWN], examples[:4], 1)) == 2


def test_the_worst_case_is_that_of_the_metrics_direction() -> None:
    assert worst_case([0.5, 0.5]) == 0.5
    assert worst_case([0.5, math.nan, 0.7]) == -math.inf
    assert worst_case([0.5, math.nan, 0.7], maximize=False) == math.inf
    assert math.isnan(worst_case([]))


@pytest.mark.parametrize("measure", [accuracy, log_loss], ids=lambda one: one.name)
def test_a_robust_choice_is_by_the_worst_of_the_same_changes(
    measure: Metric, loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    scorer, prompts = Scorer(loaded["bert"], measure), [OWN, winner_of(examples), replace(OWN, instruction="")]
    found = robust_choice(scorer, prompts, examples[:10], 1)
    for prompt, worst in zip(prompts, found, strict=True):
        known = [scorer.score([one], examples[:10])[0].value for one in (prompt, two_spaces(prompt))]
        for change in input_changes(examples[:10], 1):
            if "5 %" not in change.name and "line break" not in change.name:
                known.append(scorer.score([prompt], change.examples)[0].value)
        assert worst == pytest.approx(min(known) if measure.maximize else max(known))
    assert found == robust_choice(Scorer(loaded["bert"], measure), prompts, examples[:10], 1)
    assert robust_choice(scorer, [], examples[:20], 1) == []


def test_a_finalist_that_cannot_be_scored_is_the_last(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    full = replace(OWN, demonstrations=shown(examples, *range(30)))
    good, bad = robust_choice(Scorer(loaded["llama"], accuracy), [OWN, full], examples[:4], 1)
    assert 0 <= good <= 1
    assert bad == -math.inf


def test_a_model_that_writes_says_instructions_in_other_words(loaded: dict[str, LanguageModel]) -> None:
    scorer = Scorer(load_model("builtin", device="cpu"), accuracy)
    prompt = replace(OWN, instruction="Which team should answer this customer?")
    found = paraphrased(scorer.engine, prompt, 2, 1)
    assert found == paraphrased(scorer.engine, prompt, 2, 1)
    assert len(found) <= 2
    assert prompt.instruction not in found
    assert paraphrased(scorer.engine, replace(prompt, instruction=" "), 2, 1) == []
    assert paraphrased(Scorer(loaded["bert"], accuracy).engine, prompt, 2, 1) == []


# -- other models ----------------------------------------------------------------------------------


def test_prompts_go_to_other_models(loaded: dict[str, LanguageModel], examples: list[Example]) -> None:
    scorers = {name: Scorer(model, accuracy) for name, model in loaded.items()}
    prompts = {"your prompt": OWN, "winner": winner_of(examples)}
    found = transfer(scorers, prompts, examples[:9])
    assert [row["model"] for row in found.rows] == list(FAMILIES)
    for row in found.rows:
        expected = [score.value for score in scorers[row["model"]].score(list(prompts.values()), examples[:9])]
        assert list(row["values"].items()) == list(zip(prompts, expected, strict=True))
        assert row["left_out"] == {}


def test_what_does_not_fit_a_model_is_left_out_with_its_reason(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    scorers = {name: Scorer(loaded[name], accuracy) for name in ("llama", "gpt2")}
    prompts = {
        "soft": replace(OWN, soft=SoftPart(np.zeros((2, 32), np.float32))),
        "wide": replace(OWN, soft=SoftPart(np.zeros((2, 48), np.float32))),
        "long": replace(OWN, demonstrations=shown(examples, *range(30))),
        "good": OWN,
    }
    at_home, away = transfer(scorers, prompts, examples[:4], home="llama").rows
    assert list(at_home["values"]) == ["soft", "good"]
    assert at_home["left_out"]["wide"] == "Its vectors have 48 numbers, and the embeddings of this model 32."
    assert "fills the 160 tokens" in at_home["left_out"]["long"]
    assert list(away["values"]) == ["good"]
    assert away["left_out"]["soft"] == "Its vectors were made for the embeddings of another model."


def test_no_models_and_no_prompts_make_an_empty_matrix(
    loaded: dict[str, LanguageModel], examples: list[Example]
) -> None:
    assert transfer({}, {"your prompt": OWN}, examples).rows == ()
    soft = replace(OWN, soft=SoftPart(np.zeros((2, 32), np.float32)))
    [row] = transfer({"t5": Scorer(loaded["t5"], accuracy)}, {"soft": soft}, examples).rows
    assert row["values"] == {}
