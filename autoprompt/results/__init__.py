"""Where a run's files lie, and the journal of its events. Owns every path.

    results/<name>/
        events.jsonl     the journal: one event a line, each written through to the disk
        manifest.json    what the run was started with: settings, data, model, versions
        study.journal    Optuna's study, with the prompts that the space cannot make again
        vectors/         soft prompts' vectors, by fingerprint
        best/            the best prompt so far, at every moment of the search
        stages/          the outcome of each finished stage
        winner/          the export: prompt, vectors, adapter, card
        result.json      the outcome
        report.md        the outcome to read
        earlier/         outcomes of a run that was told to search on
        test.jsonl       the test split, written when the verdict has opened it

A file is written as a temporary one, flushed to the disk and renamed, so that a reader, or a run
that was killed, never meets half of it. A line of the journal is written whole or taken back. What
the system refuses (a full disk, a folder that became read-only) ends the run with one ResultsError.
"""

from autoprompt.results.files import (
    clear,
    flush,
    refused,
    repair_tail,
    replace_folder,
    write_bytes,
    write_json,
    write_text,
)
from autoprompt.results.folder import RunFolder, is_held
from autoprompt.results.journal import read_journal, spent
from autoprompt.results.manifest import differences

__all__ = [
    "RunFolder",
    "clear",
    "differences",
    "flush",
    "is_held",
    "read_journal",
    "refused",
    "repair_tail",
    "replace_folder",
    "spent",
    "write_bytes",
    "write_json",
    "write_text",
]
