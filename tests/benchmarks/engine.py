"""The scoring engine beside its peers and the floor of the arithmetic, on models with random weights.

    python tests/benchmarks/engine.py [--quick] [--out FILE] [--threads N] [--only PART ...]
    python tests/benchmarks/engine.py --table FILE      # the record as Markdown tables

Prompts × examples × 4 labels are scored by the engine, one by one, in padded batches and by lm-eval
(`pip install 'autoprompt-search[bench]'`), in turns, in several rounds; times are medians, in
milliseconds a (prompt, example) pair. Slow methods run on a share of the pairs, at evenly spaced
lengths; the record says on how many. Workloads: W1, prompts of 20-80 tokens; W2, of 300-600; W3, 32
greedy tokens behind one prompt and 64 items. The floor: multiply-adds with each distinct token read
once, at the rate of this machine's own matrix product.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing here comes from the network
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from numpy.typing import NDArray
from peers import generate_batches, lm_eval_scorer, lm_eval_version, one_by_one, padded_batches
from record import bar, write_record
from workloads import FLOORS, SEED, SHAPES, TINY, Grid, build, make_grid, multiply_adds_a_second

from autoprompt.engine import Engine, Request
from autoprompt.models import LanguageModel

NEW_TOKENS = 32
LOOK_UPS = 100_000
Scorer = Callable[[Sequence[Request]], list[NDArray[np.float64]]]

# -- the plan --------------------------------------------------------------------------------

W1, W2 = (20, 80), (300, 600)
ROWS_A_BATCH = {W1: (4, 16, 64), W2: (1, 4, 16)}  # what the peers' batch size is chosen from


@dataclass(frozen=True)
class Scoring:
    """A model, the lengths of its prompts, and each method's share: (prompts, examples), within ours."""

    model: str
    lengths: tuple[int, int]
    ours: tuple[int, int]
    padded: tuple[int, int] = (1, 1)
    naive: tuple[int, int] = (1, 1)
    lm_eval: tuple[int, int] | None = None
    rounds: int = 3

    def smaller(self) -> Scoring:
        return replace(self, ours=(4, 8), padded=(2, 4), naive=(2, 2), lm_eval=self.lm_eval and (2, 4), rounds=2)


@dataclass(frozen=True)
class Continuing:
    """A model, the length of its one prompt, and how many items; `naive` of them are continued one by one."""

    model: str
    prompt: int
    items: int = 64
    naive: int = 16
    rounds: int = 3

    def smaller(self) -> Continuing:
        return replace(self, items=6, naive=2, rounds=2)


FULL: dict[str, Scoring | Continuing] = {
    "W1 15M": Scoring("15M", W1, (32, 256), padded=(4, 16), naive=(4, 4), lm_eval=(4, 32)),
    "W2 15M": Scoring("15M", W2, (32, 256), padded=(4, 4), naive=(4, 2), lm_eval=(4, 16)),
    "T5-small W1": Scoring("T5-small", W1, (4, 128), padded=(4, 16), naive=(4, 2), lm_eval=(4, 16)),
    "BERT-mini W1": Scoring("BERT-mini", W1, (4, 128), padded=(4, 16), naive=(4, 2)),
    "W3 short": Continuing("15M", 60),
    "W3 long": Continuing("15M", 450),
    "W1 60M": Scoring("60M", W1, (8, 128), padded=(4, 8), naive=(2, 2), lm_eval=(4, 16), rounds=2),
    "W2 60M": Scoring("60M", W2, (4, 256), padded=(4, 2), naive=(2, 1), lm_eval=(4, 4), rounds=2),
    "W1 135M": Scoring("135M", W1, (4, 128), padded=(4, 4), naive=(2, 1), lm_eval=(4, 4), rounds=2),
    "W2 135M": Scoring("135M", W2, (2, 256), padded=(2, 2), naive=(2, 1), lm_eval=(2, 4), rounds=2),
    "BERT-base W1": Scoring("BERT-base", W1, (4, 16), padded=(4, 4), naive=(2, 1), rounds=2),
    "W3 short 60M": Continuing("60M", 60, naive=4, rounds=2),
    "W3 long 60M": Continuing("60M", 450, naive=4, rounds=2),
}
QUICK: dict[str, Scoring | Continuing] = {
    "W1 15M": Scoring("15M", W1, (8, 128), padded=(4, 16), naive=(4, 2), lm_eval=(4, 16)),
    "W2 15M": Scoring("15M", W2, (8, 64), padded=(4, 2), naive=(2, 1), lm_eval=(4, 8), rounds=2),
    "T5-small W1": Scoring("T5-small", W1, (4, 64), padded=(4, 16), naive=(2, 2), rounds=2),
    "BERT-mini W1": Scoring("BERT-mini", W1, (4, 64), padded=(4, 16), naive=(2, 2), rounds=2),
    "W3 short": Continuing("15M", 60, naive=8, rounds=2),
    "W3 long": Continuing("15M", 450, naive=4, rounds=2),
}
MEMORY = {"W2 15M": Scoring("15M", W2, (8, 256)), "W1 135M": Scoring("135M", W1, (4, 64))}
# part -> what is put in relation to ours -> (goal, whether it is an upper one)
GOALS: dict[str, dict[str, tuple[float, bool]]] = {
    "W1 15M": {"times lm-eval": (12, False), "times the floor": (1.6, True)},
    "W2 15M": {"times lm-eval": (55, False), "times the floor": (2.0, True)},
    "T5-small W1": {"times padded": (3.5, False), "times the floor": (1.5, True)},
    "BERT-mini W1": {"times padded": (5, False), "times the floor": (1.5, True)},
    "W3 short": {"times the best batch of generate": (1.8, False)},
    "W3 long": {"times the best batch of generate": (6, False)},
}

