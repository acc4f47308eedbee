"""What can go wrong, as one tree.

    AutopromptError
    ├── ConfigError    the TOML file: unknown keys, wrong values (all of them at once)
    ├── DataError      the labelled examples: missing columns, empty texts, one class only
    ├── PromptError    a template or a label word that cannot be rendered
    ├── MetricError    a metric that is not there, or that returns what it must not
    ├── ModelError     a model that cannot be loaded, or that returns no numbers
    ├── StudyError     a search that cannot go on
    ├── ExecutionError programs that a model wrote, on a machine that cannot contain them
    ├── ResultsError   a results folder that is in use, of another run, or not writable
    └── ExportError    an exported folder that cannot be read back

Beside it stands Halted, which is no error: a run's budget is spent, and what is under way is left.

Every message says what was given, what is allowed and what to do. The command line prints it on
one screen, without a traceback, and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "AutopromptError",
    "ConfigError",
    "DataError",
    "ExecutionError",
    "ExportError",
    "Halted",
    "MetricError",
    "ModelError",
    "PromptError",
    "ResultsError",
    "StudyError",
    "nearest",
]


class AutopromptError(Exception):
    """Anything that this package raises on purpose."""


class Halted(BaseException):
    """The work under way is to be left as it is: a deadline has come. Its text says why.

    No Exception, so that nothing that records failures takes it for one.
    """


class ConfigError(AutopromptError):
    """The space file is wrong; `problems` holds every problem, one line each."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{source} has {count}:\n" + "\n".join(f"  - {problem}" for problem in problems))


class DataError(AutopromptError):
    """The labelled examples cannot be used."""


class PromptError(AutopromptError):
    """A prompt cannot be rendered."""


class MetricError(AutopromptError):
    """A metric cannot be found or breaks its contract."""


class ModelError(AutopromptError):
    """A model cannot be loaded or used."""


class StudyError(AutopromptError):
    """The search cannot go on."""


class ExecutionError(AutopromptError):
    """This machine cannot contain the programs that a model wrote, so none is run."""


class ResultsError(AutopromptError):
    """The results folder cannot be used."""


class ExportError(AutopromptError):
    """An exported folder cannot be written or read back."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """`" Did you mean 'x'?"`, or an empty string when nothing allowed is near."""
    found = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""
