"""Label words that the model itself would say: found in its distribution where the answer stands.

For each class, the words that are likelier on its examples than on those of the others, by the
mean log-odds (Schick et al. 2020, PETAL, section 3.2), among those that the model finds likely
there at all (Gao et al. 2021, LM-BFF, section 5.1). How well any assignment of them to the labels
does on these examples can be read from the same distributions; the best are scored on others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.data import Example
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.propose.base import Desk, Known, Proposal, Proposals, Proposer
from autoprompt.propose.checks import fresh
from autoprompt.propose.reading import answer_distributions, in_turns, tokens_read
from autoprompt.scorer import Score, Scorer

__all__ = ["LabelWords"]

Floats = NDArray[np.float64]
_FOUND, _SCORED = 96, 64  # examples that words are found on, and others that assignments are scored on
_LIKELY = 400  # the likeliest tokens of a class, among which the log-odds choose
_WORDS = 16  # candidates a label
_PARENTS = 2  # prompts whose answers are looked at
_SWEEPS = 6  # over all labels, of one ascent


class LabelWords(Proposer):
    """New label words for the best prompts."""

    name: ClassVar[str] = "words"

    @classmethod
    def covers(cls, desk: Desk) -> bool:
        """Answers by label, of every model that gives a distribution over words; a sentence encoder gives none."""
        return desk.model.family != "encoder" and desk.space.baseline.answer.kind == "label"

    def propose(self, known: Sequence[Known], count: int, seed: int) -> Proposals:
        """Assignments of words to labels, by their score on examples that they were not found on."""
        parents: dict[tuple[str, str], Known] = {}
        for one in known:
            if one.prompt.kind == "discrete" and len(parents) < _PARENTS:
                parents.setdefault((one.prompt.template, one.prompt.instruction), one)
        wanted = max(_FOUND, 2 * len(self.desk.space.baseline.labels)) + _SCORED
        drawn = in_turns(self.desk.pool, wanted, seed)
        cut = max(len(drawn) - _SCORED, len(drawn) // 2)
        if count < 1 or cut == len(drawn) or not parents:
            return Proposals()
        proposals: list[Proposal] = []
        tokens = 0
        for parent in parents.values():
            found, read = _assignments(self.desk.scorer, parent.prompt, drawn[:cut], -(-2 * count // len(parents)))
            tokens += read
            proposals += [
                Proposal(replace(parent.prompt, label_words=words), "label words", (parent.number,)) for words in found
            ]
        new = fresh(proposals, known, self.desk, len(proposals))
        best, read = self._ranked(new, list(parents.values()), drawn[cut:])
        return Proposals(tuple(best[:count]), tokens + read)

    def _ranked(
        self, new: Sequence[Proposal], parents: Sequence[Known], examples: Sequence[Example]
    ) -> tuple[list[Proposal], int]:
        """Those that are not worse than their parent both by the metric and by the margin, the best first;
        and the tokens that this took."""
        prompts = [*(parent.prompt for parent in parents), *(proposal.prompt for proposal in new)]
        scores = self.desk.scorer.score(prompts, examples)
        own = {parent.number: self._worth(score) for parent, score in zip(parents, scores, strict=False)}
        worths = list(map(self._worth, scores[len(parents) :]))
        kept = [
            at
            for at, proposal in enumerate(new)
            if any(a >= b for a, b in zip(worths[at], own[proposal.parents[0]], strict=True))
        ]
        kept.sort(key=lambda at: worths[at], reverse=True)
        return [new[at] for at in kept], tokens_read(self.desk.scorer, prompts, examples)

    def _worth(self, score: Score) -> tuple[float, float]:
        return self.desk.scorer.metric.gain(score.value, 0.0), score.margin


# -- finding ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Candidate words and their log-likelihood on each example.

    words: of the columns of `scores` (N, W). options: for each label its columns, its own word's first.
    gold (N,): the right label's number. centred: whether the prompt is calibrated.
    """

    words: tuple[str, ...]
    scores: Floats
    options: tuple[tuple[int, ...], ...]
    gold: NDArray[np.int64]
    centred: bool

    def worth(self, chosen: Sequence[int]) -> tuple[float, float]:
        """The accuracy and the mean log P(right label) when each label has the word of its column.

        For a calibrated prompt each word is measured against its own mean: the batch stands in for
        the inputs without content (Zhou et al. 2024, batch calibration).
        """
        rows = self.scores[:, list(chosen)]
        if self.centred:
            rows = rows - rows.mean(0)
        shares = rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)
        right = shares[np.arange(len(rows)), self.gold]
        return float((rows.argmax(1) == self.gold).mean()), float(right.mean())

    def clash(self, chosen: Sequence[int]) -> bool:
        """Whether two labels have the same word."""
        return len({self.words[at].casefold() for at in chosen}) < len(chosen)


