"""The verbs of the command line.

    autoprompt init DATA         look at a data file and write a space file for it
    autoprompt check FILE        read a space file and its data; say all that is wrong
    autoprompt doctor FILE       what may spoil a search: in data, metric, model and prompt
    autoprompt plan FILE         what a run would take: time by stage, trials, memory, disk
    autoprompt run FILE          search, confirm, judge, fine-tune, export
    autoprompt worker …          join a run's search, from any process or machine
    autoprompt proxy …           Optuna's gRPC proxy in front of PostgreSQL, for very many workers
    autoprompt status DIR        where a run stands, from another shell
    autoprompt predict DIR FILE  score new rows with an exported winner
    autoprompt report DIR …      the report of a run, or of several side by side, from their journals

Exit codes: 0 done, also where a budget ended the search; 2 something given cannot be used, or the run failed;
3 asked to stop once (Ctrl-C, SIGTERM), and done with what there was; 4 with --strict, where the winner is not certainly
better than the user's prompt; 130 and 143 stopped at once by the second
Ctrl-C or SIGTERM. After 2, 130 and 143 the same command goes on from the last finished trial.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
    except KeyboardInterrupt as stopped:
        print("\nStopped. The same command goes on from here; finished trials are kept.", file=sys.stderr)
        return 143 if str(stopped) == "SIGTERM" else 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autoprompt", description="Finds the best prompt for a language model by itself."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_init(verbs.add_parser("init", help="look at a data file and write a space file for it"))
    check = verbs.add_parser("check", help="read a space file and its data; say all that is wrong")
    check.add_argument("file", type=Path, help="a space file (TOML)")
    check.set_defaults(verb=_check)
    plan = verbs.add_parser("plan", help="what a run would take: time by stage, trials, memory, disk")
    plan.add_argument("file", type=Path, help="a space file (TOML)")
    _add_budget(plan)
    plan.set_defaults(verb=_plan)
    doctor = verbs.add_parser("doctor", help="what may spoil a search: in data, metric, model and prompt")
    doctor.add_argument("file", type=Path, help="a space file (TOML)")
    doctor.set_defaults(verb=_doctor)
    run = verbs.add_parser("run", help="search, confirm, judge, fine-tune, export")
    run.add_argument("file", type=Path, help="a space file (TOML)")
    run.add_argument("--name", help="name of the run, instead of the file's")
    run.add_argument("--results", type=Path, help="folder of the results, instead of the file's")
    _add_budget(run)
    run.add_argument("--workers", type=int, help="processes that search, one a GPU")
    run.add_argument("--storage", metavar="URL", help="where more workers join (journal:, postgresql:// or grpc://)")
    run.add_argument("--notify", metavar="COMMAND", help="run this command at the end, with AUTOPROMPT_… set")
    run.add_argument("--strict", action="store_true", help="exit with 4 unless the winner is better beyond doubt")
    run.add_argument("--extend", action="store_true", help="search on where the run is finished")
    run.set_defaults(verb=_run)
    worker = verbs.add_parser("worker", help="join a run's search")
    worker.add_argument("--storage", metavar="URL", required=True, help="as the run has it")
    worker.add_argument("--study", metavar="NAME", required=True, help="name of the run")
    worker.add_argument("--device", help="of the model here: cpu, cuda:1, …")
    worker.add_argument("--base", type=Path, help="folder in which the run's relative paths begin here")
    worker.add_argument("--tied", action="store_true", help=argparse.SUPPRESS)  # it ends when its standard input does
    worker.set_defaults(verb=_worker)
    proxy = verbs.add_parser("proxy", help="serve a database to workers by Optuna's gRPC proxy")
    proxy.add_argument("--storage", metavar="URL", required=True, help="postgresql://…")
    proxy.add_argument("--host", default="127.0.0.1", help="address to listen at")
    proxy.add_argument("--port", type=int, default=13000)
    proxy.set_defaults(verb=_proxy)
    status = verbs.add_parser("status", help="where a run stands")
    status.add_argument("folder", type=Path, help="results/NAME")
    status.set_defaults(verb=_status)
    predict = verbs.add_parser("predict", help="score new rows with an exported winner")
    predict.add_argument("folder", type=Path, help="results/NAME/winner")
    predict.add_argument("file", type=Path, help="rows to score (.jsonl, .csv, .tsv)")
    predict.add_argument("--out", type=Path, help="write the predictions here (JSONL), not to the screen")
    predict.add_argument("--prompt-only", action="store_true", help="leave the fine-tuned weights away")
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    predict.add_argument("--offline", action="store_true", help="take a hub model from the cache alone")
    predict.add_argument("--allow-code-execution", action="store_true", help="run the programs that are written")
    predict.set_defaults(verb=_predict)
    report = verbs.add_parser("report", help="the report of a run, or of several side by side")
    report.add_argument("folders", type=Path, nargs="+", metavar="folder", help="results/NAME")
    report.add_argument("--html", type=Path, metavar="FILE", help="write it as a page, not Markdown to the screen")
    report.set_defaults(verb=_report)
    return parser


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="rows with inputs and answers (.jsonl, .json, .csv, .tsv, .parquet)")
    parser.add_argument("--label", metavar="COLUMN", help="the column of the answers")
    parser.add_argument("--fields", nargs="+", metavar="COLUMN", default=[], help="the columns that a prompt shows")
    kinds = ("label", "labels", "option", "number", "text", "program")
    parser.add_argument("--target", choices=kinds, help="what an answer is")
    parser.add_argument("--metric", help="by which prompts are judged")
    parser.add_argument("--model", default="builtin", help="a folder or a hub name")
    parser.add_argument("--name", help="name of the run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the space file; by itself NAME.toml in this folder")
    parser.add_argument("--force", action="store_true", help="overwrite the space file")
    parser.add_argument("--yes", action="store_true", help="ask nothing and take what is guessed")
    parser.set_defaults(verb=_init)


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hours", type=float, help="end after so many hours, earlier parts of the run included")
    parser.add_argument("--until", metavar="HH:MM", help='end at this time, or at a date ("2026-11-26 07:00")')
    parser.add_argument("--trials", type=int, help="prompts to score")
    parser.add_argument("--tokens", type=int, help="tokens that the search may read")


def _changes(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the command line says in place of the file, by section."""
    budget = {name: getattr(options, name) for name in ("hours", "until", "tokens")}
    budget["notify"] = shlex.split(getattr(options, "notify", None) or "") or None
    study = {name: getattr(options, name, None) for name in ("trials", "workers", "storage")}
    found = {"budget": budget, "study": study}
    kept = {section: {k: v for k, v in keys.items() if v is not None} for section, keys in found.items()}
    return {section: keys for section, keys in kept.items() if keys}


