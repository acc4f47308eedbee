"""What is fuzzed: everything that reads a file of somebody else's. Each target takes the bytes of one file.

A target either works or raises an AutopromptError. While it runs, an audit hook listens: nothing may be
written outside its folder, no process may be started and no socket opened, and a clock ends what hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from autoprompt.check import check
from autoprompt.data import DataOptions, fields_of, read_rows, read_splits
from autoprompt.errors import AutopromptError
from autoprompt.export import read_export
from autoprompt.prompt import Prompt, check_template
from autoprompt.report import write_report
from autoprompt.results import read_journal
from autoprompt.wording import plain

SECONDS = 3.0  # of the processor, that one input may take
HUNG = 20.0  # seconds of the clock, after which it is ended
LONGEST = 20_000_000  # characters of what is rendered

Target = Callable[[bytes, Path], None]


class FoundError(AssertionError):
    """An input did what none may do."""


class _Hung(BaseException):
    """The clock's; no Exception, so that nothing in between takes it for one."""


# -- what an input may not do ---------------------------------------------------------------------

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = {"os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"}
_LEAVING = ("os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.", "subprocess.Popen", "pickle.")
_watched: list[Any] = [None, []]  # the folder that may be written to, what was done beside it


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched[0] is None:
        return
    paths: list[Any] = []
    if event == "open" and (arguments[2] or 0) & _WRITING:
        paths = [arguments[0]]
    elif event in _CHANGING:
        paths = [path for path in arguments[:2] if isinstance(path, str | bytes | os.PathLike)]
    elif event.startswith(_LEAVING):
        _watched[1].append(event)
    for path in paths:
        if not isinstance(path, int) and not os.path.abspath(os.fsdecode(path)).startswith(_watched[0]):  # noqa: PTH100
            _watched[1].append(f"{event} {os.fsdecode(path)}")


sys.addaudithook(_hook)


