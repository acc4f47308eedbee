"""The run told on one page, from the journal alone, without torch."""

from autoprompt.report.markdown import write_report
from autoprompt.report.page import write_comparison, write_page
from autoprompt.report.status import write_status
from autoprompt.report.table import write_table

__all__ = ["write_comparison", "write_page", "write_report", "write_status", "write_table"]
