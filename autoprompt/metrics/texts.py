"""Metrics of answers that are texts; each right answer of an example counts, and the best match is taken."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from autoprompt.metrics.base import Metric, metric
from autoprompt.metrics.numbers import number

__all__ = ["TEXTS", "bleu", "chrf", "exact_match", "match", "numeric_match", "rouge1", "rouge2", "rougeL", "token_f1"]

_KNOWN = 2**15  # pairs of answer and references whose counts are kept: resamples ask for the same ones again
_NEAR = 1e-6  # relative difference of numbers that are equal
_Accepted = list[tuple[str, ...]]


# -- translation: sacrebleu ------------------------------------------------------------------------


@lru_cache(2)
def _scorer(name: str) -> Any:
    import sacrebleu

    return sacrebleu.BLEU(force=True) if name == "bleu" else sacrebleu.CHRF()


@lru_cache(_KNOWN)
def _counts(name: str, answer: str, accepted: tuple[str, ...]) -> Any:
    """The n-grams of an answer that sacrebleu counts, which a corpus adds up."""
    return _scorer(name)._extract_corpus_statistics([answer], [[text] for text in accepted])[0]


def _corpus(name: str, predictions: list[str], references: _Accepted) -> float:
    if not predictions:
        return 0.0
    counts = [_counts(name, answer, accepted) for answer, accepted in zip(predictions, references, strict=True)]
    return float(_scorer(name)._aggregate_and_compute(counts).score)


def _characters(predictions: list[str], references: _Accepted) -> list[float]:
    """The chrF of each answer, 0 to 1."""
    pairs = zip(predictions, references, strict=True)
    return [_corpus("chrf", [answer], [accepted]) / 100 for answer, accepted in pairs]


@metric(proxy=_characters, worst=0.0)
def bleu(predictions: list[str], references: _Accepted) -> float:
    """BLEU of the whole set (Papineni et al. 2002), 0 to 100, as sacrebleu counts it by default (Post 2018)."""
    return _corpus("bleu", predictions, references)


@metric(proxy=_characters, worst=0.0)
def chrf(predictions: list[str], references: _Accepted) -> float:
    """chrF of the whole set (Popovic 2015), 0 to 100, as sacrebleu counts it by default."""
    return _corpus("chrf", predictions, references)


# -- summaries: rouge-score ------------------------------------------------------------------------


@lru_cache(3)
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=True)


@lru_cache(_KNOWN)
def _rouge(kind: str, answer: str, accepted: tuple[str, ...]) -> float:
    return float(_rouge_scorer(kind).score_multi(accepted, answer)[kind].fmeasure)


@metric(worst=0.0)
def rouge1(predictions: list[str], references: _Accepted) -> list[float]:
    """The F-measure of single words (Lin 2004), stemmed."""
    return [_rouge("rouge1", answer, accepted) for answer, accepted in zip(predictions, references, strict=True)]


@metric(worst=0.0)
def rouge2(predictions: list[str], references: _Accepted) -> list[float]:
    """The F-measure of pairs of words (Lin 2004), stemmed."""
    return [_rouge("rouge2", answer, accepted) for answer, accepted in zip(predictions, references, strict=True)]


@metric(name="rougeL", worst=0.0)
def rougeL(predictions: list[str], references: _Accepted) -> list[float]:  # noqa: N802 (its name in the literature)
    """The F-measure of the longest common subsequence of words (Lin 2004), stemmed."""
    return [_rouge("rougeL", answer, accepted) for answer, accepted in zip(predictions, references, strict=True)]


# -- short answers ---------------------------------------------------------------------------------

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _best(predictions: list[str], references: _Accepted, score: Callable[[str, str], float]) -> list[float]:
    pairs = zip(predictions, references, strict=True)
    return [max(score(answer, text) for text in accepted) for answer, accepted in pairs]


def _words(text: str) -> list[str]:
    """The words that SQuAD 1.1 compares (Rajpurkar et al. 2016): lower-case, without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def _shared(answer: str, text: str) -> float:
    given, wanted = _words(answer), _words(text)
    common = (Counter(given) & Counter(wanted)).total()
    if not common:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


@metric(worst=0.0)
def exact_match(predictions: list[str], references: _Accepted) -> list[float]:
    """The share of answers that are a right one, both as SQuAD 1.1 normalizes them."""
    return _best(predictions, references, lambda answer, text: float(_words(answer) == _words(text)))


@metric(worst=0.0)
def token_f1(predictions: list[str], references: _Accepted) -> list[float]:
    """The mean F1 score of the words that answer and right answer share, both as SQuAD 1.1 normalizes them."""
    return _best(predictions, references, _shared)


@metric(worst=0.0)
def match(predictions: list[str], references: _Accepted) -> list[float]:
    """The share of answers that are a right one, letter by letter, but for space around them."""
    return _best(predictions, references, lambda answer, text: float(answer.strip() == text.strip()))


@metric(worst=0.0)
def numeric_match(predictions: list[str], references: _Accepted) -> list[float]:
    """The share of answers that are the right number, to one in a million; "$", "," and "%" do not count."""
    return _best(predictions, references, _equal)


def _equal(answer: str, text: str) -> float:
    given, wanted = (number(side.translate(_NO_SIGNS)) for side in (answer, text))
    return float(given is not None and wanted is not None and math.isclose(given, wanted, rel_tol=_NEAR))


_NO_SIGNS = str.maketrans("", "", "$,%")
TEXTS: tuple[Metric, ...] = (bleu, chrf, rouge1, rouge2, rougeL, exact_match, token_f1, match, numeric_match)
