"""The run told on one page, from the journal alone, without torch."""

from autoprompt.report.markdown import write_report

__all__ = ["write_report"]
