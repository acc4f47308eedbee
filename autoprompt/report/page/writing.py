"""The page in its reading order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autoprompt.errors import ResultsError
from autoprompt.report.markdown import DAMAGED, damaged
from autoprompt.report.page.advice import advice_section
from autoprompt.report.page.comparison import compared
from autoprompt.report.page.document import document
from autoprompt.report.page.flips import flips_section
from autoprompt.report.page.health import cost_section, doctor_section, failure_section, run_section
from autoprompt.report.page.reasons import reason_sections
from autoprompt.report.page.search import search_sections
from autoprompt.report.page.story import Record, Story
from autoprompt.report.page.top import hero
from autoprompt.report.page.tuned import tuning_sections
from autoprompt.report.page.verdict import verdict_sections

__all__ = ["write_comparison", "write_page"]


def write_page(events: Iterable[Record]) -> str:
    """The page of a journal's events, one HTML file; of an unfinished run it tells what there is so far.

    Raises ResultsError when an event lacks something, or holds what it cannot.
    """
    try:
        return _written(Story(events))
    except DAMAGED as error:
        raise ResultsError(damaged(error)) from None


def write_comparison(runs: Mapping[str, Iterable[Record]], together: Mapping[str, str] | None = None) -> str:
    """The page of several runs side by side, by their names. Raises ResultsError as `write_page`.

    together: "verdict" and "sentence" of what they come to as the folds of one cross-validation.
    """
    try:
        return compared(runs, together)
    except DAMAGED as error:
        raise ResultsError(damaged(error)) from None


def _written(story: Story) -> str:
    sections = [
        *verdict_sections(story),
        *search_sections(story),
        *reason_sections(story),
        flips_section(story),
        doctor_section(story),
        *tuning_sections(story),
        failure_section(story),
        cost_section(story),
        advice_section(story),
        run_section(story),
    ]
    return document(story.name, hero(story), sections)
