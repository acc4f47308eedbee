"""What the Markdown report tells of doctor, verdict, reasons and flips, from the journal alone."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from told import finished, records, started

from autoprompt import events
from autoprompt.errors import ResultsError
from autoprompt.report import write_report
from autoprompt.wording import plain

WHOLE = records(finished())
TOLD = {
    "Finding": ["What the doctor found"],
    "BaselineScored": ["Baselines to beat"],
    "VerdictDetailed": ["How sure that is", "Class by class, the worst first", "The winner's answers"],
    "GainExplained": ["Why it wins"],
    "PromptShortened": ["The shortest prompt that does as well"],
    "RobustnessMeasured": ["Under changes that should not matter"],
    "PromptsTransferred": ["On other models"],
    "ExamplesFlipped": ["What changed its answer"],
}


def sections(journal: list[dict[str, Any]]) -> dict[str, str]:
    """The report's sections by their titles."""
    return dict(part.split("\n\n", 1) for part in write_report(journal).split("\n## ")[1:])


def changed(name: str, **values: Any) -> list[dict[str, Any]]:
    """The whole run with other values in all events of a kind."""
    return [{**event, **values} if event["event"] == name else event for event in WHOLE]


def table(text: str) -> list[list[str]]:
    """The cells of a section's tables, heads included."""
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines if not set("".join(cells)) <= set("- |")]


# -- what is told --------------------------------------------------------------------------------


def test_the_doctors_problems_come_before_its_warnings_and_what_is_fine_is_counted() -> None:
    assert sections(WHOLE)["What the doctor found"].strip() == (
        '- problem (leak): The label stands in 12 % of the texts, e.g. "\\[billing\\] hello".\n'
        '- warning (imbalance): The label "sales" has 4 % of the examples.\n\n'
        "1 check more found nothing wrong."
    )


def test_a_doctor_that_found_nothing_says_so() -> None:
    found = sections(changed("Finding", level="fine"))["What the doctor found"]
    assert found.strip() == "Nothing, in 3 checks."


def test_a_finding_told_again_by_a_resumed_run_counts_once() -> None:
    assert sections([*records(started()), *WHOLE])["What the doctor found"] == sections(WHOLE)["What the doctor found"]


@pytest.mark.parametrize(
    ("maximize", "first", "last"), [(True, "the winner", "majority class"), (False, "majority class", "the winner")]
)
def test_baselines_stand_with_your_prompt_and_the_winner_the_best_first(maximize: bool, first: str, last: str) -> None:
    journal = [{**e, "maximize": maximize} if e["event"] == "RunStarted" else e for e in WHOLE]
    rows = table(sections(journal)["Baselines to beat"])[1:]
    assert {row[0] for row in rows} == {
        "the winner",
        "linear probe",
        "random demonstrations",
        "your prompt",
        "majority class",
    }
    assert (rows[0][0], rows[-1][0]) == (first, last)
    assert ["linear probe", "0.7000", ""] in rows


def test_test_smallest_difference_and_strongest_baseline_are_told() -> None:
    assert sections(WHOLE)["How sure that is"].strip().splitlines() == [
        "- exact test of winner against your prompt: p = 0.0012, two-sided (McNemar)",
        "- the smallest difference that 210 test examples can show: 0.061",
        "- strongest baseline: linear probe, 0.7050; the winner minus it: +0.033 (-0.020 to +0.090, 95 % paired "
        "interval, p = 0.2700)",
    ]


def test_a_verdict_without_a_rival_tells_of_none() -> None:
    assert "strongest" not in write_report(changed("VerdictDetailed", rival={}))


def test_classes_stand_with_the_winners_worst_first() -> None:
    rows = table(sections(WHOLE)["Class by class, the worst first"])
    assert rows[1] == ["account", "30", "50 %", "55 %", "+5"]
    assert [row[0] for row in rows[1:]] == [
        "account",
        "billing",
        "feedback",
        "returns",
        "sales",
        "shipping",
        "technical",
    ]


