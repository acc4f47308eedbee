"""Which texts are most like a text: what chooses the demonstrations of each input."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# numpy and scikit-learn are imported where texts are compared: checking a file answers in a blink

__all__ = ["Index", "index_of", "vectorizer"]

_KEPT_NUMBERS = 2**24  # in remembered rankings: 128 MB


def vectorizer() -> Any:
    """What makes two texts alike: the pieces of their words, TF-IDF-weighted (scikit-learn)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)


class Index:
    """Texts, to be asked which of them are most like another one.

    >>> Index(["My parcel is late.", "I was charged twice."]).ranking("Where is the parcel?").tolist()
    [0, 1]
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._vectorizer = vectorizer()
        # a dot keeps texts without any letter from leaving nothing to compare
        self._rows = self._vectorizer.fit_transform([f"{text} ." for text in texts])
        self._known: OrderedDict[str, NDArray[np.intp]] = OrderedDict()
        self._most = max(100, _KEPT_NUMBERS // max(1, len(texts)))

    def ranking(self, text: str) -> NDArray[np.intp]:
        """The numbers of all texts (N,), the most alike first by cosine; ties in their own order."""
        if text not in self._known:
            alike = (self._rows @ self._vectorizer.transform([text]).T).toarray()[:, 0]
            self._known[text] = (-alike).argsort(kind="stable")
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return self._known[text]


@functools.lru_cache(maxsize=8)
def index_of(texts: tuple[str, ...]) -> Index:
    """The index of these texts; the same one for every prompt that retrieves from them."""
    return Index(texts)
