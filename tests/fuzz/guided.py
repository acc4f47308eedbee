"""One target under atheris, which is guided by coverage: `pip install atheris`, then

    python tests/fuzz/guided.py template -runs=20000

What follows the target are options of libFuzzer. A crash ends it, and its input is written to the working folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["autoprompt", "jinja2", "tomllib"]):
    from targets import SEEDS, TARGETS, tried


def main() -> None:
    name, *options = sys.argv[1:]
    folder, corpus = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    for number, seed in enumerate(SEEDS[name]):
        (corpus / str(number)).write_bytes(seed)
        TARGETS[name](seed, folder)

    def one(data: bytes) -> None:
        tried(TARGETS[name], data, folder)

    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