def test_of_very_many_classes_the_worst_are_shown_and_the_others_counted() -> None:
    classes = {f"c{n}": {"examples": 1.0, "baseline": 0.5, "winner": n / 200} for n in reversed(range(150))}
    found = sections(changed("VerdictDetailed", classes=classes))["Class by class, the worst first"]
    assert [row[0] for row in table(found)[1:]] == [f"c{n}" for n in range(30)]
    assert found.strip().endswith("… and 120 more classes in events.jsonl")


def test_the_ledger_and_the_calibration_error_are_told() -> None:
    found = sections(WHOLE)["The winner's answers"]
    assert table(found)[1:] == [
        ["right", "155", "73.8 %"], ["wrong", "54", "25.7 %"], ["unparseable", "0", "0.0 %"],
        ["truncated", "2", "1.0 %"], ["too long", "1", "0.5 %"],
    ]  # fmt: skip
    assert "Truncated inputs and answers are counted among the others as well." in found
    assert "your prompt 0.180, winner 0.070." in found


def test_what_each_part_earned_is_a_table_the_largest_first() -> None:
    found = sections(WHOLE)["Why it wins"]
    assert found.startswith("60 % of the gain is demonstration 1")
    assert "All parts together: +0.102 on 210 examples of dev." in found
    assert [row[0] for row in table(found)[1:]] == ["demonstration 1", "demonstration 3", "label words", "instruction"]
    assert table(found)[4] == [
        "instruction", "-0.012", "-0.030 to +0.010", "-12 %", "-0.006", "-0.004", "Sort the message by team.",
    ]  # fmt: skip


def test_the_shortest_prompt_is_shown_with_what_was_left_out() -> None:
    found = sections(WHOLE)["The shortest prompt that does as well"]
    assert table(found)[1:] == [
        ["winner", "112", "0.7430"], ["shortest", "84", "0.7410"], ["difference", "-28", "-0.002 (-0.008 to +0.004)"],
    ]  # fmt: skip
    assert "Left out: demonstration 2." in found
    assert "```text\nSort the message by team." in found


def test_where_nothing_can_be_left_out_the_prompt_is_not_shown_again() -> None:
    found = sections(changed("PromptShortened", dropped=[], sentence="Nothing can be left out."))
    assert found["The shortest prompt that does as well"].strip() == "Nothing can be left out."


@pytest.mark.parametrize(
    ("maximize", "first"), [(True, ["e: change 7", "0.1000", "-0.643"]), (False, ["e: change 0", "0.8000", "+0.057"])]
)
def test_the_five_worst_changes_are_told(maximize: bool, first: list[str]) -> None:
    rows = [{"kind": "e", "change": f"change {n}", "value": 0.8 - n / 10} for n in range(8)]
    journal = [
        {**e, "maximize": maximize} if e["event"] == "RunStarted" else e
        for e in changed("RobustnessMeasured", rows=rows)
    ]
    found = sections(journal)["Under changes that should not matter"]
    assert ["worst of your prompt under the same", "0.5500"] in table(found)
    shown = table(found.split("The worst of 8 changes:")[1])[1:]
    assert len(shown) == 5
    assert shown[0] == first


def test_other_models_are_a_matrix_with_what_was_left_out_below() -> None:
    rows = [
        {"model": "one", "values": {"your prompt": 0.5, "winner": 0.75}, "left_out": {}},
        {"model": "two", "values": {"winner": 0.5}, "left_out": {"your prompt": "It does not fit."}},
    ]
    found = sections(changed("PromptsTransferred", rows=rows))["On other models"]
    assert table(found) == [["model", "your prompt", "winner"], ["one", "0.5000", "0.7500"], ["two", "–", "0.5000"]]
    assert "- two: your prompt is left out (It does not fit.)" in found


