"""How many of PromptSource's templates can be read and rendered here, and why the others cannot.

    .venv/bin/python tests/benchmarks/promptsource.py --data FOLDER/promptsource/templates.jsonl --out promptsource.json

Every template is rendered on a row that is made from what it asks of its columns; it counts where it shows input
and target, and where our form of it shows the same input. Under a minute; --quick takes every tenth data set.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from record import bar, write_record

from autoprompt.libraries import survey
from autoprompt.libraries.promptsource import read_rows

SEED = 0  # rows are drawn by the names of data set and template


def tags(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How often the files name PromptSource's two tags: every template has one of each, or lacks the second."""
    text = "\n".join(row["yaml"] for row in rows)
    metadata = text.count("!TemplateMetadata")
    return {"!Template": text.count("!Template") - metadata, "!TemplateMetadata": metadata}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="templates.jsonl")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    rows = list(read_rows(options.data))[:: 10 if options.quick else 1]
    found = survey(rows)
    seconds = round(time.perf_counter() - started, 1)
    for reason, count in found["refused"].items():
        print(f"{count:5} refused: {reason}")
    bars = {
        "templates that render, share": bar(found["share"], 0.95),
        "refusals without a reason": bar(sum(not one["reason"] for one in found["refusals"]), 0, at_most=True),
        "templates read, of those that the files mark": bar(found["templates"] / tags(rows)["!Template"], 1.0),
    }
    measured = {"bars": bars, **found, "tags": tags(rows), "seconds": seconds, "quick": options.quick}
    write_record("promptsource", SEED, measured, options.out)


if __name__ == "__main__":
    main()
