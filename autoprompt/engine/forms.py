"""Forms that texts must match: which tokens may come next, by llguidance, in the bytes of the model's tokens."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoprompt.engine.continuation import Detokenizer
from autoprompt.engine.request import Ids
from autoprompt.engine.written import Form
from autoprompt.errors import ConfigError, ModelError
from autoprompt.models import LanguageModel

if TYPE_CHECKING:
    from llguidance import LLMatcher

__all__ = ["Guide", "Vocabulary", "forms_library"]

_NEVER, _SILENT = 0, -1  # numbers of tokens
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_FORM = "The form of the texts"
_SEPARATORS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # of json.dumps


def forms_library() -> Any:
    """llguidance. Raises ModelError, which says how to get it, where it is not installed."""
    try:
        import llguidance
    except ImportError:
        raise ModelError(
            'Texts that match a form need one more package: pip install "autoprompt-search[forms]".'
        ) from None
    return llguidance


def grammar_of(form: Form) -> str:
    """A form in the words of llguidance. Raises ConfigError when it is not understood there.

    Nothing is forced: where only one text can follow, the model still chooses by which tokens it writes it.
    """
    library = forms_library()
    if form.kind == "json":
        rule = f"%json {_schema(str(form.what))}"
    else:
        regex = form.what if isinstance(form.what, str) else "|".join(map(re.escape, form.what))
        rule = f"/{library.regex_to_lark(regex, '')}/"
    grammar = library.LLMatcher.grammar_from_lark(f'%llguidance {{"no_forcing": true}}\nstart: {rule}')
    if trouble := library.LLMatcher.validate_grammar(grammar):
        first = " ".join(trouble.split())
        raise ConfigError(_FORM, [f"{form.kind} {str(form.what)[:80]!r}: {first[:300]}"])
    return str(grammar)


def _schema(text: str) -> str:
    """A JSON schema, with the separators of `json.dumps` between the parts of a value."""
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise ConfigError(_FORM, [f"what: no JSON ({error})"]) from None
    if not isinstance(schema, dict):
        raise ConfigError(_FORM, [f"what: {text[:80]}; a JSON schema is an object"])
    return json.dumps({**schema, "x-guidance": _SEPARATORS})


class Vocabulary:
    """The bytes that each token writes, and the grammars of forms over them.

    The bytes are those by which the tokenizer's own decoding grows, so that they are right for byte-level
    tokens, for marks before words, and for tokens that stand for one byte. A token may write others at the
    beginning of a text, where the space of a mark falls away. Special tokens write nothing.
    """

    def __init__(self, model: LanguageModel, detokenizer: Detokenizer) -> None:
        self._model, self._detokenizer = model, detokenizer
        self._grammars: dict[Form, LLMatcher] = {}

    def matcher(self, form: Form) -> LLMatcher:
        """A fresh matcher of the form."""
        if form not in self._grammars:
            self._grammars[form] = forms_library().LLMatcher(self._tokenizer, grammar_of(form))
        return self._grammars[form].deep_copy()

    @cached_property
    def later(self) -> NDArray[np.int64]:
        """Each token's number among the byte strings (V,), behind other text; _NEVER for what cannot be written."""
        [anchor] = self._model.ids(["a"], special=False)
        return self._numbers(anchor)

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """The same at the beginning of a text; _SILENT for a mark that writes nothing there."""
        return self._numbers(())

    @cached_property
    def _strings(self) -> dict[bytes, int]:
        """Byte strings, numbered: none, all single bytes, then those of tokens."""
        return {b"": _NEVER, **{bytes([byte]): 1 + byte for byte in range(256)}}

    def _numbers(self, before: Ids) -> NDArray[np.int64]:
        known = self._strings
        numbers = np.full(len(self._model.tokenizer), _NEVER, dtype=np.int64)
        for token in range(len(numbers)):
            if token not in self._detokenizer.specials and (found := self._bytes(before, token)) is not None:
                silent = not found and not before
                numbers[token] = _SILENT if silent else known.setdefault(found, len(known))
        return numbers

    def _bytes(self, before: Ids, token: int) -> bytes | None:
        text = self._detokenizer.text(before, (token,))
        if "\ufffd" not in text:
            return text.encode()
        piece = str(self._model.tokenizer.convert_ids_to_tokens(token))
        if single := _BYTE.fullmatch(piece):
            return bytes([int(single[1], 16)])
        if all(character in _BYTES for character in piece):
            return bytes(_BYTES[character] for character in piece)
        return None  # part of a character, and there is no telling which

    @cached_property
    def _tokenizer(self) -> Any:
        library = forms_library()
        _ = self.later, self.first  # all strings
        return library.LLTokenizer(library.TokenizerWrapper(_Strings(list(self._strings))))


class Guide:
    """Which tokens may come next in one text, that it matches its form in the end.

    anew: the text stands at the beginning, with nothing before it. ends: the tokens that end it.
    """

    def __init__(self, vocabulary: Vocabulary, form: Form, anew: bool, ends: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self._matcher = vocabulary.matcher(form)
        self._numbers = vocabulary.first if anew else vocabulary.later
        self._ends = sorted(ends)

    def allowed(self, width: int) -> NDArray[np.bool_]:
        """Which of `width` tokens may come next."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        strings = np.unpackbits(bits, bitorder="little").astype(bool)
        if self._matcher.is_error():
            raise ModelError(f"The form of the texts cannot be followed: {self._matcher.get_error()[:300]}")
        strings[_NEVER] = False
        numbers = self._numbers[:width]
        found = np.zeros(width, dtype=bool)
        found[: len(numbers)] = strings[numbers] | (numbers == _SILENT)
        if self._ends:
            found[[end for end in self._ends if end < width]] = self._matcher.is_accepting()
        return found

    def add(self, token: int) -> bool:
        """Take in a token that was allowed; True when nothing can follow it."""
        number = int(self._numbers[token])
        self._numbers = self._vocabulary.later
        if number != _SILENT:
            self._matcher.consume_token(number)
        return bool(self._matcher.is_stopped())


class _Strings:
    """Byte strings as llguidance takes a tokenizer's: the last one ends a text."""

    bos_token_id = None

    def __init__(self, strings: list[bytes]) -> None:
        self.tokens = [*strings, b"<end>"]
        self.eos_token_id = len(strings)
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: bytes | str) -> list[int]:
        return [1 + byte for byte in (text.encode() if isinstance(text, str) else text)]


def _byte_letters() -> dict[str, int]:
    """The letters that byte-level tokenizers write bytes with: printable bytes as they are in Latin-1, the others
    in order from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(0x100 + at): byte for at, byte in enumerate(others)}}


_BYTES = _byte_letters()
