"""The run told on one page, from the journal alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoprompt import events
from autoprompt.cli import main
from autoprompt.report import write_report
from autoprompt.results import RunFolder, read_journal

ROOT = Path(__file__).parents[1]


def records(*found: events.Event) -> list[dict[str, Any]]:
    """The events as they come back from a journal."""
    return [json.loads(json.dumps({"at": 1.0, **event.record()})) for event in found]


def trial(number: int, kind: str, value: float, margin: float = 0.1, **more: Any) -> events.TrialFinished:
    fields = {"examples": 96, "tokens": 1000, "seconds": 0.5, "fingerprint": f"{number:016x}", "text": f"text {number}"}
    return events.TrialFinished(number, kind, value, margin, **{**fields, **more})


def confirmed(number: int, kind: str, value: float, margin: float = 0.1, **more: Any) -> events.Confirmed:
    return events.Confirmed(number, kind, value, margin, f"{number:016x}", **more)


START: list[events.Event] = [
    events.RunStarted("demo", False, "accuracy", True, 7, 80),
    events.ModelLoaded("builtin", "causal", "cpu", "float32", 7_250_000),
    events.DataRead(280, 210, 209, ("a", "b", "c"), 4),
]
SEARCH: list[events.Event] = [
    trial(0, "baseline", 0.5),
    trial(1, "discrete", 0.7),
    trial(2, "discrete", 0.9),
    trial(3, "discrete", 0.8),
    trial(4, "soft", 0.6),
    trial(5, "soft", 0.85),
    events.StageFinished("search", 61.7, 1_234_567),
]
END: list[events.Event] = [
    confirmed(0, "baseline", 0.52),
    confirmed(2, "discrete", 0.81),
    confirmed(3, "discrete", 0.83),
    confirmed(5, "soft", 0.79),
    events.WinnerChosen(3, "discrete", 0.83, "3" * 16, "Text: {text}\n```\nLabel: {label}"),
    events.TestOpened("the verdict", 1),
    events.VerdictReached("improved", "The winner is better than your prompt.", 0.51, 0.8, (0.21, 0.37), 0.91),
    events.RunFinished(100.0, 0),
]
FINISHED = records(*START, *SEARCH, *END)


def rows(report: str) -> dict[str, list[str]]:
    """The rows of the report's tables by their first cell."""
    lines = [line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines}


def test_a_finished_run_is_told_with_its_verdict_first() -> None:
    report = write_report(FINISHED)
    assert report.startswith("# demo\n\n**The winner is better than your prompt.**\n\n")
    assert report.endswith("\n")
    assert not report.endswith("\n\n")


def test_the_scores_on_the_locked_test_are_told() -> None:
    report = write_report(FINISHED)
    assert rows(report)["your prompt"] == ["0.5100"]
    assert rows(report)["winner"] == ["0.8000"]
    assert rows(report)["winner + fine-tuning"] == ["0.9100"]
    assert "Winner minus your prompt: +0.2100 to +0.3700 (95 % paired interval)." in report


def test_a_run_without_fine_tuning_has_no_row_for_it() -> None:
    verdict = events.VerdictReached("worse", "Worse.", 0.5, 0.4, (-0.2, -0.01), None)
    report = write_report(records(*START, *SEARCH, verdict))
    assert "fine-tuning" not in report
    assert "Winner minus your prompt: -0.2000 to -0.0100" in report


def test_the_best_of_each_kind_is_the_one_that_was_best_on_all_of_dev() -> None:
    found = rows(write_report(FINISHED))
    assert found["baseline"] == ["1", "0", "0.5000", "0.5200", "0"]
    assert found["discrete"] == ["3", "0", "0.8000", "0.8300", "3"]
    assert found["soft"] == ["2", "0", "0.8500", "0.7900", "5"]


def test_before_confirmation_the_best_of_each_kind_is_that_of_the_search() -> None:
    found = rows(write_report(records(*START, *SEARCH)))
    assert found["baseline"] == ["1", "0", "0.5000", "–", "0"]
    assert found["discrete"] == ["3", "0", "0.9000", "–", "2"]
    assert found["soft"] == ["2", "0", "0.8500", "–", "5"]


def test_the_best_of_a_minimized_metric_is_the_lowest() -> None:
    start = events.RunStarted("demo", False, "log_loss", False, 7, 80)
    assert rows(write_report(records(start, *SEARCH)))["discrete"] == ["3", "0", "0.7000", "–", "1"]
    found = rows(write_report(records(start, *SEARCH, *END)))
    assert found["discrete"] == ["3", "0", "0.9000", "0.8100", "2"]


