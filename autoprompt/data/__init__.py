"""Labelled examples: read, checked, split once, leaks refused.

The test split is locked: it can be read only through `LockedSplit.open`, which tells whoever
listens that it was.
"""

from autoprompt.data.cells import fields_of
from autoprompt.data.examples import Example, fingerprint, folded
from autoprompt.data.locked import LockedSplit, Splits
from autoprompt.data.options import Cut, DataOptions, Frame, Source, Target
from autoprompt.data.reading import Labelled, labelled_rows, read_inputs, read_splits
from autoprompt.data.rows import read_rows

__all__ = [
    "Cut",
    "DataOptions",
    "Example",
    "Frame",
    "Labelled",
    "LockedSplit",
    "Source",
    "Splits",
    "Target",
    "fields_of",
    "fingerprint",
    "folded",
    "labelled_rows",
    "read_inputs",
    "read_rows",
    "read_splits",
]
