"""The locked test: paired intervals, exact tests, and "no improvement" as a legal answer.

judging   the verdict on winner and baseline
parts     what prompt and fine-tuning were each worth
paired    differences of two outcomes on the same examples: standard error, interval
exact     p-values that hold for any number of examples
power     the smallest difference that so many examples can show
details   by label, calibration, the strongest baseline, the ledger of answers
flips     the examples on which winner and baseline do not agree
"""

from autoprompt.verdict.details import details
from autoprompt.verdict.exact import exact_p
from autoprompt.verdict.flips import flips
from autoprompt.verdict.judging import Verdict, judge
from autoprompt.verdict.paired import paired_interval
from autoprompt.verdict.parts import Cell, Parts, judge_parts
from autoprompt.verdict.power import detectable, detectable_before

__all__ = [
    "Cell",
    "Parts",
    "Verdict",
    "details",
    "detectable",
    "detectable_before",
    "exact_p",
    "flips",
    "judge",
    "judge_parts",
    "paired_interval",
]