# -- measuring -------------------------------------------------------------------------------


@dataclass
class Timed:
    """A method's times in milliseconds an item, one a round, and what it returned last."""

    items: int
    run: Callable[[], Any]
    times: list[float]
    returned: Any = None

    def record(self, **more: Any) -> dict[str, Any]:
        return {"ms": statistics.median(self.times), "rounds": self.times, "items": self.items, **more}


def in_turns(methods: dict[str, tuple[int, Callable[[], Any]]], rounds: int) -> tuple[dict[str, Timed], float]:
    """Each method (number of items, call) once a round, in turns; and the best rate of the matrix product
    before, between and behind the rounds."""
    found = {name: Timed(items, run, []) for name, (items, run) in methods.items()}
    rate = multiply_adds_a_second()
    for _ in range(rounds):
        for method in found.values():
            gc.collect()
            start = time.perf_counter()
            method.returned = method.run()
            method.times.append((time.perf_counter() - start) * 1000 / method.items)
        rate = max(rate, multiply_adds_a_second())
    return found, rate


class Sizes:
    """The peers' batch sizes: the quickest of a few, tried once on what fills the largest, by the first
    model of a family that comes with a workload."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, tuple[int, int]], int] = {}

    def best(
        self, peer: str, make: Callable[[int], Scorer], model: LanguageModel, lengths: tuple[int, int], grid: Grid
    ) -> int:
        key = (peer, model.family, lengths)
        if key not in self._known:
            sizes, requests = ROWS_A_BATCH[lengths], grid.requests
            count = min(len(requests), -(-max(sizes) // len(grid.labels)))
            some = [requests[at * len(requests) // count] for at in range(count)]
            scorers = {size: make(size) for size in sizes}
            scorers[sizes[0]](some[:1])  # the first call finds its kernels and memory
            tried, _ = in_turns({str(s): (count, lambda s=s: scorers[s](some)) for s in sizes}, 1)
            self._known[key] = int(min(tried, key=lambda size: tried[size].times[0]))
        return self._known[key]


@dataclass
class Method:
    """A scorer, what it is asked, and how many rows it takes a batch."""

    scorer: Scorer
    requests: list[Request]
    batch: int | None = None


def scoring_methods(part: Scoring, model: LanguageModel, ours: Grid, sizes: Sizes) -> dict[str, Method]:
    """The peers, from the quickest to the slowest: the requests of each are a part of those before it."""
    methods = {}
    share = ours
    if part.lm_eval:
        share = share.share(*part.lm_eval)
        size = sizes.best("lm-eval", lambda size: lm_eval_scorer(model, size), model, part.lengths, share)
        methods["lm-eval"] = Method(lm_eval_scorer(model, size), share.requests, size)
    share = share.share(*part.padded)
    size = sizes.best("padded", lambda size: partial(padded_batches, model, size=size), model, part.lengths, share)
    methods["padded"] = Method(partial(padded_batches, model, size=size), share.requests, size)
    methods["naive"] = Method(partial(one_by_one, model), share.share(*part.naive).requests)
    return methods


def measure_scoring(part: Scoring, sizes: Sizes, smoke: bool) -> dict[str, Any]:
    """Times of all methods, the floor of our share, and how far the scores lie from those of one by one."""
    model = build(part.model, smoke)
    grid = make_grid(model.network.config.vocab_size, part.lengths, model.family == "masked").share(*part.ours)
    read = 0

    def ours(requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        nonlocal read
        engine = Engine(model)  # a fresh one, which remembers nothing
        scores = engine.score(requests)
        read = engine.tokens
        return scores

    methods = {"ours": Method(ours, grid.requests), **scoring_methods(part, model, grid, sizes)}
    for method in methods.values():
        method.scorer(method.requests[:1])
    runs = {name: (len(m.requests), partial(m.scorer, m.requests)) for name, m in methods.items()}
    timed, rate = in_turns(runs, part.rounds)
    tokens, floor = FLOORS[model.family](model.network.config, grid)
    pairs = len(methods["ours"].requests)
    record: dict[str, Any] = {
        "methods": {name: timed[name].record(batch=methods[name].batch) for name in methods},
        "floor_ms": floor / rate * 1000 / pairs,
        "multiply_adds_a_pair": floor / pairs,
        "multiply_adds_a_second": rate,
        "distinct_tokens_a_pair": tokens / pairs,
        "tokens_read_a_pair": read / pairs,
        "parameters": model.parameters,
        "largest_difference": differences(methods, timed),
    }
    ms = {name: found["ms"] for name, found in record["methods"].items()}
    ratios = {f"times {name}": ms[name] / ms["ours"] for name in ms if name != "ours"}
    return record | {"ratios": ratios | {"times the floor": ms["ours"] / record["floor_ms"]}}


def differences(methods: dict[str, Method], timed: dict[str, Timed]) -> dict[str, float]:
    """Each method's largest difference of a log-probability from that of one by one, where both scored."""
    alone = zip(methods["naive"].requests, timed["naive"].returned, strict=True)
    known = {request.context: scores for request, scores in alone}
    return {
        name: max(
            float(np.abs(scores - known[request.context]).max())
            for request, scores in zip(method.requests, timed[name].returned, strict=True)
            if request.context in known
        )
        for name, method in methods.items()
        if name != "naive"
    }