def test_ten_gained_and_ten_lost_examples_are_told_on_a_line_each() -> None:
    turns = ["gained"] * 12 + ["other"] * 3 + ["lost"] * 10
    examples = [
        {
            "number": n,
            "fields": {"text": f"text {n}"},
            "label": "a",
            "before": "b",
            "after": "a",
            "shift": 0.5,
            "turn": turn,
        }
        for n, turn in enumerate(turns)
    ]
    found = sections(changed("ExamplesFlipped", gained=12, lost=10, examples=examples))["What changed its answer"]
    assert found.startswith("Against your prompt the winner gains 12 test examples and loses 10.")
    assert found.count("\n- example ") == 20
    assert found.count("more in events.jsonl") == 1
    assert "- example 0 (a; before b, now a; P of the right label +0.50): text 0\n" in found
    assert "text 12" not in found


def test_an_example_of_two_fields_names_them_and_a_long_one_is_cut() -> None:
    example = {"number": 1, "label": "a", "before": "b", "after": "a", "shift": None, "turn": "gained"}
    fields = [{"title": "one", "body": "two"}, {"text": "word " * 2_000}, {}]
    examples = [{**example, "fields": found} for found in fields]
    lines = sections(changed("ExamplesFlipped", examples=examples))["What changed its answer"].splitlines()
    lines = [line for line in lines if line.startswith("- example")]
    assert lines[0].endswith("P of the right label –): title: one; body: two")
    assert lines[1].endswith("more characters)")
    assert max(map(len, lines)) < 300


# -- what may be missing or strange --------------------------------------------------------------


@pytest.mark.parametrize("name", TOLD)
def test_a_journal_without_an_event_is_told_without_its_sections_alone(name: str) -> None:
    whole, rest = sections(WHOLE), sections([event for event in WHOLE if event["event"] != name])
    assert set(TOLD[name]) <= set(whole)
    assert list(rest) == [title for title in whole if title not in TOLD[name]]


@pytest.mark.parametrize("size", range(1, len(WHOLE), 7))
def test_a_run_killed_anywhere_has_a_report(size: int) -> None:
    report = write_report(WHOLE[:size])
    assert "\n\n\n" not in report
    assert "None" not in report


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_numbers_that_are_none_are_dashes(value: float | None) -> None:
    classes = {
        "a": {"examples": 0.0, "baseline": value, "winner": value},
        "b": {"examples": 1.0, "baseline": 0.0, "winner": 1.0},
    }
    rival = {"name": "x", "value": value, "difference": value, "interval": [value, value], "p": value}
    journal = changed(
        "VerdictDetailed", p=value, detectable=value, classes=classes, rival=rival, calibration={"winner": value}
    )
    found = sections(json.loads(json.dumps(journal)))
    assert table(found["Class by class, the worst first"])[1:] == [
        ["b", "1", "0 %", "100 %", "+100"],
        ["a", "0", "–", "–", "–"],
    ]
    assert "nan" not in write_report(journal)
    assert "inf" not in found["How sure that is"]


def test_a_text_of_a_million_characters_does_not_fill_the_report() -> None:
    long = "x" * 1_000_000
    journal = changed("Finding", message=long)
    assert len(write_report(journal)) < 50_000
    assert "… (999,000 more characters)" in write_report(journal)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Finding", {"level": ["problem"], "check": {}}),
        ("BaselineScored", {"value": "much"}),
        ("VerdictDetailed", {"classes": [1]}),
        ("VerdictDetailed", {"ledger": {"right": "x"}}),
        ("ExamplesFlipped", {"examples": [{"turn": "gained"}]}),
        ("ExamplesFlipped", {"examples": [5]}),
        ("GainExplained", {"parts": [{"part": "x"}]}),
        ("PromptShortened", {"tokens": [1]}),
        ("RobustnessMeasured", {"rows": [{"value": "x"}]}),
        ("PromptsTransferred", {"rows": [{"model": "x", "values": {"winner": []}}]}),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(ResultsError, match=r"^The journal has an event that cannot be told \(\w+: "):
        write_report(changed(name, **values))


def test_a_real_event_of_every_kind_is_known_to_these_tests() -> None:
    assert set(TOLD) <= {event["event"] for event in WHOLE}
    assert set(TOLD) <= set(events.__all__)


def test_nothing_in_the_report_acts_on_a_terminal() -> None:
    report = write_report(changed("GainExplained", sentence="\x1b[2J\u202e"))
    assert report == plain(report)
