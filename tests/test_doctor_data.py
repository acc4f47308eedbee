"""What the doctor finds in the data, and what it must not: a test text, or an alarm over good data."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprompt.data import DataOptions, Example, LockedSplit, Splits, read_splits
from autoprompt.doctor.balance import examine_balance, examine_size, label_counts
from autoprompt.doctor.data import examine_data
from autoprompt.doctor.duplicates import examine_duplicates
from autoprompt.doctor.encoding import examine_encoding, repaired
from autoprompt.doctor.finding import listed, percent, quoted
from autoprompt.doctor.leaks import examine_giveaways, examine_leaks
from autoprompt.doctor.likeness import Sketch, jaccard
from autoprompt.doctor.power import examples_for, smallest_difference
from autoprompt.doctor.resemblance import examine_resemblance
from autoprompt.doctor.words import exact_tail, holm, words_of
from autoprompt.errors import DataError
from autoprompt.events import Finding

Rows = Sequence[tuple[str, str]]  # (text, label)


def examples(rows: Rows) -> tuple[Example, ...]:
    return tuple(Example(number, {"text": text}, label) for number, (text, label) in enumerate(rows))


def splits(train: Rows, dev: Rows, test: Rows) -> Splits:
    labels = tuple(sorted({label for part in (train, dev, test) for _, label in part}))
    return Splits(examples(train), examples(dev), LockedSplit(examples(test)), labels)


WORDS = [
    "river",
    "stone",
    "lamp",
    "garden",
    "music",
    "copper",
    "winter",
    "bridge",
    "window",
    "paper",
    "silver",
    "candle",
]


def text_of(number: int, words: int = 8) -> str:
    """A text that is like no other one."""
    generator = np.random.default_rng(number)
    return " ".join(f"{WORDS[i]}{generator.integers(1000)}" for i in generator.integers(0, len(WORDS), words))


def plain(start: int, count: int, labels: str = "ab") -> list[tuple[str, str]]:
    return [(text_of(start + i), labels[i % len(labels)]) for i in range(count)]


def good() -> tuple[list[tuple[str, str]], ...]:
    return plain(0, 40), plain(100, 40), plain(200, 240)


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def written(findings: Iterable[Finding]) -> str:
    """All that the journal would hold."""
    return json.dumps([finding.record() for finding in findings], ensure_ascii=False, allow_nan=False)


# -- the whole ---------------------------------------------------------------------------------------


def test_good_data_has_one_finding_a_check_and_all_are_fine() -> None:
    found = examine_data(splits(*good()))
    assert [finding.check for finding in found] == [
        "duplicates", "near duplicates", "leak", "giveaway", "imbalance", "size", "encoding",
    ]  # fmt: skip
    assert set(levels(found)) == {"fine"}


def test_the_examination_is_the_same_twice() -> None:
    train, dev, test = good()
    data = splits([*train, (dev[0][0] + " x", "a")], dev, [*test, (train[3][0].upper(), "b")])
    assert written(examine_data(data)) == written(examine_data(data))


def test_no_test_text_is_in_any_finding_and_the_test_split_stays_locked() -> None:
    secret = "Zyxwvut cafÃ© &amp; <b>secret</b> \u200b passphrase number four [id:A] b"
    train, dev, test = good()
    bad = [(secret, "a"), (secret + ".", "b"), (secret.upper(), "b"), ("\ufffd" + secret * 200, "a")]
    found = examine_data(splits(train, dev, test + bad))
    assert "zyx" not in written(found).casefold()
    assert "passphrase" not in written(found).casefold()
    assert {f.details["test"] for f in found if f.details.get("kind") in {"mojibake", "markup", "unseen"}} == {3, 4}


def test_only_whole_numbers_leave_a_locked_split() -> None:
    locked = LockedSplit(examples([("secret", "a")]))
    assert locked.counted(lambda held: [len(held), 7]) == (1, 7)
    with pytest.raises(TypeError, match="integer"):
        locked.counted(lambda held: [held[0].label])  # type: ignore[list-item]


def test_one_example_a_split_is_examined() -> None:
    found = examine_data(splits([("a text", "a")], [("one", "b")], [("two more", "a")]))
    assert {finding.check for finding in found} >= {"duplicates", "imbalance", "size"}


def test_findings_are_plain_values() -> None:
    rows = [("[id:A] " + text, label) for text, label in plain(0, 60)]
    found = examine_data(splits(rows, rows[:9], rows[5:9]), words={"a": "alpha"})
    assert json.loads(written(found))[0]["event"] == "Finding"


# -- duplicates ----------------------------------------------------------------------------------------


def test_a_text_with_two_labels_is_a_problem_and_is_shown() -> None:
    train, dev, test = good()
    [found] = examine_duplicates(splits([*train, ("My  CARD.", "a")], [*dev, ("my card.", "b")], test))[:1]
    assert found.level == "problem"
    assert found.details["texts"] == 1
    assert '"My  CARD.": train row 40 says "a", dev row 40 says "b"' in found.message


def test_a_train_text_in_test_is_told_by_its_row_and_not_by_its_text() -> None:
    train, dev, test = good()
    found = examine_duplicates(splits([*train, ("Hidden Words", "a")], dev, [*test, ("hidden  words", "b")]))
    assert levels(found) == ["problem", "warning"]
    assert found[0].details["test"] == 1
    assert found[1].details["train_rows_in_test"] == [40]
    assert "idden" not in written(found)


def test_many_held_out_texts_in_train_are_a_problem() -> None:
    train, dev, test = good()
    [found] = [f for f in examine_duplicates(splits(train, dev + [(t.upper(), c) for t, c in train[:9]], test))
               if "dev_in_train" in f.details]  # fmt: skip
    assert (found.level, found.details["dev_in_train"]) == ("problem", 9)


def write(path: Path, rows: Rows) -> Path:
    lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_rows_that_reading_left_out_are_found_in_the_file(tmp_path: Path) -> None:
    rows = plain(0, 60)
    rows += [rows[0], rows[1], (rows[2][0], "b" if rows[2][1] == "a" else "a")]
    options = DataOptions(label="label", file=write(tmp_path / "all.jsonl", rows))
    data = read_splits(options, seed=1)
    found = examine_duplicates(data, options)
    assert levels(found) == ["problem", "fine"]
    assert found[0].details["texts"] == 1
    assert found[1].details == {"repeats": 3, "removed": 3, "test": 0}
    locked = not data.test.without([Example(0, {"text": rows[2][0]}, "a")])
    assert ("all.jsonl, line 3" in found[0].message) is not locked


def test_a_text_of_test_with_two_labels_in_one_file_is_counted_only(tmp_path: Path) -> None:
    rows = plain(0, 60)
    options = DataOptions(label="label", file=write(tmp_path / "all.jsonl", rows))
    inside = next(t for t, c in rows if not read_splits(options, 1).test.without([Example(0, {"text": t}, c)]))
    write(tmp_path / "all.jsonl", [*rows, (inside, "a"), (inside, "b")])
    data = read_splits(options, 1)
    assert not data.test.without([Example(0, {"text": inside}, "a")])
    found = examine_duplicates(data, options)
    assert found[0].details == {"texts": 1, "test": 0}
    assert inside not in written(found)


def test_rows_of_a_test_file_are_not_read_again(tmp_path: Path) -> None:
    train, dev, test = good()
    paths = {name: write(tmp_path / f"{name}.jsonl", rows) for name, rows in
             (("train", [*train, (test[5][0], "a"), train[1]]), ("dev", dev), ("test", test))}  # fmt: skip
    options = DataOptions(label="label", train=paths["train"], dev=paths["dev"], test=paths["test"])
    data = read_splits(options, 1)
    paths["test"].unlink()
    found = examine_duplicates(data, options)
    assert levels(found) == ["problem", "fine"]
    assert found[0].details == {"texts": 0, "test": 1}
    assert test[5][0] not in written(found)
    paths["dev"].unlink()
    with pytest.raises(DataError, match="There is no data file"):
        examine_duplicates(data, options)


def test_rows_of_test_in_a_column_are_left_out(tmp_path: Path) -> None:
    lines = [
        {"text": text_of(i), "label": "ab"[i % 2], "split": ("train", "dev", "test")[i % 3]} for i in range(60)
    ] + [{"text": text_of(2), "label": "b", "split": "test"}]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    options = DataOptions(label="label", file=path, split="split")
    found = examine_duplicates(read_splits(options, 1), options)
    assert found[0].details == {"repeats": 0, "removed": 1, "test": 0}


# -- near duplicates -----------------------------------------------------------------------------------

LONG = "I ordered the blue kettle three weeks ago and it still has not arrived, can you tell me where it is"


def test_one_changed_word_of_twenty_is_nearly_the_same() -> None:
    train, dev, test = good()
    data = splits([*train, (LONG, "a")], [*dev, (LONG.replace("blue", "green"), "b")], test)
    [found] = examine_resemblance(data)
    assert (found.level, found.details["dev_in_train"], found.details["other_label"]) == ("warning", 1, 1)
    assert "; for instance train row 40 " in found.message


def test_a_near_twin_in_test_is_told_by_its_row() -> None:
    train, dev, test = good()
    near = LONG.replace("kettle", "teapot")
    [found] = examine_resemblance(splits([*train, (LONG, "a")], dev, [*test, (near, "b"), (near + " now", "a")]))
    assert found.details["train_rows_in_test"] == [40]
    assert (found.details["test_in_train_or_dev"], found.details["test"]) == (1, 2)
    assert found.details["test_other_label"] == 1
    assert "tea" not in found.message
    assert "kettle" not in found.message


def test_equal_texts_are_no_near_duplicates() -> None:
    train, dev, test = good()
    [found] = examine_resemblance(splits([*train, (LONG, "a")], [*dev, (LONG.upper(), "a")], [*test, (LONG, "a")]))
    assert (found.level, found.message) == ("fine", "No two texts are nearly the same.")


def test_two_questions_to_one_long_text_are_two_inputs() -> None:
    def pair(number: int, question: str) -> Example:
        return Example(number, {"passage": LONG * 4, "question": question}, "a")

    train = (pair(0, "Which colour has the kettle?"), pair(1, "When was it ordered?"), pair(2, "When was it ordered"))
    data = Splits(train, examples(plain(0, 3)), LockedSplit(examples(plain(9, 3))), ("a", "b"))
    sketch = Sketch.of([[e.fields[name] for name in sorted(e.fields)] for e in data.train])
    assert list(sketch.pairs()) == [(1, 2)]


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("Where is my parcel?", "where is  my PARCEL!!", True),
        ("我的包裹三个星期前就应该到了但是到现在还没有收到请帮我查一下", "我的包裹三个星期前就应该到了但是到现在还没有收到请帮我查一查", True),
        ("", "", True),
        ("a", "b", False),
        (":)", ":(", False),
        ("😀", "😀", True),
        ("x" * 5, "x" * 5000, True),
        ("\0\0\0\0\0\0", "\ud800", False),
        ("Order 1234 is late.", "Order 5678 is late.", False),
    ],
)  # fmt: skip
def test_what_is_alike(first: str, second: str, alike: bool) -> None:
    assert list(Sketch.of([(first,), (second,)]).pairs()) == ([(0, 1)] if alike else [])


def test_no_text_and_one_text_have_no_pairs() -> None:
    assert len(Sketch.of([]).pairs()) == len(Sketch.of([("alone",)]).pairs()) == 0
    assert len(Sketch.of([]).joined(Sketch.of([("alone",)])).pairs()) == 0
    assert len(Sketch.of([]).across(Sketch.of([("alone",)]))) == len(Sketch.of([("alone",)]).across(Sketch.of([]))) == 0


def shingles(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[i : i + 5] for i in range(len(padded) - 4)}


def test_the_index_is_that_of_the_sets_and_all_alike_pairs_are_found() -> None:
    generator = np.random.default_rng(3)
    texts = [text_of(i, 20) for i in range(100)]
    for text in texts[:100]:
        words = text.split()
        for at in generator.integers(0, len(words), generator.integers(1, 4)):
            words[at] = "other"
        texts.append(" ".join(words))
    sets = [shingles(text) for text in texts]
    true = {
        (i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
    }
    pairs = Sketch.of([(text,) for text in texts]).pairs()
    assert {pair for pair, index in true.items() if index >= 0.8} == set(pairs)
    halves = Sketch.of([(text,) for text in texts[:100]]), Sketch.of([(text,) for text in texts[100:]])
    assert {(a, b + 100) for a, b in halves[0].across(halves[1])} == set(pairs)
    assert len(pairs) > 30
    assert np.allclose(pairs.index, [true[pair] for pair in pairs])
    assert jaccard(["abcdef", "same"], ["abcdeg", "same"]).tolist() == [pytest.approx(2 / 6), 1.0]


def test_a_thousand_alike_texts_are_all_found_without_a_million_pairs() -> None:
    sketch = Sketch.of([(f"{LONG} {number}",) for number in range(1000)])
    pairs = sketch.pairs()
    assert len(np.unique([*pairs.first, *pairs.second])) == 1000
    assert len(pairs) < 3000
    assert (
        len(np.unique(sketch.across(Sketch.of([(f"{LONG} {number}",) for number in range(2000, 2100)])).second)) == 100
    )


def test_five_thousand_texts_of_fifty_words_take_less_than_three_seconds() -> None:
    generator = np.random.default_rng(5)
    vocabulary = np.array([text_of(i, 1) for i in range(5000)])
    texts = [" ".join(row) for row in vocabulary[generator.integers(0, 5000, (5000, 50))]]
    began = time.process_time()
    assert len(Sketch.of([(text,) for text in texts]).pairs()) == 0
    assert time.process_time() - began < 3  # 100,000 in less than a minute


# -- leaks ---------------------------------------------------------------------------------------------


def test_a_label_that_is_written_into_its_inputs_is_a_problem() -> None:
    rows = [(f"[id:{label.upper()}] {text}", label) for text, label in plain(0, 80, "xy")]
    named = [(text.replace("X", "BILLING").replace("Y", "REFUND"), {"x": "billing", "y": "refund"}[label])
             for text, label in rows]  # fmt: skip
    data = splits(named[:40], named[40:], plain(300, 40))
    [leak] = examine_leaks(data)
    assert leak.level == "problem"
    assert '"refund" is in 100 % of the inputs of "refund" and in 0 % of the others' in leak.message
    [giveaway] = examine_giveaways(data)
    assert giveaway.level == "problem"


def test_a_name_in_all_inputs_gives_nothing_away() -> None:
    rows = [(f"Spam or ham? {text}", {"a": "spam", "b": "ham"}[label]) for text, label in plain(0, 80)]
    data = splits(rows[:40], rows[40:], rows[:2])
    assert levels([*examine_leaks(data), *examine_giveaways(data)]) == ["fine", "fine"]


def test_a_name_inside_a_word_does_not_count() -> None:
    rows = [(f"{'hamster' if label == 'a' else 'spammer'} {text}", {"a": "ham", "b": "spam"}[label])
            for text, label in plain(0, 80)]  # fmt: skip
    [found] = examine_leaks(splits(rows[:40], rows[40:], rows[:2]))
    assert (found.level, found.details["names"]) == ("fine", [])


def test_label_words_and_names_of_several_words_are_looked_for() -> None:
    rows = [(f"{text} card arrival" if label == "a" else f"{text} NEGATIVE!", label) for text, label in plain(0, 80)]
    rows = [(text, {"a": "card_arrival", "b": "0"}[label]) for text, label in rows]
    [found] = examine_leaks(splits(rows[:40], rows[40:], rows[:2]), {"0": " negative", "card_arrival": "x"})
    assert {(n["word"], n["share"]) for n in found.details["names"]} == {("card_arrival", 1.0), ("negative", 1.0)}


def test_a_giveaway_that_is_no_word_is_found() -> None:
    rows = [(f"{text} ###" if label == "a" else text, label) for text, label in plain(0, 80)]
    [found] = examine_giveaways(splits(rows[:40], rows[40:], rows[:2]))
    assert found.level == "warning"
    assert found.details["words"][0]["word"] == "###"
    assert found.details["words"][0]["share"] == 1.0


def test_a_pair_of_common_words_is_found() -> None:
    rows = [(f"{'dear sir' if label == 'a' else 'sir dear'} {text}", label) for text, label in plain(0, 80)]
    [found] = examine_giveaways(splits(rows[:40], rows[40:], rows[:2]))
    assert {word["word"] for word in found.details["words"]} == {"dear sir", "sir dear"}


def test_topical_words_are_fine_and_told(topics_rows: list[dict[str, str]]) -> None:
    topical = [(f"{text} {'goal' if label == 'a' and i % 3 == 0 else ''}", label)
               for i, (text, label) in enumerate(plain(0, 240))]  # fmt: skip
    [found] = examine_giveaways(splits(topical[:120], topical[120:], topical[:2]))
    assert (found.level, found.details["words"][0]["word"]) == ("fine", "goal")
    rows = [(row["text"], row["topic"]) for row in topics_rows]
    data = splits(rows[:30], rows[30:], rows[:3])
    assert levels([*examine_leaks(data), *examine_giveaways(data)]) == ["fine", "fine"]


def test_random_words_give_nothing_away() -> None:
    generator = np.random.default_rng(1)
    rows = [(" ".join(generator.choice(WORDS, 8)), "ab"[int(generator.integers(2))]) for _ in range(300)]
    [found] = examine_giveaways(splits(rows[:150], rows[150:], rows[:2]))
    assert found.details["words"] == []


def test_a_common_label_gives_no_word_away() -> None:
    rows = [(f"the {text}", "a" if i % 30 else "b") for i, (text, _) in enumerate(plain(0, 300))]
    [found] = examine_giveaways(splits(rows[:150], rows[150:], rows[:2]))
    assert found.details["words"] == []


def test_the_exact_tail_is_fishers() -> None:
    assert exact_tail(3, 4, 4, 8) == pytest.approx(17 / 70)  # the lady tasting tea
    assert exact_tail(0, 4, 4, 8) == pytest.approx(1.0)
    assert exact_tail(1, 5, 8, 8) == pytest.approx(1.0)
    assert exact_tail(400, 400, 400, 800) < 1e-200


def test_holm_adjusts_for_all_that_was_tried() -> None:
    assert holm([0.01, 0.04, 0.03], 3).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01], 10).tolist() == pytest.approx([0.1])
    assert holm([], 4).tolist() == []
    assert holm([0.9, 0.9], 2).tolist() == [1.0, 1.0]


def test_words_of_any_script() -> None:
    assert words_of("[id:BILLING] Don't!! 我的卡") == ["[", "id", ":", "billing", "]", "don", "'", "t", "!!", *"我的卡"]


# -- balance and size ----------------------------------------------------------------------------------


def test_missing_and_rare_labels_are_told_by_split() -> None:
    train, dev, test = good()
    found = examine_balance(splits([*train, *[(text_of(900 + i), "c") for i in range(3)]], dev, test))
    assert levels(found) == ["warning"] * 3
    assert found[0].details["missing"] == {"train": [], "dev": ["c"], "test": ["c"]}
    assert found[1].details["few"]["train"] == ["c"]
    assert found[2].details["counts"]["train"] == {"a": 20, "b": 20, "c": 3}


def test_a_dominant_label_and_its_accuracy_are_told() -> None:
    rows = plain(0, 100, "a" * 9 + "b")
    [found] = [f for f in examine_balance(splits(rows, rows, rows)) if "largest" in f.details]
    assert 'always answers "a" has an accuracy of 0.90' in found.message


def test_one_label_is_a_problem() -> None:
    rows = plain(0, 20, "a")
    assert levels(examine_balance(splits(rows, rows, rows))) == ["problem"]


def test_labels_that_differ_in_writing_alone_are_a_problem() -> None:
    rows = [(text, {"a": "Bill Pay", "b": "bill_pay"}[label]) for text, label in plain(0, 40)]
    [found] = examine_balance(splits(rows, rows, rows))
    assert (found.level, found.details["twins"]) == ("problem", [["Bill Pay", "bill_pay"]])


def test_labels_of_test_are_counted() -> None:
    assert label_counts(splits(*good()))["test"] == {"a": 120, "b": 120}


@pytest.mark.parametrize(("count", "level"), [(3, "problem"), (20, "problem"), (100, "warning"), (200, "fine")])
def test_the_size_of_test_is_judged_by_what_it_can_show(count: int, level: str) -> None:
    train, dev, _ = good()
    [found] = examine_size(splits(train, dev, plain(0, count)))
    assert (found.check, found.level) == ("size", level)
    assert json.dumps(found.record(), allow_nan=False)
    if count == 200:
        assert "With 200 test examples the smallest difference that can be shown is 9.1 points" in found.message
        assert "disagree in being right on 20 %" in found.message


@pytest.mark.parametrize(("examples", "discordant"), [(40, 0.3), (200, 0.2), (600, 0.1)])
def test_a_difference_that_can_be_shown_is_shown_in_four_of_five_searches(examples: int, discordant: float) -> None:
    difference = smallest_difference(examples, discordant)
    generator = np.random.default_rng(7)
    share = max(discordant, difference)
    chances = [(share + difference) / 2, max(0.0, (share - difference) / 2), 1 - share]
    better, worse, _ = generator.multinomial(examples, chances, 4000).T
    limit = {m: two_sided_limit(m) for m in {*map(int, better + worse)}}
    shown = np.mean([b >= limit[int(b + w)] for b, w in zip(better, worse, strict=True)])
    assert abs(shown - 0.8) < 0.02


def two_sided_limit(discordant: int) -> float:
    """How many of so many must be better for an exact p of at most 5 %."""
    tail = 0
    for hits in range(discordant, -1, -1):
        tail += math.comb(discordant, hits)
        if 2 * tail > 0.05 * 2**discordant:
            return hits + 1
    return 0


def test_the_exact_and_the_normal_power_agree_on_many_examples() -> None:
    assert examples_for(smallest_difference(2000)) == pytest.approx(2000, rel=0.04)
    assert examples_for(smallest_difference(5000)) == pytest.approx(5000, rel=0.03)  # of which one corrects for counts


def test_more_examples_show_less() -> None:
    shown = [smallest_difference(count) for count in (6, 10, 50, 200, 1000, 3000)]
    assert shown == sorted(shown, reverse=True)
    assert smallest_difference(5) == smallest_difference(0) == math.inf
    assert smallest_difference(200, 0.0) == smallest_difference(200, -1.0) < smallest_difference(200, 2.0)


# -- encoding ------------------------------------------------------------------------------------------


def damaged(text: str, encoding: str, times: int = 1) -> str:
    for _ in range(times):
        text = text.encode("utf-8").decode(encoding)
    return text


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize(
    "text", ["café au lait", "naïve Übergröße", "it’s “fine” – really…", "5 € for 20 °C", "привет, как дела", "日本語です",
             "nice 😀"]
)  # fmt: skip
def test_utf8_that_was_read_wrong_is_repaired(text: str, times: int) -> None:
    wrong = damaged(text, "latin-1", times)
    assert repaired(wrong) == text
    train, dev, test = good()
    [found] = examine_encoding(splits([*train, (wrong, "a")], dev, test))
    assert found.details["kind"] == "mojibake"


@pytest.mark.parametrize("text", ["it’s", "café", "naïve señor", "20 °C"])
def test_utf8_that_was_read_as_windows_is_repaired(text: str) -> None:
    assert repaired(damaged(text, "cp1252")) == text
    assert repaired(damaged(text, "cp1252", 2)) == text


@pytest.mark.parametrize(
    "text",
    ["plain", "café", "Ça va, été…»", "«\u00a0café\u00a0»", "“MAÇÔ", "Der »Spaß«", "¿Qué?", "Ångström", "São Paulo",
     "Ünal’ın", "naïve", "â la carte", "Привет", "日本語", "किताब", "שלום", "👨‍👩‍👧", "x < y && y > z", "a & b; c", "5 &notanentity; 6",
     "می‌خواهم", "\u200fשלום", "👍", "AT&T", "I <3 you", "<script", "1.5 > 1"],
)  # fmt: skip
def test_good_texts_of_many_scripts_are_not_called_damaged(text: str) -> None:
    train, dev, test = good()
    assert repaired(text) == text
    assert levels(examine_encoding(splits([*train, (text, "a")], dev, test))) == ["fine"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("caf\ufffd", "replacement"),
        ("a\x1b[31mred", "control"),
        ("bell\x07", "control"),
        ("tax\ufeff free", "byte-order mark"),
        ("Tom &amp; Jerry", "markup"),
        ("it&#39;s", "markup"),
        ("one<br/>two", "markup"),
        ('<a href="x">y</a>', "markup"),
        ("zero\u200bwidth", "unseen"),
        ("join\u200der", "unseen"),
        ("soft\u00adhyphen", "unseen"),
        ("evil\u202etxt.exe", "direction"),
        ("left\u200eright", "direction"),
        ("?!", "empty"),
        ("N/A", "empty"),
        ("word " * 1000, "long"),
    ],
)
def test_each_kind_of_damage_is_found_and_shown_inert(text: str, kind: str) -> None:
    train, dev, test = good()
    [found] = examine_encoding(splits([*train, (text, "a")], dev, test))
    assert (found.level, found.details["kind"], found.details["texts"]) == ("warning", kind, 1)
    assert found.details["row"] == "train row 40"
    assert found.message.replace("\ufffd", "").isprintable()


def test_much_damage_is_a_problem() -> None:
    rows = [(damaged("café " + text, "latin-1"), label) for text, label in plain(0, 40)]
    assert levels(examine_encoding(splits(rows, *good()[1:]))) == ["problem"]


def test_damage_of_test_alone_is_counted() -> None:
    train, dev, test = good()
    [found] = examine_encoding(splits(train, dev, [*test, ("Tom &amp; Jerry", "a")]))
    assert found.details == {"kind": "markup", "texts": 0, "test": 1}


def test_two_spellings_of_accents_are_found_and_one_is_fine() -> None:
    train, dev, test = good()
    composed, apart = ("café", "a"), ("cafe\u0301s", "a")
    [found] = examine_encoding(splits([*train, composed], [*dev, apart], test))
    assert found.details["kind"] == "normalisation"
    assert found.message.isascii()
    assert levels(examine_encoding(splits([*train, apart], [*dev, ("the\u0301s", "b")], test))) == ["fine"]
    assert levels(examine_encoding(splits([*train, composed], [*dev, ("thés", "b")], test))) == ["fine"]


# -- wording -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 10, "0 %"), (1, 1, "100 %"), (1, 3, "33 %"), (1, 10_000, "0.1 %"), (9_999, 10_000, "99.9 %"), (1, 0, "0 %")],
)
def test_shares_are_never_rounded_to_none_or_all(part: float, whole: float, said: str) -> None:
    assert percent(part, whole) == said


def test_a_quoted_text_is_short_and_inert() -> None:
    assert quoted("a\nb\x1b[0m\u202e") == '"a b\\x1b[0m\\u202e"'
    assert quoted("x" * 70) == '"' + "x" * 60 + '..."'
    assert quoted("a" * 100 + "HERE" + "b" * 100, around=100) == '"...' + "a" * 30 + "HERE" + "b" * 26 + '..."'
    fields: dict[str, Any] = {"a": "one", "b": "two"}
    assert quoted(fields) == '"one / two"'


def test_rows_are_listed_in_order_and_not_without_end() -> None:
    assert listed([3, 1, 3, 2]) == [1, 2, 3]
    assert len(listed(range(100))) == 20