def measure_continuing(part: Continuing, smoke: bool) -> dict[str, Any]:
    """Times an item of all methods, and the share of items that are continued as one by one."""
    model = build(part.model, smoke)
    grid = make_grid(model.network.config.vocab_size, (part.prompt, part.prompt), prompts=1, examples=part.items)
    contexts = [request.context for request in grid.requests]
    some = [request.context for request in grid.share(1, part.naive).requests]
    requests = [Request(context, ()) for context in contexts]
    runs: dict[str, tuple[int, Callable[[], Any]]] = {
        "ours": (part.items, lambda: Engine(model).generate(requests, new_tokens=NEW_TOKENS)),
        "batches of 16": (part.items, lambda: generate_batches(model, contexts, NEW_TOKENS, 16)),
        "batches of 64": (part.items, lambda: generate_batches(model, contexts, NEW_TOKENS, 64)),
        "naive": (part.naive, lambda: generate_batches(model, some, NEW_TOKENS, 1)),
    }
    generate_batches(model, some[:2], 2, 2)
    Engine(model).generate(requests[:2], new_tokens=2)
    timed, rate = in_turns(runs, part.rounds)
    alone = dict(zip(some, timed["naive"].returned, strict=True))
    same = {}
    for name in ("ours", "batches of 16", "batches of 64"):
        given = dict(zip(contexts, map(tuple, timed[name].returned), strict=True))
        same[name] = statistics.mean(given[context] == alone[context] for context in some)
    ms = {name: found.record()["ms"] for name, found in timed.items()}
    batched = min(("batches of 16", "batches of 64"), key=lambda name: ms[name])
    return {
        "methods": {name: found.record() for name, found in timed.items()},
        "best_batch": batched,
        "identical": same,
        "distinct_ids": len({token for ids in alone.values() for token in ids}),
        "multiply_adds_a_second": rate,
        "ratios": {
            "times the best batch of generate": ms[batched] / ms["ours"],
            "times naive": ms["naive"] / ms["ours"],
        },
    }


