"""Sentence encoders: every text is embedded once, and a choice's score is a cosine.

A choice that has a label vector is not embedded: its score is that of a linear classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine.batches import Budget
from autoprompt.engine.request import Ids, Request, Row, embedded, padded
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel
from autoprompt.models.encoder import EncoderModel
from autoprompt.soft import Array

__all__ = ["Embedder", "cosines", "embeddings"]

Text = tuple[Ids, Array | None]  # ids, and the vectors (K, H) that its ids -1-k stand for
_Key = tuple[Ids, bytes]  # ids, and a hash of the vectors
_Answers = tuple[NDArray[np.float64], NDArray[np.float64]]  # vectors (C, D) and biases (C,) of choices
_REMEMBERED = 2**26  # numbers in remembered vectors: 256 MB, 174,762 vectors of 384


def embeddings(model: EncoderModel, rows: Sequence[tuple[Ids, Tensor | None]]) -> Tensor:
    """Unit vectors (R, D) of texts, float32, read as one padded batch, with a gradient where one is on."""
    ids, mask = padded([ids for ids, _ in rows], model.device)
    outputs = model.network(**embedded(model, ids, [vectors for _, vectors in rows]), attention_mask=mask)
    return model.sentences(outputs.last_hidden_state, mask)


def cosines(model: LanguageModel, rows: Sequence[Row]) -> Tensor:
    """The cosine of each row's context with its choice (R,), float32, with a gradient where one is on.

    Of a choice that has a label vector, the product of the context's unit vector with it, plus its
    bias. Each distinct text is read once. Raises ModelError when the model is no sentence encoder.
    """
    if not isinstance(model, EncoderModel):
        raise ModelError(f"The model {model.name!r} is {model.family}; only sentence encoders embed.")
    contexts = {(row.context, id(row.vectors)): (row.context, row.vectors) for row in rows}
    found = dict(zip(contexts, embeddings(model, list(contexts.values())), strict=True))
    left = torch.stack([found[row.context, id(row.vectors)] for row in rows])
    vectors, biases = _answers(model, [row.choice for row in rows])
    return (left * vectors).sum(1) + biases


def _answers(model: EncoderModel, choices: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    """What stands for choices: vectors (R, D) and biases (R,), of texts and of labels that have learned theirs."""
    texts = list(dict.fromkeys(choice for choice in choices if choice not in model.label_places))
    at = {choice: number for number, choice in enumerate(texts)}
    at |= {choice: len(texts) + number for choice, number in model.label_places.items()}
    index = torch.tensor([at[choice] for choice in choices], device=model.device)
    vectors = [embeddings(model, [(text, None) for text in texts])] if texts else []
    biases = [torch.zeros(len(texts), device=model.device)]
    if model.labels is not None:
        vectors.append(model.labels.vectors.to(model.device, torch.float32))
        biases.append(model.labels.bias.to(model.device, torch.float32))
    return torch.cat(vectors)[index], torch.cat(biases)[index]


class Embedder:
    """Embeds texts, and remembers what it has embedded.

    budget: how much goes into a pass. count: told the tokens that went through the model, without
    padding. remembered: how many numbers to keep at most; the vectors that were not asked for the
    longest are forgotten first.
    """

    def __init__(
        self, model: EncoderModel, budget: Budget, count: Callable[[int], None], remembered: int = _REMEMBERED
    ) -> None:
        self._model, self._budget, self._count, self._remembered = model, budget, count, remembered
        self._known: dict[_Key, Array] = {}

    def scores(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        """The cosine of each request's context with each of its choices, one (C,) a request.

        Of a choice that has a label vector, the product with it, plus its bias. Where the model returns
        NaN, so does this. Raises ModelError when a single text does not fit into memory.
        """
        marks: dict[int, bytes] = {}
        wanted: dict[_Key, Array | None] = {}
        contexts: list[_Key] = []
        for request in requests:
            if id(request.vectors) not in marks:
                marks[id(request.vectors)] = _mark(request.vectors)
            contexts.append((request.context, marks[id(request.vectors)]))
            wanted[contexts[-1]] = request.vectors
            wanted |= {(choice, b""): None for choice in request.choices if choice not in self._model.label_places}
        found = self._found(wanted)
        answers = self._answers({request.choices for request in requests}, found)
        return [
            answers[request.choices][0] @ found[key].astype(np.float64) + answers[request.choices][1]
            for request, key in zip(requests, contexts, strict=True)
        ]

    def _answers(self, sets: Iterable[tuple[Ids, ...]], found: Mapping[_Key, Array]) -> dict[tuple[Ids, ...], _Answers]:
        """What stands for each set of choices, as the label vectors are now."""
        # in float64: a product's rounding does not depend on what else is multiplied
        places, labels = self._model.label_places, self._model.labels
        if labels is not None:
            vectors, biases = (t.detach().cpu().double().numpy() for t in (labels.vectors, labels.bias))
        return {
            choices: (
                np.stack([vectors[places[c]] if c in places else found[c, b""] for c in choices], dtype=np.float64),
                np.array([biases[places[c]] if c in places else 0.0 for c in choices]),
            )
            for choices in sets
        }

    def embed(self, texts: Sequence[Text]) -> Array:
        """Unit vectors (N, D) of texts, float32. Raises as `scores` does, and where the model returns NaN."""
        keys = [(ids, _mark(vectors)) for ids, vectors in texts]
        found = self._found({key: vectors for key, (_, vectors) in zip(keys, texts, strict=True)})
        rows = np.stack([found[key] for key in keys])
        if not np.isfinite(rows).all():
            raise ModelError(
                f"The model {self._model.name!r} returned NaN or infinite numbers "
                f'in {str(self._model.dtype).removeprefix("torch.")}. Try [model] dtype = "float32".'
            )
        return rows

    @torch.inference_mode()
    def _found(self, wanted: Mapping[_Key, Array | None]) -> dict[_Key, Array]:
        """The vectors (D,) of all wanted texts, those of new ones from the model."""
        # popped and put in again: the order of `_known` is that of the last use
        found = {key: self._known.pop(key) for key in wanted if key in self._known}
        new = sorted((key for key in wanted if key not in found), key=lambda key: len(key[0]))

        def forward(batch: list[_Key]) -> None:
            given = [(key[0], wanted[key]) for key in batch]
            rows = [(ids, None if vectors is None else torch.from_numpy(vectors)) for ids, vectors in given]
            values = embeddings(self._model, rows).cpu().numpy()
            self._count(sum(len(ids) for ids, _ in rows))
            found.update((key, row.copy()) for key, row in zip(batch, values, strict=True))

        for soft in (False, True):  # not mixed: a batch with vectors is read as embeddings
            members = [key for key in new if (wanted[key] is not None) == soft]
            self._budget.run(members, lambda key: (1, len(key[0])), forward)
        self._known |= {key: row for key, row in found.items() if np.isfinite(row).all()}
        most = self._remembered // max(1, len(next(iter(found.values()), ())))
        for key in list(islice(self._known, max(0, len(self._known) - most))):
            del self._known[key]
        return found


def _mark(vectors: Array | None) -> bytes:
    return b"" if vectors is None else blake2b(np.ascontiguousarray(vectors).tobytes(), digest_size=16).digest()
