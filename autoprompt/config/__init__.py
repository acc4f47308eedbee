"""One TOML file, read whole and checked whole: all problems at once, each with its cure."""

from autoprompt.config.answering import answer_kind, answers_of, words_of
from autoprompt.config.reading import JUDGED, data_options, read_config, read_metric, read_task, require_words
from autoprompt.config.sections import Config, FinetuneSection, StudySection

__all__ = [
    "JUDGED",
    "Config",
    "FinetuneSection",
    "StudySection",
    "answer_kind",
    "answers_of",
    "data_options",
    "read_config",
    "read_metric",
    "read_task",
    "require_words",
    "words_of",
]