# -- memory ----------------------------------------------------------------------------------


def measure_peak(name: str, mode: str, threads: int) -> dict[str, Any]:
    """The peak memory of one scoring, in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, "--threads", str(threads), *([mode] if mode else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Measuring the peak memory of {name} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_of(part: Scoring, smoke: bool) -> dict[str, Any]:
    """Bytes at the peak above those before the weights, and what is allowed: 2 × weights + the engine's budget."""
    small = build(part.model, smoke=True)
    Engine(small).score(make_grid(TINY["vocab_size"], part.lengths).share(2, 4).requests)  # what loads once, loads here
    vocabulary = TINY["vocab_size"] if smoke else SHAPES[part.model]["vocab_size"]
    requests = make_grid(vocabulary, part.lengths).share(*part.ours).requests
    gc.collect()
    before = _resident()
    model = build(part.model, smoke)
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
    loaded = _resident()
    engine = Engine(model)
    budget = getattr(engine, "budget_bytes", None)
    if budget is None:
        raise SystemExit("Engine has no budget_bytes: the peak is measured against 2 × weights + that budget.")
    engine.score(requests)
    allowed = 2 * weights + int(budget)
    above = _peak() - before
    return {
        "pairs": len(requests),
        "weights": weights,
        "budget": int(budget),
        "before_weights": before,
        "loaded": loaded,
        "peak": _peak(),
        "ratio": above / allowed,
    }


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _resident() -> int:
    """Bytes in memory now; where the system does not say, the most so far."""
    counts = Path("/proc/self/statm")
    return int(counts.read_text().split()[1]) * resource.getpagesize() if counts.exists() else _peak()


