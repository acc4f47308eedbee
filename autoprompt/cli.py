"""The verbs of the command line.

    autoprompt check FILE        read a space file and its data; say all that is wrong
    autoprompt run FILE          search, confirm, judge, fine-tune, export
    autoprompt predict DIR FILE  score new rows with an exported winner
    autoprompt report DIR        the report of a run, from its journal

Exit codes: 0 done, 2 something given cannot be used, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from autoprompt.errors import AutopromptError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.verb(options))
    except AutopromptError as error:
        from autoprompt.display import print_error

        print_error(str(error))
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here; finished trials are kept.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autoprompt", description="Finds the best prompt for a language model by itself."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    check = verbs.add_parser("check", help="read a space file and its data; say all that is wrong")
    check.add_argument("file", type=Path, help="a space file (TOML)")
    check.set_defaults(verb=_check)
    run = verbs.add_parser("run", help="search, confirm, judge, fine-tune, export")
    run.add_argument("file", type=Path, help="a space file (TOML)")
    run.add_argument("--name", help="name of the run, instead of the file's")
    run.add_argument("--results", type=Path, help="folder of the results, instead of the file's")
    run.set_defaults(verb=_run)
    predict = verbs.add_parser("predict", help="score new rows with an exported winner")
    predict.add_argument("folder", type=Path, help="results/NAME/winner")
    predict.add_argument("file", type=Path, help="rows to score (.jsonl, .csv, .tsv)")
    predict.add_argument("--out", type=Path, help="write the predictions here (JSONL), not to the screen")
    predict.add_argument("--prompt-only", action="store_true", help="leave the fine-tuned weights away")
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    predict.set_defaults(verb=_predict)
    report = verbs.add_parser("report", help="the report of a run, from its journal")
    report.add_argument("folder", type=Path, help="results/NAME")
    report.set_defaults(verb=_report)
    return parser


def _check(options: argparse.Namespace) -> int:
    from autoprompt.check import check

    print(check(options.file))
    return 0


def _run(options: argparse.Namespace) -> int:
    from autoprompt.check import check
    from autoprompt.display import Display

    check(options.file)  # what is wrong is said before torch is loaded
    with Display() as display:
        from autoprompt.run import run

        result = run(options.file, options.name, options.results, display)
    print(f"report: {result.folder / 'report.md'}")
    print(f"winner: {result.folder / 'winner'}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from autoprompt.predict import predict
    from autoprompt.results import write_text

    found = predict(options.folder, options.file, options.prompt_only, options.device)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.rows)
    if options.out is None:
        sys.stdout.write(lines)
    else:
        write_text(options.out, lines)
    if found.value is not None:
        print(f"{found.metric} {found.value!r} on {len(found.rows)} rows ({found.part})", file=sys.stderr)
    return 0


def _report(options: argparse.Namespace) -> int:
    from autoprompt.report import write_report
    from autoprompt.results import read_journal

    sys.stdout.write(write_report(read_journal(options.folder / "events.jsonl")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