def _init(options: argparse.Namespace) -> int:
    from autoprompt.init import Told, begin

    told = Told(
        options.label, tuple(options.fields), options.target, options.metric, options.model, options.name,
        options.out, options.force,
    )  # fmt: skip
    asks = sys.stdin.isatty() and sys.stdout.isatty() and not options.yes
    print(begin(options.file, told, input if asks else None))
    return 0


def _check(options: argparse.Namespace) -> int:
    from autoprompt.check import check

    print(check(options.file))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from autoprompt.check import check
    from autoprompt.display import Display

    check(options.file)
    with Display() as display:
        with _loading():
            from autoprompt.checkup import checkup

        found = checkup(options.file, display)
    counts = {level: sum(finding.level == level for finding in found) for level in ("problem", "warning", "fine")}
    print(f"{len(found)} findings: " + ", ".join(f"{count} {level}" for level, count in counts.items()) + ".")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from autoprompt.check import check
    from autoprompt.display import Display

    check(options.file, _changes(options))
    with Display() as display:
        with _loading():
            from autoprompt.preview import preview

        preview(options.file, display, _changes(options))
    return 0


def _run(options: argparse.Namespace) -> int:
    from autoprompt.check import check
    from autoprompt.config import read_config
    from autoprompt.display import Display

    changes = _changes(options)
    check(options.file, changes)  # what is wrong is said before torch is loaded
    data = read_config(options.file, changes=changes).data
    outcome = "stopped"
    try:
        with Display() as display:
            with _loading():
                from autoprompt.folds import cross_validate, told
                from autoprompt.run import run

            given = (options.file, options.name, options.results, display, changes)
            all_folds = data.folds is not None and data.fold is None
            found = cross_validate(*given, extend=options.extend) if all_folds else run(*given, extend=options.extend)
        outcome = str(found.values["sentence"])
    except AutopromptError as error:
        outcome = str(error)
        raise
    finally:
        _notify(options.file, changes, outcome)
    if all_folds:
        print(f"\n{told(found.values)}")
    print(f"report: {found.folder / 'report.html'}")
    if not all_folds:
        print(f"winner: {found.folder / 'winner'}")
    if found.values["stopped"]:
        return 3
    return 4 if options.strict and found.values["verdict"] != "improved" else 0