def test_a_kind_without_trials_has_no_row() -> None:
    report = write_report(records(*START, trial(0, "baseline", 0.5), trial(1, "discrete", 0.7)))
    assert {"baseline", "discrete"} <= rows(report).keys()
    assert "soft" not in rows(report)


def test_a_trial_told_twice_counts_once() -> None:
    assert write_report(records(*START, *SEARCH, *SEARCH[:6], *END)) == write_report(FINISHED)


@pytest.mark.parametrize(
    ("openings", "words"),
    [(1, "opened once."), (2, "opened 2 times (each time is an event in events.jsonl).")],
)
def test_how_often_the_test_was_opened_is_told(openings: int, words: str) -> None:
    opened = [events.TestOpened("the verdict", n + 1) for n in range(openings)]
    rest = [event for event in END if not isinstance(event, events.TestOpened)]
    assert f"The locked test split was {words}" in write_report(records(*START, *SEARCH, *opened, *rest))


def test_an_opened_test_without_a_verdict_is_told_too() -> None:
    report = write_report(records(*START, *SEARCH, events.TestOpened("the verdict", 1)))
    assert "there is no verdict yet" in report
    assert "opened once" in report


def test_the_winner_is_shown_as_it_stands() -> None:
    report = write_report(FINISHED)
    assert "## The winner\n\nTrial 3, discrete.\n\n````text\nText: {text}\n```\nLabel: {label}\n````" in report


@pytest.mark.parametrize("ticks", [3, 4, 5, 9])
def test_a_winner_with_backticks_does_not_leave_its_fence(ticks: int) -> None:
    text = f"Before\n{'`' * ticks}\n{{text}}\n{'`' * ticks}\nLabel: {{label}}"
    lines = write_report(records(*START, events.WinnerChosen(1, "discrete", 0.5, "f", text))).splitlines()
    opening = lines[lines.index("Before") - 1]
    fence = opening[: -len("text")]
    assert set(fence) == {"`"}
    assert len(fence) > ticks
    assert lines[lines.index("Label: {label}") + 1] == fence


def test_an_unfinished_run_is_told_as_far_as_it_went() -> None:
    report = write_report(records(*START, *SEARCH))
    assert report.startswith("# demo\n\nThe run is not finished: there is no verdict yet.\n\n")
    assert "## The winner" not in report
    assert "- search: 62 s, 1,234,567 tokens" in report


@pytest.mark.parametrize("size", range(len(START + SEARCH + END) + 1))
def test_a_run_killed_after_any_event_has_a_report(size: int) -> None:
    report = write_report(FINISHED[:size])
    assert report.startswith("# demo\n" if size else "Nothing has happened here yet.\n")
    assert ("there is no verdict yet" in report) == (0 < size < len(FINISHED) - 1)
    assert "None" not in report
    assert "\n\n\n" not in report


def test_a_failing_run_tells_every_failure() -> None:
    failed = [events.TrialFailed(n, "soft", f"RuntimeError: reason {n}") for n in (6, 7)]
    report = write_report(records(*START, *SEARCH, *failed, *END))
    assert "## 2 failed trials\n\n- trial 6 (soft): RuntimeError: reason 6\n- trial 7 (soft): " in report


def test_one_failure_is_told_in_the_singular() -> None:
    report = write_report(records(*START, *SEARCH, events.TrialFailed(6, "soft", "why")))
    assert "## 1 failed trial\n" in report


def test_a_failure_told_twice_counts_once() -> None:
    failed = events.TrialFailed(6, "soft", "why")
    report = write_report(records(*START, *SEARCH, failed, failed))
    assert report.count("- trial 6 (soft): why") == 1


def test_many_failures_are_counted_all_and_shown_in_part() -> None:
    failed = [events.TrialFailed(n, "soft", "why") for n in range(30)]
    report = write_report(records(*START, *failed))
    assert "## 30 failed trials" in report
    assert report.count("(soft): why") == 20
    assert "10 more" in report


def test_a_reason_of_many_lines_stays_one_item() -> None:
    report = write_report(records(*START, events.TrialFailed(1, "soft", "one\n\n# two")))
    assert "\n# two" not in report


def test_a_run_without_failures_has_no_word_of_them() -> None:
    assert "failed" not in write_report(FINISHED)


def test_the_run_is_told_with_its_model_data_and_stages() -> None:
    report = write_report([*FINISHED, *records(events.Notice("Something to know."))])
    for line in (
        "- metric accuracy, seed 7",
        "- model builtin (causal, 7.2 M parameters, cpu, float32)",
        "- 280 training, 210 dev and 209 test examples, 3 labels, 4 duplicates removed",
        "- search: 62 s, 1,234,567 tokens",
        "- Something to know.",
    ):
        assert f"\n{line}\n" in report


