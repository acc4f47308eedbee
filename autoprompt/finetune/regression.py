"""Label vectors of a sentence encoder by logistic regression on the embeddings of the training texts.

The head of SetFit (Tunstall et al. 2022): what training has moved apart is divided by a convex problem
with one solution. Its vectors are unequal in length, and each label has a bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from autoprompt.data import Example
from autoprompt.engine import Request
from autoprompt.engine.batches import budget_for
from autoprompt.engine.encoder import Embedder
from autoprompt.errors import ModelError
from autoprompt.lesson import Lesson
from autoprompt.models import EncoderModel, LabelVectors, LanguageModel
from autoprompt.prompt import Prompt

__all__ = ["with_regression"]

_STRENGTH = 10.0  # the inverse of the penalty on squared lengths
_STEPS = 1000


def with_regression(model: LanguageModel, prompt: Prompt, examples: Sequence[Example]) -> LanguageModel:
    """The encoder with vectors and biases for the prompt's label words, fitted on examples under the prompt.

    Divided by the prompt's temperature its scores are the regression's logits. A label without any
    example keeps the vector of its description. Raises ModelError when the model is no sentence
    encoder.
    """
    if not isinstance(model, EncoderModel):
        raise ModelError(f"The model {model.name!r} is {model.family}; a regression on embeddings is for encoders.")
    lesson = Lesson.of(model, prompt, examples)
    embedder = Embedder(model, budget_for(model), lambda tokens: None)
    own = None if prompt.soft is None else prompt.soft.vectors
    rows = embedder.embed([(request.context, own) for request in lesson.requests]).astype(np.float64)
    described = embedder.embed([(choice, None) for choice in _choices(lesson)]).astype(np.float64)
    gold = np.array(lesson.gold)
    found = np.unique(gold)
    vectors, biases = described.copy(), np.zeros(len(described))
    if len(found) > 1:
        from sklearn.linear_model import LogisticRegression  # here: most runs have none, and it is slow to import

        fitted = LogisticRegression(C=_STRENGTH, max_iter=_STEPS).fit(rows, gold)
        weights, offsets = fitted.coef_, fitted.intercept_
        if len(found) == 2:  # one row, for the second of them
            weights, offsets = np.concatenate([-weights, weights]) / 2, np.concatenate([-offsets, offsets]) / 2
        temperature = prompt.temperature or model.temperature
        vectors[found], biases[found] = weights * temperature, offsets * temperature
    as_tensor = (torch.from_numpy(part.astype(np.float32)).to(model.device) for part in (vectors, biases))
    return model.with_labels(LabelVectors(tuple(prompt.label_words.values()), *as_tensor))


def _choices(lesson: Lesson) -> tuple[tuple[int, ...], ...]:
    first: Request = lesson.requests[0]
    return first.choices