def _assignments(
    scorer: Scorer, prompt: Prompt, examples: Sequence[Example], most: int
) -> tuple[list[dict[str, str]], int]:
    """The best assignments of words to labels on the examples, and the tokens read.

    Demonstrations are left out: they would make the model say the words that they show.
    """
    bare = replace(prompt, demonstrations=(), retrieval=None, calibration="none", temperature=None)
    inputs = [dict(example.fields) for example in examples]
    gold = np.array([prompt.labels.index(example.label) for example in examples])
    own = scorer.log_likelihoods([bare], examples)[0]
    encodings = scorer.encode(bare, inputs)
    logs = answer_distributions(scorer.engine, encodings)
    found = [_likely_words(scorer.model, bare, inputs[0], ids) for ids in _contrasts(logs, gold, len(prompt.labels))]
    words, ids = list(prompt.label_words.values()), list[int]()
    options = []
    for label, candidates in enumerate(found):
        new = range(len(words), len(words) + len(candidates))
        options.append((label, *new))
        words += candidates.values()
        ids += candidates
    scores = np.concatenate([own, logs[:, ids].double().cpu().numpy()], axis=1)
    columns = _Columns(tuple(words), scores, tuple(options), gold, prompt.calibration != "none")
    read = tokens_read(scorer, [bare], examples) + sum(len(e.context) + len(e.tail) + 1 for e in encodings)
    best = _ascended(columns)[:most]
    return [dict(zip(prompt.labels, (columns.words[at] for at in chosen), strict=True)) for chosen in best], read


def _contrasts(logs: Tensor, gold: NDArray[np.int64], labels: int) -> list[list[int]]:
    """For each label the tokens that are likely on its examples, those most unlike on the others' first.

    logs: log P (N, V). A token's contrast is its mean log-odds on the label's examples minus its
    mean over the other labels; labels without examples get no tokens.
    """
    odds = logs - torch.log1p(-logs.exp().clamp(max=1 - 1e-6))
    seen = [label for label in range(labels) if (gold == label).any()]
    rows = [torch.from_numpy(np.flatnonzero(gold == label)).to(logs.device) for label in seen]
    means = torch.stack([odds[at].mean(0) for at in rows])
    others = (means.sum(0) - means) / max(1, len(seen) - 1)
    found: list[list[int]] = [[] for _ in range(labels)]
    for label, at, contrast in zip(seen, rows, means - others, strict=True):
        likely = logs[at].mean(0).topk(min(_LIKELY, logs.shape[1])).indices
        found[label] = likely[contrast[likely].argsort(descending=True, stable=True)].tolist()
    return found


def _likely_words(
    model: LanguageModel, prompt: Prompt, fields: Mapping[str, str], ids: Sequence[int]
) -> dict[int, str]:
    """The first tokens of `ids` that are a word by themselves, with the words.

    A word is made of letters, and the tokenizer writes it as this one token where the answer stands.
    """
    shown = prompt.render(fields)
    gap = shown.answers[0][: len(shown.answers[0]) - len(next(iter(prompt.label_words.values())))]
    size = len(model.tokenizer)
    texts = {at: model.tokenizer.decode([at]).strip() for at in ids if at < size}
    readable = {at: text for at, text in texts.items() if len(text) > 1 and text.isalpha()}
    tried = [replace(shown, answers=(gap + text,), tail="", slot=None) for text in readable.values()]
    encoded = model.encode_shown(tried, 0)
    found: dict[int, str] = {}
    known: set[str] = set()
    for (at, text), encoding in zip(readable.items(), encoded, strict=True):
        if encoding.choices == ((at,),) and text.casefold() not in known and len(found) < _WORDS:
            known.add(text.casefold())
            found[at] = text
    return found


def _ascended(columns: _Columns) -> list[tuple[int, ...]]:
    """Assignments met on the way up, the best first: label by label the best word, from the labels' own
    words and from those found first."""
    worths: dict[tuple[int, ...], tuple[float, float]] = {}
    own = tuple(choices[0] for choices in columns.options)
    for start in (own, _first(columns)):
        chosen = start
        for _ in range(_SWEEPS):
            before = chosen
            for label, choices in enumerate(columns.options):
                tried = [(*chosen[:label], at, *chosen[label + 1 :]) for at in choices]
                allowed = [one for one in tried if not columns.clash(one)]
                worths |= {one: columns.worth(one) for one in allowed if one not in worths}
                chosen = max(allowed, key=lambda one: worths[one], default=chosen)
            if chosen == before:
                break
    worths.pop(own, None)
    return sorted(worths, key=lambda one: worths[one], reverse=True)


def _first(columns: _Columns) -> tuple[int, ...]:
    """Each label's first new word that no label before it has and that is no label's own; else its own."""
    taken = {columns.words[choices[0]].casefold() for choices in columns.options}
    chosen = []
    for own, *others in columns.options:
        at = next((at for at in others if columns.words[at].casefold() not in taken), own)
        taken.add(columns.words[at].casefold())
        chosen.append(at)
    return tuple(chosen)