def _notify(file: Path, changes: dict[str, dict[str, Any]], outcome: str) -> None:
    """Run the user's command, where there is one."""
    from autoprompt.config import read_config
    from autoprompt.notify import notify

    config = read_config(file, file.parent, changes)
    if config.budget.notify:
        trouble = notify(config.budget.notify, {"name": config.name, "outcome": outcome})
        if trouble:
            print(trouble, file=sys.stderr)


def _worker(options: argparse.Namespace) -> int:
    from autoprompt.clock import Clock, signals
    from autoprompt.crew import end_with_parent
    from autoprompt.display import Display

    with _loading():
        from autoprompt.worker import work
    clock = Clock()
    if options.tied:
        end_with_parent()
    with Display() as display, signals(clock):
        told = work(options.storage, options.study, options.device, options.base, display, clock.halt)
    print(f"This worker told {told} trials.")
    return 3 if clock.stopped else 0


def _proxy(options: argparse.Namespace) -> int:
    from autoprompt.study import serve_proxy

    serve_proxy(options.storage, options.host, options.port)
    return 0


def _status(options: argparse.Namespace) -> int:
    from autoprompt.report import write_status
    from autoprompt.results import is_held, read_journal

    sys.stdout.write(write_status(read_journal(options.folder / "events.jsonl"), is_held(options.folder)))
    return 0


def _predict(options: argparse.Namespace) -> int:
    from autoprompt.results import write_text
    from autoprompt.wording import plain

    with _loading():
        from autoprompt.predict import predict
    found = predict(
        options.folder, options.file, options.prompt_only, options.device, options.offline or None,
        allow_code_execution=options.allow_code_execution,
    )  # fmt: skip
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.rows)
    if options.out is None:
        sys.stdout.write(plain(lines) if sys.stdout.isatty() else lines)
    else:
        write_text(options.out, lines)
    if found.value is not None:
        print(f"{found.metric} {found.value!r} on {len(found.rows)} rows ({found.part})", file=sys.stderr)
    return 0


def _report(options: argparse.Namespace) -> int:
    from autoprompt.report import write_comparison, write_page, write_report, write_table
    from autoprompt.results import read_journal, write_text

    runs = {str(folder): read_journal(folder / "events.jsonl") for folder in options.folders}
    first = next(iter(runs.values()))
    if options.html is None:
        sys.stdout.write(write_report(first) if len(runs) == 1 else write_table(runs))
    else:
        write_text(options.html, write_page(first) if len(runs) == 1 else write_comparison(runs))
        print(f"report: {options.html}")
    return 0


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """What is imported in it is never searched for garbage, which modules do not leave: that would be a fifth of the
    time that torch and transformers take to be imported, and a part of every later search."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    raise SystemExit(main())
