"""The run told on one page, from the journal alone, without torch."""

from autoprompt.report.markdown import write_report
from autoprompt.report.status import write_status

__all__ = ["write_report", "write_status"]
