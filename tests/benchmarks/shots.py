"""The tasks of the few-shot benchmark, drawn by seed, and our own methods on them.

Each seed draws 16 examples of a class for training and 16 others for dev; test is the whole test
split. Seconds are those of what a method does with them; test is scored beside the clock.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parent))

from tasks import distinct, encoder_folder, load_task, public_space

from autoprompt.data import Example
from autoprompt.finetune import FinetuneOptions, finetune, recommended
from autoprompt.finetune.unlabelled import PseudoOptions, pseudo_labelled
from autoprompt.finetune.variants import VariantKind, variants
from autoprompt.finetune.writing import WritingOptions, written_examples
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.space import Space
from autoprompt.study import Study, StudyOptions

__all__ = ["SHOTS", "Shots", "effects", "prompts_and_tuning", "shots_of", "tuning_alone"]

SHOTS = 16  # of each class, for training and again for dev
MORE = 1000  # texts without labels
SEARCH = StudyOptions(trials=32, branches=("discrete", "edits", "words"))

Found = dict[str, dict[str, Any]]
Evaluate = Callable[[LanguageModel, Prompt], tuple[float, float]]


@dataclass(frozen=True)
class Shots:
    """A task with few examples; `space.pool` is the training split. more: further texts, which are shown without labels."""

    space: Space
    model: LanguageModel
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    more: tuple[Example, ...]

    @property
    def train(self) -> tuple[Example, ...]:
        return self.space.pool


def shots_of(name: str, seed: int, data: Path, most: int | None = None) -> Shots:
    """A task with the examples of a seed. most: test examples at most; None takes all."""
    if name == "support":
        task = load_task(name)
        pool: Sequence[Example] = task.splits.train
        train, dev = _drawn(pool, seed, "train", 1)[0], _drawn(task.splits.dev, seed, "dev", 1)[0]
        test: Sequence[Example] = task.splits.test.open("the few-shot benchmark", lambda reason: None)
        space, model = replace(task.space, pool=train), task.model
    else:
        seen: set[str] = set()
        test = tuple(distinct(data / name / "test.jsonl", seen))
        pool = tuple(distinct(data / name / "train.jsonl", seen))
        train, dev = _drawn(pool, seed, name, 2)
        space, model = public_space(name, train), load_model(str(encoder_folder()), "encoder")
    if most is not None and most < len(test):
        test = random.Random(f"{name} test").sample(test, most)
    shown = {tuple(example.fields.values()) for example in (*train, *dev)}
    more = [example for example in pool if tuple(example.fields.values()) not in shown]
    more = random.Random(f"{seed} {name} more").sample(more, min(MORE, len(more)))
    return Shots(space, model, dev, _numbered(test), _numbered(more))


def _drawn(pool: Sequence[Example], seed: int, name: str, parts: int) -> list[tuple[Example, ...]]:
    """`parts` disjoint sets of SHOTS examples of each class, each in an order drawn for it."""
    by_label: dict[str, list[Example]] = {}
    for example in pool:
        by_label.setdefault(example.label, []).append(example)
    found: list[list[Example]] = [[] for _ in range(parts)]
    for label in sorted(by_label):
        drawn = random.Random(f"{seed} {name} {label}").sample(by_label[label], parts * SHOTS)
        for at, part in enumerate(found):
            part += drawn[at * SHOTS : (at + 1) * SHOTS]
    for at, part in enumerate(found):
        random.Random(f"{seed} {name} {at}").shuffle(part)
    return [_numbered(part) for part in found]


def _numbered(examples: Sequence[Example]) -> tuple[Example, ...]:
    return tuple(replace(example, number=number) for number, example in enumerate(examples))


# -- our methods ---------------------------------------------------------------------------------


def prompts_and_tuning(shots: Shots, seed: int) -> Found:
    """The first prompt, the best of the starting prompts, the search, and fine-tuning from its winner."""
    scorer, space, found = Scorer(shots.model, accuracy), shots.space, Found()
    found["first prompt"] = _measured(shots, shots.model, space.baseline, 0.0)
    began = time.perf_counter()
    starting = [replace(space.baseline, template=template) for template in space.templates]
    starting += [replace(space.baseline, instruction=text) for text in space.instructions[1:]]
    scores = scorer.score(starting, shots.dev)
    best = max(range(len(starting)), key=lambda at: (scores[at].value, scores[at].margin, -at))
    found["best starting prompt"] = _measured(shots, shots.model, starting[best], time.perf_counter() - began)
    began = time.perf_counter()
    study = Study(space, Scorer(shots.model, accuracy), shots.dev, SEARCH, seed=seed)
    winner = study.confirm(study.run())[0].prompt
    searched = time.perf_counter() - began
    found["search"] = _measured(shots, shots.model, winner, searched)
    found["search + tuning"] = _tuned(shots, winner, recommended(shots.model.family), seed, searched)
    return found


def tuning_alone(shots: Shots, seed: int) -> Found:
    """Fine-tuning from the first prompt."""
    return {"tuning without prompt": _tuned(shots, shots.space.baseline, recommended(shots.model.family), seed, 0.0)}


def effects(shots: Shots, seed: int) -> Found:
    """What each option of fine-tuning changes, one at a time, from the same searched prompt."""
    study = Study(shots.space, Scorer(shots.model, accuracy), shots.dev, SEARCH, seed=seed)
    finalists = study.confirm(study.run())
    winner, usual = finalists[0].prompt, recommended(shots.model.family)
    found = {"the winner, untuned": _measured(shots, shots.model, winner, 0.0)}
    for name, changes in _changes(usual).items():
        found[name] = _tuned(shots, winner, replace(usual, **changes), seed, 0.0)
    texts = [c.prompt for c in finalists[1:] if c.prompt.soft is None][:3]
    found["trained under 4 prompts of the study"] = _tuned(shots, winner, usual, seed, 0.0, texts)
    for kind in get_args(VariantKind):
        made = variants(winner, shots.train, [kind], 3, seed)
        found[f"trained under 3 variants: {kind}"] = _tuned(shots, winner, usual, seed, 0.0, made)
    both = replace(usual, consistency=1.0)
    found["4 prompts, consistency 1"] = _tuned(shots, winner, both, seed, 0.0, texts)
    return found | _more_data(shots, winner, usual, seed)


def _more_data(shots: Shots, winner: Prompt, usual: FinetuneOptions, seed: int) -> Found:
    """Labels for texts that have none, by the winner and by the model that it tuned; and written examples."""
    found, scorer, train = Found(), Scorer(shots.model, accuracy), shots.train
    tuned = finetune(shots.model, winner, train, _judge(shots), usual, seed)
    teachers = {"the winner": (scorer, winner), "the tuned model": (scorer.using(tuned.model), tuned.prompt)}
    for name, (judge, prompt) in teachers.items():
        for precision in (0.9, 0.8):
            options = PseudoOptions(precision=precision)
            made = pseudo_labelled(judge, prompt, shots.more, shots.dev, options, seed, train)
            row = f"labels at {precision} by {name}"
            found[row] = _tuned(shots, winner, usual, seed, 0.0, more=made.examples) | _rightly(
                made.examples, shots.more
            )
    if shots.model.family in ("causal", "seq2seq"):
        written = written_examples(scorer, winner, train, WritingOptions(per_label=10), seed, None, shots.dev)
        found["10 written examples a label"] = _tuned(shots, winner, usual, seed, 0.0, more=written.examples)
        found["10 written examples a label"]["added"] = len(written.examples)
    return found


def _rightly(examples: Sequence[Example], texts: Sequence[Example]) -> dict[str, Any]:
    """How many texts got a label, and the share of right ones."""
    labels = {tuple(text.fields.values()): text.label for text in texts}
    right = [labels[tuple(example.fields.values())] == example.label for example in examples]
    return {"added": len(right), "added_right": round(sum(right) / len(right), 4) if right else None}


def _judge(shots: Shots) -> Evaluate:
    def evaluate(model: LanguageModel, now: Prompt) -> tuple[float, float]:
        [score] = Scorer(model, accuracy).score([now], shots.dev)
        return score.value, -score.loss

    return evaluate


def _changes(usual: FinetuneOptions) -> dict[str, dict[str, Any]]:
    """Each option beside its usual value."""
    methods: dict[str, dict[str, Any]] = {
        "method full, rate 1e-4": {"method": "full", "learning_rate": 1e-4},
        "lora": {"method": "lora", "learning_rate": 1e-3},
        "dora": {"method": "lora", "learning_rate": 1e-3, "adapter": "dora"},
        "rslora": {"method": "lora", "learning_rate": 1e-3, "adapter": "rslora"},
    }
    others: dict[str, dict[str, Any]] = {
        "label smoothing 0.1": {"label_smoothing": 0.1},
        "weight decay 0.1": {"weight_decay": 0.1},
        "consistency 1": {"consistency": 1.0},
        "schedule cosine": {"schedule": "cosine"},
        "never stopped early": {"patience": 0},
    }
    return {"as it is by itself": {}, **methods, **others}


def _tuned(
    shots: Shots,
    prompt: Prompt,
    options: FinetuneOptions,
    seed: int,
    before: float,
    others: Sequence[Prompt] = (),
    more: Sequence[Example] = (),
) -> dict[str, Any]:
    began = time.perf_counter()
    train = [*shots.train, *more]
    tuned = finetune(shots.model, prompt, train, _judge(shots), options, seed, others=others)
    seconds = before + time.perf_counter() - began
    about = {"epoch": tuned.epoch, "dev": tuned.quality[0]}
    return _measured(shots, tuned.model, tuned.prompt, seconds, about)


def _measured(
    shots: Shots, model: LanguageModel, prompt: Prompt, seconds: float, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    [score] = Scorer(model, accuracy).score([prompt], shots.test)
    right = [int(p == t) for p, t in zip(score.outcome.predictions, score.outcome.targets, strict=True)]
    text = prompt.placeholder_text()[:300]
    return {"accuracy": score.value, "right": right, "seconds": round(seconds, 1), "prompt": text, **(about or {})}
