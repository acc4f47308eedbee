"""Events on the terminal, and as plain lines where there is none."""

from __future__ import annotations

import dataclasses
import io
import re
import time
from typing import Any

import pytest
from rich.console import Console

from autoprompt import display as display_module
from autoprompt import events
from autoprompt.display import THEME, Display

START = events.RunStarted("demo", False, "accuracy", True, 7, 80)


def trial(number: int, kind: str, value: float, **more: Any) -> events.TrialFinished:
    fields = {"margin": 0.1, "examples": 96, "tokens": 1000, "seconds": 0.5, "fingerprint": "f", "text": "text"}
    return events.TrialFinished(number, kind, value, **{**fields, **more})


def shown(*found: events.Event) -> list[str]:
    """The lines of a log."""
    file = io.StringIO()
    display = Display(Console(file=file, theme=THEME, highlight=False, width=200))
    with display:
        for event in found:
            display(event)
    return file.getvalue().splitlines()


def panel(*found: events.Event) -> str:
    """The live view after some events."""
    file = io.StringIO()
    console = Console(file=file, theme=THEME, highlight=False, width=100)
    display = Display(console)
    for event in found:
        display(event)
    file.truncate(0)
    console.print(display.view())
    return file.getvalue()


def test_a_record_of_its_kind_is_told_with_the_branch_that_made_it() -> None:
    lines = shown(START, trial(0, "baseline", 0.5, branch="baseline"), trial(1, "discrete", 0.6, branch="edits"))
    assert lines[1:] == [
        "trial 0 (baseline): accuracy 0.5000 best of its kind",
        "trial 1 (discrete, edits): accuracy 0.6000 best of its kind",
    ]


def test_a_dropped_trial_is_no_record() -> None:
    dropped = trial(2, "discrete", 0.9, branch="edits", examples=8, dropped=True)
    lines = shown(START, trial(1, "discrete", 0.6), dropped, trial(3, "discrete", 0.7))
    assert len(lines) == 3
    assert lines[-1] == "trial 3 (discrete): accuracy 0.7000 best of its kind"
    assert "best accuracy  discrete 0.7000" in panel(START, trial(1, "discrete", 0.7), dropped)


def test_every_tenth_trial_is_told_and_a_dropped_one_with_its_examples() -> None:
    dropped = [trial(n, "discrete", 0.9, branch="edits", examples=8, dropped=True) for n in range(1, 21)]
    assert shown(START, *dropped)[1:] == [
        "trial 10 (discrete, edits): accuracy 0.9000 on 8 examples, dropped",
        "trial 20 (discrete, edits): accuracy 0.9000 on 8 examples, dropped",
    ]


def test_the_best_of_a_minimized_metric_is_the_lowest() -> None:
    start = events.RunStarted("demo", False, "log_loss", False, 7, 80)
    lines = shown(start, trial(0, "soft", 0.5), trial(1, "soft", 0.6), trial(2, "soft", 0.4))
    assert [line.split()[1] for line in lines[1:]] == ["0", "2"]


def test_a_finalist_is_told_with_its_estimate_and_whether_it_is_beyond_luck() -> None:
    sure = events.Confirmed(3, "soft", 0.7, 0.1, "f", 0.66, 5.0, True)
    unsure = events.Confirmed(4, "soft", 0.6, 0.1, "f", 0.58, 0.1)
    assert shown(sure, unsure) == [
        "on all of dev: trial 3 (soft) 0.7000, estimate 0.6600",
        "on all of dev: trial 4 (soft) 0.6000, estimate 0.5800, not beyond luck",
    ]


def test_the_live_view_counts_what_was_reached_dropped_and_failed() -> None:
    told = panel(
        START,
        events.StageStarted("search"),
        trial(0, "baseline", 0.5, examples=1000),
        trial(1, "soft", 0.6, examples=234, dropped=True),
        events.TrialFailed(2, "soft", "why"),
    )
    assert "3 of 80, 1 dropped early, 1 failed, 1,234 evaluations" in told
    assert "2,000 tokens/s" in told
    assert "s left in this stage" in told


def test_a_resumed_run_goes_on_counting_from_where_it_was() -> None:
    again = events.RunStarted("demo", True, "accuracy", True, 7, 80)
    assert "64 of 80, 0 dropped early" in panel(again, trial(63, "soft", 0.6))


def test_a_run_behind_another_begins_anew() -> None:
    following = events.RunStarted("next", False, "accuracy", True, 7, 40)
    assert "0 of 40, 0 dropped early" in panel(START, trial(0, "baseline", 0.5), trial(3, "soft", 0.6), following)


def test_markup_in_what_is_told_is_shown_as_it_stands() -> None:
    assert shown(events.TrialFailed(1, "soft", "[bold]x[/] of [1, 2]")) == [
        "trial 1 (soft) failed: [bold]x[/] of [1, 2]"
    ]


def test_metrics_beside_the_one_that_is_chosen_by_are_told_in_the_line_of_the_answers() -> None:
    told = events.VerdictDetailed(
        "McNemar", 0.5, 0.1, {}, {}, {}, {"right": 9}, {"mcc": [0.5, 0.625], "[b]x": [1.0, 0.0]}
    )
    assert shown(START, told)[1:] == [
        "answers: 9 right; McNemar p = 0.5; also mcc 0.5000 → 0.6250, [b]x 1.0000 → 0.0000"
    ]


PLAN = events.PlanMade(
    240, 1.25, {"search": 7000.0, "confirm": 0.2, "verdict": 12.0, "finetune": 400.0, "export": 1.0}, 456_000_000,
    22_000_000, 10_000_000_000, 7500.0,
)  # fmt: skip


def test_a_plan_is_told_in_two_lines() -> None:
    first, second = shown(START, PLAN)[1:]
    assert re.fullmatch(
        r"plan: about 240 trials; search 1 h 57 min, verdict 12 s, finetune 7 min, export 1 s; done by \w+ \d\d:\d\d",
        first,
    )
    assert second == "plan: 1.25 ms an example, memory 456 MB, disk 22 MB"


def test_a_disk_that_is_too_small_is_told_with_the_plan() -> None:
    assert shown(START, dataclasses.replace(PLAN, disk_free=1_000_000))[-1].endswith(
        "disk 22 MB, and only 1 MB are free"
    )


def test_without_a_terminal_there_is_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "MINUTE", 0.01)
    file = io.StringIO()
    display = Display(Console(file=file, theme=THEME, highlight=False, width=200))
    with display:
        for event in (START, PLAN, events.StageStarted("search"), trial(1, "discrete", 0.6)):
            display(event)
        until = time.monotonic() + 30
        while "discrete 0.6000, about" not in file.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    lines = [line for line in file.getvalue().splitlines() if "left" in line]
    assert re.fullmatch(r"\d\d:\d\d search: 2 of 80 trials, best discrete 0\.6000, about 2 h 0[45] min left", lines[-1])
    after = len(file.getvalue())
    time.sleep(0.05)
    assert len(file.getvalue()) == after


def test_trials_without_a_limit_are_not_counted_down() -> None:
    start = dataclasses.replace(START, trials=events.UNBOUNDED)
    assert shown(start) == ["demo: metric accuracy, seed 7"]
    assert re.search(r"trials +2, 0 dropped early", panel(start, trial(1, "discrete", 0.6)))
