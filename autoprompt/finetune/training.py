"""The door of fine-tuning: from a prompt and its examples to a trained model."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from autoprompt.clock import Halt, never
from autoprompt.data import Example, fingerprint
from autoprompt.errors import ModelError
from autoprompt.events import Listener, silent
from autoprompt.finetune.checkpoints import Checkpoints
from autoprompt.finetune.contrast import Contrast
from autoprompt.finetune.course import Course
from autoprompt.finetune.objective import Objective
from autoprompt.finetune.options import FinetuneOptions, Target, require_allowed, target_of_kind
from autoprompt.finetune.record import Quality
from autoprompt.finetune.regression import with_regression
from autoprompt.finetune.tuned import Tuned
from autoprompt.finetune.weights import Pupil, fingerprint_of, pupil_of, undisturbed
from autoprompt.lesson import untaught
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt

__all__ = ["finetune"]


def finetune(
    model: LanguageModel,
    prompt: Prompt,
    examples: Sequence[Example],
    evaluate: Callable[[LanguageModel, Prompt], Quality],
    options: FinetuneOptions | None = None,
    seed: int = 0,
    listener: Listener = silent,
    *,
    others: Sequence[Prompt] = (),
    folder: Path | None = None,
    target: Target | None = None,
    halt: Halt = never,
) -> Tuned:
    """Train a model on `examples` under `prompt`; the best epoch on dev is kept.

    target: what is learned; None is what the way that the prompt is answered asks for. "labels": -log P(right label),
    as the prompt's predictions have it; "option": the same of the input's own options. "number": the squared error of
    the labels' expectation, for labels that are numbers; "likeness": that of a sentence encoder's cosine. "text": the
    example's label as a text that is written in the answer's place.

    `evaluate` scores a model and a prompt on dev, greater is better. others: further prompts, for
    the same labels, that take turns with `prompt` in training; dev is scored under `prompt`, and
    vectors of others stay as they are. Examples that a prompt shows as demonstrations are not taught
    under it. folder: where checkpoints lie; a run that was killed goes on from there when it is
    called again with the same arguments, to the same weights, and those of other arguments are
    replaced. halt: asked after each step why training should end now; it ends with the best weights there are.
    The model is copied, so it needs room twice.

    In several processes (`accelerate launch`, torchrun) each calls this with the same arguments:
    they share each step, the first one scores, writes and tells, and all return the same.

    Raises ModelError when options, model and target do not go together, the loss is not a number,
    or one example does not fit into memory; PromptError and DataError as `Lesson.of`.
    """
    options = options or FinetuneOptions()
    target = target or target_of_kind(prompt.answer.kind)
    require_allowed("target", target, get_args(Target))
    if not examples:
        raise ModelError("Fine-tuning was given no examples. Give some of the train split.")
    from autoprompt.finetune.loop import train  # here: transformers' Trainer is slow to import
    from autoprompt.finetune.trainer import Run

    options = options.settled(len(prompt.labels))
    given = [_taught(one, options) for one in (prompt, *others)]
    prompts = list({one.fingerprint: one for one in given}.values())
    with undisturbed(model.device), _as_before(model):
        pupil = pupil_of(model, prompts[0], options, seed)
        course = Course.of(prompts, examples, options, seed)
        if options.steps is not None:
            options = dataclasses.replace(options, epochs=max(1, min(options.epochs, options.steps // course.steps)))
        kind = Contrast if options.contrastive > 0 else Objective
        objective = kind.of(pupil, prompts, examples, target, options, seed)
        if options.class_weights == "balanced":
            objective.balance({number: examples[number].label for number in course.allowed})
        asked = [dataclasses.asdict(options), [p.fingerprint for p in prompts], fingerprint(examples), seed, target]
        checkpoints = None if folder is None else functools.partial(_checkpoints, folder, model, asked)

        def headed(now: LanguageModel, prompt: Prompt) -> LanguageModel:
            return with_regression(now, prompt, untaught(prompt, examples)) if options.head == "regression" else now

        def judge(now: LanguageModel, prompt: Prompt) -> Quality:
            return evaluate(headed(now, prompt), prompt)

        with _recomputed(pupil, options):
            record = train(Run(pupil, objective, course, options, judge, listener, seed, checkpoints, halt))
        trained = headed(pupil.finished(), pupil.prompt_now())
    return Tuned(
        trained, pupil.prompt_now(), options.method, record.best, tuple(record.qualities),
        tokens=sum(objective.size(r) for e in range(record.epoch) for step in course.epoch(e + 1) for r in step),
        adapter=pupil.adapter,
        losses=tuple(record.losses),
    )  # fmt: skip


def _taught(prompt: Prompt, options: FinetuneOptions) -> Prompt:
    """A prompt as it is trained and read afterwards."""
    if isinstance(options.temperature, float | int):
        prompt = dataclasses.replace(prompt, temperature=options.temperature)
    if options.head == "regression":  # which has its own prior of the labels
        prompt = dataclasses.replace(prompt, calibration="none")
    return prompt


def _checkpoints(folder: Path, model: LanguageModel, asked: Sequence[object], processes: int) -> Checkpoints:
    key = json.dumps([*asked, fingerprint_of(model), processes], sort_keys=True)
    return Checkpoints(folder, hashlib.sha256(key.encode()).hexdigest()[:16])


@contextmanager
def _as_before(model: LanguageModel) -> Iterator[None]:
    """The network that was given reads as before afterwards; the method "vectors" trains through it itself."""
    training = model.network.training
    try:
        yield
    finally:
        model.network.train(training)


@contextmanager
def _recomputed(pupil: Pupil, options: FinetuneOptions) -> Iterator[None]:
    """While open, the network computes activations twice instead of keeping them, where the options say so."""
    network = pupil.model.network
    if not options.gradient_checkpointing:
        yield
        return
    if not getattr(network, "supports_gradient_checkpointing", False):
        raise ModelError(
            f"The model {pupil.model.name!r} cannot compute activations twice. Set gradient_checkpointing = false."
        )
    # transformers 5 renames these methods
    cached = getattr(network.config, "use_cache", None)
    network.config.use_cache = False  # or some say in print that they do not
    kind = "activation" if hasattr(network, "activation_checkpointing_enable") else "gradient"
    getattr(network, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(network, f"{kind}_checkpointing_disable")()
        network.config.use_cache = cached