def test_a_resumed_run_tells_its_model_and_data_once() -> None:
    report = write_report(records(*START, *SEARCH, *START, *END))
    assert report.count("- model builtin") == 1
    assert report.count("280 training") == 1
    assert report.count("# demo") == 1


def test_events_of_another_version_are_passed_over() -> None:
    later = {"at": 1.0, "event": "SomethingNew", "what": 1}
    assert write_report([later, *FINISHED]) == write_report(FINISHED)


def test_the_verb_report_tells_what_the_journal_holds(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "demo") as folder:
        for event in (*START, *SEARCH, *END):
            folder(event)
    assert write_report(read_journal(folder.journal)) == write_report(FINISHED)
    code = (
        "import sys; from autoprompt.cli import main; code = main(['report', sys.argv[1]]); "
        "sys.exit(code or 10 * ('torch' in sys.modules or 'optuna' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.path)], capture_output=True, encoding="utf-8", cwd=ROOT, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == write_report(FINISHED)


@pytest.mark.parametrize("end", [[], END])
def test_a_run_that_goes_on_after_its_verdict_says_so_until_the_next(end: list[events.Event]) -> None:
    report = write_report(records(*START, *SEARCH, *END, *START, *end))
    assert ("The run has gone on since this verdict" in report) == (not end)


def test_a_page_is_not_written_over_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.jsonl").write_text("")
    assert main(["report", str(tmp_path), "--html", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"Error: {tmp_path} cannot be written (Is a directory). Mend that and run the same command")


def test_a_file_in_place_of_a_runs_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.jsonl").write_text("")
    assert main(["report", str(tmp_path / "events.jsonl")]) == 2
    assert "Is this the folder of a run?" in capsys.readouterr().err


def test_the_verb_report_refuses_a_folder_of_no_run(tmp_path: Path) -> None:
    code = "import sys; from autoprompt.cli import main; sys.exit(main(['report', sys.argv[1]]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, encoding="utf-8", cwd=ROOT, timeout=120
    )
    assert done.returncode == 2
    assert "There is no journal" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("maximize", [True, False])
def test_of_two_that_tie_the_one_with_the_larger_margin_is_the_best(maximize: bool) -> None:
    start = events.RunStarted("demo", False, "accuracy", maximize, 7, 80)
    tied = [
        trial(0, "baseline", 0.5),
        trial(1, "soft", 0.7, 0.2),
        trial(2, "soft", 0.7, 0.4),
        trial(3, "soft", 0.7, 0.3),
    ]
    assert rows(write_report(records(start, *tied)))["soft"][-1] == "2"
    ends = [confirmed(number, "soft", 0.6, margin) for number, margin in ((1, 0.1), (2, 0.2), (3, 0.5))]
    assert rows(write_report(records(start, *tied, *ends)))["soft"][-1] == "3"


# -- the search ----------------------------------------------------------------------------------


def sections(report: str) -> dict[str, str]:
    """The report's sections by their titles."""
    return dict(part.split("\n\n", 1) for part in report.split("\n## ")[1:])


RACED: list[events.Event] = [
    trial(0, "baseline", 0.5, branch="baseline"),
    trial(1, "discrete", 0.6, branch="discrete", gain=0.05),
    trial(2, "discrete", 1.0, branch="discrete", examples=8, dropped=True, gain=0.3),
    trial(3, "discrete", 0.7, branch="edits", operator="delete", parents=(1,), gain=0.125),
    trial(4, "discrete", 0.9, branch="edits", operator="cross", parents=(1, 2), examples=16, dropped=True),
    trial(5, "soft", 0.65, branch="tuning", operator="tuning from text", parents=(3,)),
    trial(6, "soft", 0.75, branch="coordinates", examples=8, dropped=True, operator="coordinates", parents=(3,)),
    trial(7, "discrete", 0.72, branch="projection", operator="pez", parents=(5,)),
    trial(8, "discrete", 0.8, branch="edits", operator="swap", parents=(7, 2)),
]


def ended(*found: events.Event, winner: int = 3) -> str:
    return write_report(records(*START, *RACED, *found, events.WinnerChosen(winner, "discrete", 0.7, "f", "text")))


def test_a_dropped_trial_is_counted_and_never_the_best_of_its_kind() -> None:
    found = rows(sections(write_report(records(*START, *RACED)))["The best of each kind"])
    assert found["discrete"] == ["6", "2", "0.8000", "–", "8"]
    assert found["soft"] == ["2", "1", "0.6500", "–", "5"]


def test_a_kind_whose_trials_were_all_dropped_has_no_best() -> None:
    dropped = trial(1, "soft", 0.9, examples=8, dropped=True)
    found = rows(write_report(records(*START, trial(0, "baseline", 0.5), dropped)))
    assert found["soft"] == ["1", "1", "–", "–", "–"]


def test_each_branch_is_told_with_its_evaluations_and_the_best_that_saw_all_examples() -> None:
    told = sections(write_report(records(*START, *RACED)))["What each branch of the search did"]
    assert rows(told)["discrete"] == ["2", "1", "104", "0.6000"]
    assert rows(told)["edits"] == ["3", "1", "208", "0.8000"]
    assert rows(told)["coordinates"] == ["1", "1", "8", "–"]
    assert list(rows(told)) == [
        "branch", "---", "baseline", "discrete", "edits", "tuning", "coordinates", "projection",
    ]  # fmt: skip
    assert told.rstrip().endswith("608 example evaluations, 70% of scoring every prompt on every example.")


def test_events_without_branches_have_no_table_of_branches() -> None:
    assert "branch" not in write_report(FINISHED)


def test_the_lineage_of_the_winner_is_told_to_its_first_ancestor() -> None:
    told = sections(ended(winner=8))["How the winner came about"]
    assert told.splitlines() == [
        "- trial 8: swap of trial 7, trial 2, +0.000 over your prompt in bounded margins",
        "- trial 7: pez of trial 5, +0.000 over your prompt in bounded margins",
        "- trial 2: discrete, +0.300 over your prompt in bounded margins on 8 examples",
        "- trial 5: tuning from text of trial 3, +0.000 over your prompt in bounded margins",
        "- trial 3: delete of trial 1, +0.125 over your prompt in bounded margins",
        "- trial 1: discrete, +0.050 over your prompt in bounded margins",
    ]


def test_a_winner_without_parents_has_no_lineage() -> None:
    assert "How the winner came about" not in ended(winner=1)


def test_a_very_long_lineage_is_cut() -> None:
    chain = [trial(n, "discrete", 0.5, branch="edits", operator="swap", parents=(n - 1,)) for n in range(1, 60)]
    winner = events.WinnerChosen(59, "discrete", 0.5, "f", "text")
    told = sections(write_report(records(*START, trial(0, "baseline", 0.5), *chain, winner)))
    assert told["How the winner came about"].count("- trial") == 20


def test_the_finalists_are_told_with_estimate_and_evidence_in_the_order_of_their_scores() -> None:
    told = ended(
        confirmed(0, "baseline", 0.52, estimate=0.55, evidence=0.0, certain=True),
        confirmed(3, "discrete", 0.7, estimate=0.64, evidence=5.25, certain=True),
        confirmed(8, "discrete", 0.71, estimate=0.64, evidence=-0.5),
    )
    table = sections(told)["The finalists on all of dev"]
    found = rows(table)
    assert list(found)[2:] == ["8", "3", "0"]
    assert found["3"] == ["edits", "0.7000", "0.6400", "5.2", "yes"]
    assert found["8"] == ["edits", "0.7100", "0.6400", "-0.5", "no"]
    assert found["0"] == ["baseline", "0.5200", "0.5500", "0.0", "–"]
    assert "Score against length" not in told


def test_a_journal_without_evidence_has_no_table_of_finalists() -> None:
    found = records(*START, *RACED, confirmed(3, "discrete", 0.7))
    for key in ("estimate", "evidence", "certain", "size"):
        del found[-1][key]
    assert "The finalists" not in write_report(found)
    assert rows(sections(write_report(found))["The best of each kind"])["discrete"][-2:] == ["0.7000", "3"]


@pytest.mark.parametrize(("maximize", "expected"), [(True, ["8", "3", "0"]), (False, ["0"])])
def test_the_front_holds_those_to_which_none_is_both_as_good_and_shorter(maximize: bool, expected: list[str]) -> None:
    start = events.RunStarted("demo", False, "some", maximize, 7, 80)
    ends = [
        confirmed(0, "baseline", 0.5, size=12.0),
        confirmed(1, "discrete", 0.6, size=30.0),
        confirmed(3, "discrete", 0.7, size=20.5),
        confirmed(8, "discrete", 0.8, size=40.25),
        confirmed(7, "discrete", 0.8, size=41.0),
    ]
    told = sections(write_report(records(start, *RACED, *ends)))["Score against length"]
    assert [line.split(" | ")[0].strip("| ") for line in told.splitlines() if line.startswith("| ")][2:] == expected
    assert rows(told)["0"] == ["0.5000", "12.0"]


@pytest.mark.parametrize(
    ("best_text", "words"),
    [
        (0.7, "(trial 8, swap), scores 0.7500, the best other one (trial 3) 0.7000: vectors improved on text here."),
        (0.75, "(trial 8, swap), scores 0.7500, the best other one (trial 3) 0.7500: vectors did not improve on text"),
    ],
)
def test_text_with_vectors_in_its_lineage_counts_for_the_vectors(best_text: float, words: str) -> None:
    told = ended(
        confirmed(0, "baseline", 0.5),
        confirmed(3, "discrete", best_text),
        confirmed(5, "soft", 0.6),
        confirmed(8, "discrete", 0.75),
    )
    assert words in told


def test_a_search_of_text_alone_does_not_speak_of_vectors() -> None:
    assert "vectors" not in ended(confirmed(0, "baseline", 0.5), confirmed(3, "discrete", 0.7))


@pytest.mark.parametrize("size", range(len(RACED) + 1))
def test_a_search_killed_after_any_trial_has_a_report(size: int) -> None:
    report = write_report(records(*START, *RACED[:size]))
    assert "there is no verdict yet" in report
    assert ("What each branch of the search did" in report) == (size > 0)
    assert "\n\n\n" not in report


# -- fine-tuning -----------------------------------------------------------------------------------

PARTS = events.PartsCompared(
    {"base": 0.5, "prompt": 0.6, "tuning": 0.55, "both": 0.7},
    {"prompt - base": (0.1, 0.02, 0.18), "both - tuning": (0.15, -0.01, 0.3)},
    "Fine-tuning improves on the prompt alone.",
)
LABELLED = events.ExamplesAdded(
    "unlabelled",
    30,
    {"read": 100, "refused": {"unsure": 60, "near_duplicate": 10, "most": 0}, "threshold": 0.9, "dev_accuracy": 0.95},
)


def test_what_each_part_was_worth_is_told_with_its_intervals() -> None:
    report = write_report(records(*START, PARTS))
    assert "## What each part was worth\n\nFine-tuning improves on the prompt alone." in report
    assert "| your prompt + fine-tuning | 0.5500 |" in report
    assert "| the winner, without fine-tuning | +0.1000 | +0.0200 to +0.1800 |" in report
    assert "| starting from the winner, not from your prompt | +0.1500 | -0.0100 to +0.3000 |" in report


def test_a_run_without_fine_tuning_has_no_section_on_it() -> None:
    report = write_report(records(*START, *SEARCH, *END))
    assert "What each part was worth" not in report
    assert "Examples added" not in report
    assert "The other task" not in report


def test_the_epochs_of_each_start_have_a_curve_of_their_own() -> None:
    epochs = [events.EpochFinished(n, 2, loss, 0.5 + n / 10) for n, loss in ((1, 2.0), (2, 0.5), (2, 0.5))]
    report = write_report(records(*START, *epochs, events.EpochFinished(1, 2, 1.0, 0.4, "your prompt")))
    winner, own = report.split("## Fine-tuning from your prompt")
    assert winner.endswith(
        "## Fine-tuning from the winner\n\n| epoch | dev | training loss | |\n| --- | --- | --- | --- |\n"
        f"| 1 | 0.6000 | 2.0000 | {'█' * 24} |\n| 2 | 0.7000 | 0.5000 | {'█' * 6} |\n\n"
    )
    assert "| 1 | 0.4000 | 1.0000 |" in own


def test_added_examples_are_told_with_those_left_out() -> None:
    report = write_report(records(*START, LABELLED))
    assert (
        "- 30 of 100 unlabelled texts, with the labels that the winner gives them with P >= 0.900: on dev 95.0% of such "
        "labels are right. Left out: 60 unsure, 10 near duplicate."
    ) in report
    written = events.ExamplesAdded("written", 2, {"asked": 9, "refused": {"loops": 7}})
    assert "- 2 of 9 examples that the model was asked to write. Left out: 7 loops." in write_report(records(written))


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((-0.3, -0.1), "the model lost there"),
        ((0.1, 0.3), "the model gained there"),
        ((-0.1, 0.1), "the model is not certain to have lost or gained there"),
    ],
)
def test_the_other_task_is_told(interval: tuple[float, float], said: str) -> None:
    report = write_report(records(*START, events.SecondTask("other.jsonl", 40, 0.8, 0.6, interval)))
    assert "On the 40 examples of other.jsonl the accuracy was 0.8000 before fine-tuning and is 0.6000 after" in report
    assert said in report