def measure_look_ups(count: int) -> dict[str, Any]:
    """Known scores read a second from the memory of scores: warm, with their keys, and from the file."""
    from autoprompt.engine.memory import ScoreMemory

    grid = make_grid(32000, W1, prompts=-(-count // 500), examples=500)
    requests = grid.requests[:count]
    scores = np.log(np.random.default_rng(SEED).random((count, len(grid.labels))))

    def rate(run: Callable[[], Any]) -> tuple[float, Any]:
        start = time.perf_counter()
        given = run()
        return count / (time.perf_counter() - start), given

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "scores"
        with ScoreMemory(place, model="random") as memory:
            making, keys = rate(lambda: [memory.key(request) for request in requests])
            writing, _ = rate(lambda: memory.put(dict(zip(keys, scores, strict=True))))
            reading = statistics.median(rate(lambda: memory.get(keys))[0] for _ in range(5))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        cold, found = rate(lambda: ScoreMemory(place, model="random").get(keys))
    return {
        "requests": count,
        "found": sum(
            given is not None and np.array_equal(given, row) for given, row in zip(found, scores, strict=True)
        ),
        "keys_made_a_second": making,
        "written_a_second": writing,
        "read_a_second": reading,
        "read_a_second_with_keys": 1 / (1 / making + 1 / reading),
        "read_a_second_from_file": cold,
        "bytes_a_request": size / count,
    }


# -- the record ------------------------------------------------------------------------------


def measure(mode: str, only: Sequence[str], threads: int) -> dict[str, Any]:
    smoke = mode == "--smoke"
    plan: dict[str, Any] = dict(QUICK if mode == "--quick" else FULL)
    plan |= {f"peak memory, {name}": part for name, part in MEMORY.items()} | {"memory of scores": None}
    plan = {name: part for name, part in plan.items() if not only or any(word in name for word in only)}
    sizes = Sizes()
    record: dict[str, Any] = {}
    # the peaks first: a child inherits the peak of its parent
    for name, part in sorted(plan.items(), key=lambda item: not item[0].startswith("peak")):
        start = time.perf_counter()
        if name.startswith("peak"):
            record[name] = measure_peak(name.removeprefix("peak memory, "), mode, threads)
        elif part is None:
            record[name] = measure_look_ups(2000 if smoke else LOOK_UPS)
        else:
            part = part.smaller() if smoke else part
            scoring = isinstance(part, Scoring)
            record[name] = measure_scoring(part, sizes, smoke) if scoring else measure_continuing(part, smoke)
        print(f"{name}: measured in {time.perf_counter() - start:.0f} s", flush=True)
    return {"mode": mode.strip("-") or "full", "threads": threads, "lm_eval": lm_eval_version(), "parts": record}


def bars(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for name, goals in GOALS.items():
        for what, (goal, at_most) in goals.items():
            if name in parts:
                found[f"{name}: {what}"] = bar(parts[name]["ratios"][what], goal, at_most)
    if same := [part["identical"]["ours"] for part in parts.values() if "identical" in part]:
        found["W3: items identical"] = bar(min(same), 1.0)
    if apart := [part["largest_difference"]["ours"] for part in parts.values() if "largest_difference" in part]:
        found["largest difference"] = bar(max(apart), 1e-4, at_most=True)
    for name, part in parts.items():
        if name.startswith("peak"):
            found[f"{name}: share of 2 × weights + budget"] = bar(part["ratio"], 1, at_most=True)
    if "memory of scores" in parts:
        found["memory of scores, look-ups a second"] = bar(parts["memory of scores"]["read_a_second"], 100_000)
    return found


def tables(parts: dict[str, dict[str, Any]]) -> str:
    """The record's times as Markdown tables, for the README."""
    scored, continued = [], []
    for name, part in parts.items():
        if "floor_ms" in part:
            ms = [part["methods"].get(method, {}).get("ms") for method in ("ours", "lm-eval", "padded", "naive")]
            times = [part["ratios"].get(f"times {against}") for against in ("lm-eval", "padded", "the floor")]
            scored.append(_row(name, [part["floor_ms"], *ms], times))
        elif "identical" in part:
            ms = [part["methods"][method]["ms"] for method in ("ours", part["best_batch"], "naive")]
            times = [part["ratios"]["times the best batch of generate"]]
            continued.append(_row(name, ms, times) + f" {part['identical']['ours']:.0%} |")
    found = []
    if scored:
        found += [
            "| ms a pair | floor | autoprompt | lm-eval | padded batches | one by one | times lm-eval | times padded | times the floor |",
            "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
            *scored,
        ]
    if continued:
        found += [
            *([""] if scored else []),
            "| ms an item | autoprompt | best batch of generate | one by one | times the best batch | identical |",
            "| --- | --: | --: | --: | --: | --: |",
            *continued,
        ]
    return "\n".join(found)


def _row(name: str, ms: Sequence[float | None], times: Sequence[float | None]) -> str:
    cells = ["–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in ms]
    return "| " + " | ".join([name, *cells, *("–" if value is None else f"{value:.1f}" for value in times)]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same bars on fewer data, in minutes")
    parser.add_argument("--smoke", action="store_true", help="tiny models, in seconds: whether it runs; no numbers")
    parser.add_argument("--out", type=Path, help="where the record goes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for all methods alike")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PART", help="parts whose names have one of these words"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="print a record's tables and stop")
    parser.add_argument("--peak", help=argparse.SUPPRESS)  # the child whose memory is measured
    options = parser.parse_args()
    if options.table:
        print(tables(json.loads(options.table.read_text(encoding="utf-8"))["parts"]))
        return
    torch.set_num_threads(options.threads)
    if options.peak:
        part = MEMORY[options.peak]
        part = part.smaller() if options.smoke else replace(part, ours=(4, 64)) if options.quick else part
        print(json.dumps(peak_of(part, options.smoke)))
        return
    lm_eval_version()
    mode = "--smoke" if options.smoke else "--quick" if options.quick else ""
    measured = measure(mode, options.only, options.threads)
    print(tables(measured["parts"]))
    found = bars(measured["parts"])
    if options.smoke:  # its times mean nothing
        found = {name: bar for name, bar in found.items() if name in ("largest difference", "W3: items identical")}
    write_record("engine", SEED, {**measured, "bars": found}, options.out)


if __name__ == "__main__":
    main()