def _ring(*_: object) -> None:
    raise _Hung


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Within, what is done beside the folder is noted; no bytecode is written."""
    without, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _watched[0], _watched[1] = f"{folder.resolve()}{os.sep}", []
    try:
        yield _watched[1]
    finally:
        _watched[0], sys.dont_write_bytecode = None, without


def tried(target: Target, data: bytes, folder: Path) -> float:
    """Run one input; the seconds of the processor that it took. Raises FoundError for a crash, a hang, or a deed outside."""
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, HUNG)
    began = time.process_time()
    try:
        with watched(folder) as done:
            target(data, folder)
    except AutopromptError:
        pass
    except _Hung:
        raise FoundError(f"it took more than {HUNG} s: {data[:2000]!r}") from None
    except FoundError:
        raise
    except Exception as error:
        raise FoundError(f"{type(error).__name__}: {error} on {data[:2000]!r}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    seconds = time.process_time() - began
    if done or seconds > SECONDS:
        raise FoundError(f"it did {done} in {seconds:.1f} s on {data[:2000]!r}")
    return seconds


# -- the targets ----------------------------------------------------------------------------------

TOPICS = "text,topic\n" + "".join(f"The team won {i} times.,sports\nThe bank lost {i} coins.,money\n" for i in range(6))
WORDS = {"sports": "sports", "money": "money"}
VECTORS = save({"vectors": np.arange(8, dtype=np.float32).reshape(2, 4)})
TEXTS = ["x", "{{ label }} \x1b[2J <b> | ` \ue0a1\ue0a2", "word " * 50]


def _read_space(data: bytes, folder: Path) -> None:
    (folder / "topics.csv").write_text(TOPICS, encoding="utf-8")
    (folder / "space.toml").write_bytes(data)
    check(folder / "space.toml")


def _read_rows(data: bytes, folder: Path) -> None:
    """The first byte chooses the format."""
    path = folder / ("rows" + (".jsonl", ".csv", ".tsv", ".json", ".parquet")[data[0] % 5 if data else 0])
    path.write_bytes(data[1:])
    for place, row in read_rows(path):
        fields_of(place, row, list(row)[:3])
    options = DataOptions("topic", file=path, split="split" if data and data[0] > 127 else None)
    splits = read_splits(options, seed=1)
    if not splits.train or len(splits.labels) < 2:
        raise FoundError(f"splits without examples or labels: {data!r}")


def _use(prompt: Prompt) -> None:
    for text in TEXTS:
        try:
            shown = prompt.render(dict.fromkeys([*prompt.fields, "text"], text))
        except AutopromptError:
            continue
        if len(shown.context) + len(shown.tail) > LONGEST:
            raise FoundError("a rendering is too long")
    prompt.placeholder_text().encode("utf-8")


def _read_prompt(data: bytes, folder: Path) -> None:
    (folder / "prompt.json").write_bytes(data)
    (folder / "vectors.safetensors").write_bytes(VECTORS)
    prompt = Prompt.load(folder)
    _use(prompt)
    if Prompt.from_dict(prompt.to_dict(), None if prompt.soft is None else prompt.soft.vectors) != prompt:
        raise FoundError(f"it is not read back as it was: {data!r}")


def _read_vectors(data: bytes, folder: Path) -> None:
    (folder / "prompt.json").write_text(json.dumps(PROMPT), encoding="utf-8")
    (folder / "vectors.safetensors").write_bytes(data)
    _use(Prompt.load(folder))


def _read_export(data: bytes, folder: Path) -> None:
    (folder / "autoprompt.json").write_bytes(data)
    (folder / "prompt.json").write_text(json.dumps({**PROMPT, "soft": None, "kind": "discrete"}), encoding="utf-8")
    about, prompt, _ = read_export(folder)
    _use(prompt)
    if ".py:" in about.metric and Path(about.metric.rpartition(":")[0]).name != about.metric.rpartition(":")[0]:
        raise FoundError(f"a metric outside its folder: {about.metric!r}")


def _read_journal(data: bytes, folder: Path) -> None:
    (folder / "events.jsonl").write_bytes(data)
    report = write_report(read_journal(folder / "events.jsonl"))
    if report != plain(report):
        raise FoundError(f"the report acts on a terminal: {report!r}")


def _read_template(data: bytes, folder: Path) -> None:
    template = data.decode("utf-8", "replace")
    with contextlib.suppress(AutopromptError):  # it refuses names that a template may still use
        check_template(template, ["text"])
    _use(Prompt(template, WORDS))


TARGETS: Mapping[str, Target] = {
    "space": _read_space,
    "rows": _read_rows,
    "prompt": _read_prompt,
    "vectors": _read_vectors,
    "export": _read_export,
    "journal": _read_journal,
    "template": _read_template,
}

# -- what is right, to begin with -----------------------------------------------------------------

SPACE = b"""name = "topics"
metric = "accuracy"
seed = 3
[model]
name = "builtin"
device = "cpu"
[data]
file = "topics.csv"
label = "topic"
fields = ["text"]
shares = [0.4, 0.3, 0.3]
[prompt]
template = "{{ text }}\\nTopic: {{ label }}"
instruction = "Name the topic."
label_words = { sports = "sports", money = "money" }
[space]
templates = ["{{ text }} -> {{ label }}"]
temperatures = [0.5, 1]
[space.label_words]
sports = ["sport", "games"]
[space.demonstrations]
most = 2
selection = ["drawn", "similar"]
[space.soft]
vectors = [2]
[study]
trials = 8
batch = 4
branches = ["discrete", "edits"]
[propose]
tokens = 100
[finetune]
method = "lora"
[finetune.second]
file = "topics.csv"
label = "topic"
template = "{{ text }} {{ label }}"
label_words = { sports = "sports", money = "money" }
"""
_SHOWN = {"fields": {"text": "We won."}, "label": "sports"}
PROMPT: dict[str, Any] = {
    "format": "autoprompt.prompt/1",
    "kind": "soft",
    "template": "{{ text }}\nTopic: {{ label }}",
    "instruction": "Name the topic.",
    "demonstrations": [_SHOWN],
    "retrieval": {"number": 1, "pool": [_SHOWN, {"fields": {"text": "He paid."}, "label": "money"}]},
    "label_words": WORDS,
    "calibration": "none",
    "normalize": False,
    "temperature": 0.5,
    "separator": "\n\n",
    "soft": {"position": "start", "vectors": 2, "size": 4},
}
EXPORT = {
    "format": "autoprompt.export/1",
    "model": "builtin",
    "family": "causal",
    "dtype": "float32",
    "metric": "metrics.py:mine",
    "fields": ["text"],
    "label": "topic",
    "use": "prompt",
    "method": None,
    "model_fingerprint": "0" * 16,
    "prompt_fingerprint": "",
    "scores": {"baseline": 0.5},
}
_TRIAL = {
    "kind": "discrete", "margin": 0.1, "tokens": 10, "seconds": 0.5, "fingerprint": "f" * 16, "text": "T: {text}",
    "branch": "edits", "operator": "swap", "gain": 0.1, "size": 9.0, "at": 2.0,
}  # fmt: skip
JOURNAL: list[dict[str, Any]] = [
    {"event": "RunStarted", "at": 1.0, "name": "demo", "resumed": False, "metric": "accuracy", "maximize": True,
     "seed": 7, "trials": 9},
    {"event": "ModelLoaded", "name": "builtin", "family": "causal", "device": "cpu", "dtype": "float32",
     "parameters": 7},
    {"event": "DataRead", "train": 2, "dev": 2, "test": 2, "labels": ["a", "b"], "duplicates_removed": 0},
    {"event": "TrialFinished", "number": 0, "value": 0.5, "examples": 8, "dropped": False, "parents": [], **_TRIAL,
     "kind": "baseline"},
    {"event": "TrialFinished", "number": 1, "value": 0.7, "examples": 8, "dropped": False, "parents": [0], **_TRIAL},
    {"event": "TrialFinished", "number": 2, "value": 0.2, "examples": 4, "dropped": True, "parents": [1], **_TRIAL,
     "kind": "soft"},
    {"event": "TrialFailed", "number": 3, "kind": "soft", "reason": "no <b>room</b> | ![x](http://a.b)"},
    {"event": "Confirmed", "number": 0, "value": 0.5, "estimate": 0.5, "evidence": 0.0, "certain": False, **_TRIAL,
     "kind": "baseline"},
    {"event": "Confirmed", "number": 1, "value": 0.7, "estimate": 0.7, "evidence": 1.0, "certain": True, **_TRIAL},
    {"event": "WinnerChosen", "number": 1, "kind": "discrete", "value": 0.7, "fingerprint": "f", "text": "T ``` {text}"},
    {"event": "TestOpened", "reason": "the verdict", "times": 1},
    {"event": "EpochFinished", "epoch": 1, "epochs": 2, "loss": 0.5, "dev": 0.6, "start": "winner"},
    {"event": "ExamplesAdded", "source": "unlabelled", "kept": 1,
     "counts": {"read": 2, "threshold": 0.9, "dev_accuracy": 0.9, "refused": {"in_test": 1}}},
    {"event": "PartsCompared", "cells": {"base": 0.5, "both": 0.7}, "differences": {"both - base": [0.2, 0.1, 0.3]},
     "sentence": "It helps."},
    {"event": "SecondTask", "file": "b.csv", "examples": 3, "before": 0.5, "after": 0.4, "interval": [-0.2, 0.1]},
    {"event": "VerdictReached", "outcome": "improved", "sentence": "Better.", "baseline_test": 0.5,
     "winner_test": 0.7, "interval": [0.1, 0.3], "tuned_test": None},
    {"event": "StageFinished", "stage": "search", "seconds": 1.0, "tokens": 10},
    {"event": "Notice", "message": "Mind this."},
    {"event": "RunFinished", "seconds": 2.0, "failed_trials": 1},
]  # fmt: skip
TEMPLATES = [
    "{{ text }}\nTopic: {{ label }}",
    "{% if text %}{{ text|trim|upper }}{% else %}none{% endif %} {{ instruction }} {{ label }}",
    "{% for word in text.split() %}{{ loop.index }}: {{ word|replace('a', 'b') }} {% endfor %}{{ label }}",
    "{% set x = text * 3 %}{{ x ~ (text + 'a') }}{{ '%s' }}{{ text[0:3] }}{{ range(3)|join('-') }}{{ label }}",
    "{{ '{:>9}|{}'.format(text, 2 ** 3 // 4 % 5) }}{{ {'a': [1, (2, 3)]}['a'] }}{# no #}{% raw %}{{{% endraw %}{{ label }}",
]


def lines(events: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def _jsonl() -> bytes:
    rows = [line.split(",") for line in TOPICS.splitlines()[1:]]
    places = ("train", "dev", "test")
    return lines([{"text": t, "topic": label, "split": places[n // 2 % 3]} for n, (t, label) in enumerate(rows)])


SEEDS: Mapping[str, list[bytes]] = {
    "space": [SPACE],
    "rows": [
        b"\x00" + _jsonl(),
        b"\xff" + _jsonl(),
        b"\x01" + TOPICS.encode(),
        b"\x02" + TOPICS.replace(",", "\t").encode(),
        b"\x03[" + b",".join(_jsonl().splitlines()) + b"]",
    ],
    "prompt": [json.dumps(PROMPT).encode()],
    "vectors": [VECTORS],
    "export": [json.dumps(EXPORT).encode()],
    "journal": [lines(JOURNAL)],
    "template": [template.encode() for template in TEMPLATES],
}
