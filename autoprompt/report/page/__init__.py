"""The run as one HTML file, from the journal alone: read offline, on a phone, in bed.

Nothing in it is loaded from anywhere, every text of an event is inert, and without its script all can be read.
"""

from autoprompt.report.page.writing import write_comparison, write_page

__all__ = ["write_comparison", "write_page"]
