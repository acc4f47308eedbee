"""How the builtin model was trained: one file, one command, seeds fixed.

    python -m autoprompt.models.builtin.recipe --data DIR --out autoprompt/models/builtin

The builtin is a small Llama-style decoder that reads classification prompts. It is trained on
*episodes*: an instruction in one of many wordings, the options listed or not, 0 to 8 worked
examples, and texts with their labels under one of many sets of label words. In a part of the
episodes the examples are those most like the last text, as a prompt that retrieves its
demonstrations shows them; in a part the label words are arbitrary symbols, so that only the
examples tell the mapping: both make demonstrations matter to the model. Where neither options nor
examples name the labels, some are the answer far more often than others, as in a real inbox: so
the model leans to common answers, as large ones do (Zhao et al. 2021), until options, examples or
calibration set it right. The loss is cross-entropy on the label tokens, over the whole vocabulary
and, heavier, over the label words of the episode alone, which is how a prompt is scored; and, much
lighter, cross-entropy on all other text (weight `TEXT_WEIGHT`).

`--data` is a folder with `banking77/train.jsonl` (CC-BY-4.0), `clinc150/train.jsonl` (CC-BY-3.0)
and `instruction_induction/*.train.jsonl` (MIT); fields `text`/`label` and `input`/`target`. The
other texts stand in `texts/` beside this file and were written for this project.

Every batch is drawn from (seed, step) alone, so that a training killed within a stage goes on from
its last checkpoint to the same weights.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import re
import time
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from autoprompt.retrieval import vectorizer

SEED = 20
TOKENS_A_STEP = 4096
POOL = 8  # steps that share a pool of episodes
MAX_TOKENS = 512
MOST_CHOICES = 8
TEXT_WEIGHT = 0.005
TEXT_KEPT = 0.05  # the share of the text tokens that enter the loss, at a weight raised to match
ANSWER_WEIGHT = 0.3  # of the whole vocabulary's cross-entropy; that of the label words alone has 1
SYMBOL_WEIGHT = 1.2  # of answers that only the examples before them tell
BLIND_WEIGHT = 0.05  # of answers that cannot be known: symbols that no example before them tells
SKEW = 2.0  # how unlike the shares of a task's labels are, as the deviation of their logarithms
SHOP_SHARES = (0.25, 0.6, 0.08, 0.05, 0.015, 0.004, 0.001)  # of a shop's labels, by their place: deliveries lead
LEARNING_RATE = 4e-3
EMBEDDING_RATE = 2e-4  # the embeddings start with a meaning and keep most of it
VALUE_GAIN = 0.2
OUTPUT_GAIN = 4.0  # of the last norm: without it the logits are too small to prefer anything
WINDOW_GAIN = 1.5  # how sharply a head prefers its window at the start
DECAY = 1 / 3  # the last share of the steps, over which the learning rate falls to zero
END = "<|end|>"  # begins every sequence, ends it, and pads it
KEYWORDS = 25  # a label's most telling words, which stand for it in a part of the episodes
SHOPS = "shops_"  # files of shops' inboxes
WRITTEN = ("commerce", "opinions", "services", "topics")  # files of unlike tasks
PAIR_TASKS = ("antonyms", "synonyms", "singular_to_plural", "larger_animal", "num_to_verbal")

CONFIG: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "attention_bias": True,  # lets a head look by distance alone
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}

# -- what the prompts look like ------------------------------------------------------------------

INSTRUCTIONS = (
    "{question}",
    "{question}",
    "{question}",
    "{question}",
    "Classify the {noun}.",
    "Classify the following {noun}.",
    "Classify this {noun} into one of the categories.",
    "Read the {noun} and choose the right label.",
    "Read the {noun}. {question}",
    "Decide where the {noun} belongs.",
    "Decide which category fits the {noun} best.",
    "Choose the best label for the {noun}.",
    "Your task is to label the {noun}.",
    "Your job is to sort each {noun}. {question}",
    "You are a careful assistant. {question}",
    "You are an expert. {question} Answer with one label only.",
    "Given a {noun}, {question}",
    "Which label fits this {noun}?",
    "What is this {noun} about?",
    "Assign the {noun} to a category.",
    "Label the {noun}.",
    "Sort the {noun}.",
    "Think about what the writer wants. {question}",
    "Below is a {noun}. {question}",
    "Here is a {noun}. Name its category.",
    "Tell me the category.",
    "Please answer the question about the {noun}: {question}",
    "Look at the {noun} and pick the right answer. Be short.",
)
OPTION_LISTS = (
    "Options: {comma}",
    "Options: {comma}.",
    "Options:\n{lines}",
    "Choose from: {comma}.",
    "Choose one of {comma}.",
    "Labels: {comma}",
    "Possible answers: {comma}",
    "Categories: {comma}",
    "Answer with one of: {comma}.",
    "The answer is one of {comma}.",
    "({slash})",
    "Is it {or_list}?",
    "Pick one: {or_list}.",
    "Allowed labels:\n{lines}",
)
TEXT_TAGS = ("Text:", "Input:", "Q:", "{Noun}:", "{Noun}:", "{Noun}:", "Text: \n", "", "", ">", "<{noun}>", "###")
ANSWER_TAGS = (
    "Label:", "Answer:", "Category:", "Output:", "A:", "{Key}:", "{Key}:", "{Key}:", "->", "=>",
    "The {key} is", "The right {key} is", "This belongs to", "This is about", "It was", "Result:", "Topic:", "=",
)  # fmt: skip
KEYS = (
    "label",
    "category",
    "class",
    "topic",
    "type",
    "answer",
    "team",
    "department",
    "group",
    "kind",
    "tag",
    "section",
)
SEPARATORS = ("\n\n", "\n\n", "\n\n", "\n", "\n###\n", "\n---\n")
CONJUNCTIONS = (" or ", ", or ", " and ")
SYMBOLS = (
    tuple("ABCDEFGH"),
    tuple("abcdefgh"),
    tuple("12345678"),
    ("foo", "bar", "baz", "qux", "zip", "zap", "wug", "dax"),
    ("red", "blue", "green", "yellow", "black", "white", "orange", "purple"),
    ("one", "two", "three", "four", "five", "six", "seven", "eight"),
    ("north", "south", "east", "west", "up", "down", "left", "right"),
    ("cat", "dog", "fish", "bird", "horse", "cow", "sheep", "duck"),
    ("alpha", "beta", "gamma", "delta", "omega", "sigma", "kappa", "theta"),
    ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry"),
    ("X", "Y", "Z", "W", "V", "U", "T", "S"),
    ("yes", "no", "maybe", "never", "often", "always", "soon", "later"),
)


@dataclass(frozen=True)
class Stage:
    """Steps `first` to `last` - 1, and how they teach.

    rate: the factor of all learning rates. untold: the weight of answers in front of which neither
    options nor examples name the labels. bare: from this step on, the texts of such answers lose
    most of their words, so that the common labels show.
    """

    first: int
    last: int
    rate: float
    untold: float
    bare: int


# what prompts and texts say; then, shortly, what is likely where they say nothing
STAGES = (Stage(0, 2000, 1.0, 2.0, 1200), Stage(2000, 2500, 0.35, 5.0, 2000))


@dataclass(frozen=True)
class Task:
    """A classification task: per label its words (best first) and its texts."""

    nouns: tuple[str, ...]
    questions: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    texts: dict[str, tuple[str, ...]]
    shop: bool = False

    @functools.cached_property
    def shares(self) -> dict[str, float]:
        """How common each label is, where nothing tells the labels."""
        if self.shop:
            return dict(zip(self.texts, SHOP_SHARES, strict=True))
        return {label: random.Random(f"{SEED} share of {label}").lognormvariate(0, SKEW) for label in self.texts}

    @functools.cached_property
    def similarity(self) -> tuple[Any, dict[str, int]]:
        """TF-IDF rows of unit length (N, F), and the row of each text."""
        texts = sorted({text for texts in self.texts.values() for text in texts})
        return vectorizer().fit_transform(texts).astype("float32"), {text: at for at, text in enumerate(texts)}

    @functools.cached_property
    def keywords(self) -> dict[str, tuple[str, ...]]:
        """Per label the words that stand in its texts more often than in the others'."""
        counts = {
            label: Counter(
                word for text in texts for word in set(re.findall(r"[a-z]{4,}", text.lower())) - ENGLISH_STOP_WORDS
            )
            for label, texts in self.texts.items()
        }
        total: Counter[str] = sum(counts.values(), Counter())
        size = sum(map(len, self.texts.values()))
        found = {}
        for label, own in counts.items():
            share = len(self.texts[label]) / size
            lift = {
                word: n / (total[word] * share + 1) for word, n in own.items() if n >= 2 and n / total[word] > 2 * share
            }
            found[label] = tuple(sorted(lift, key=lambda word: (-lift[word], word))[:KEYWORDS])
        return found


GENERIC_NOUNS = ("text", "message", "sentence", "request", "question", "note")
GENERIC_QUESTIONS = (
    "What does the person want?",
    "Which label fits?",
    "What is the request about?",
    "Name the intent.",
    "Find the matching category.",
    "What is meant here?",
)


# -- the sources ---------------------------------------------------------------------------------


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def written_tasks(path: Path) -> list[Task]:
    """The tasks of a TOML file that was written for this project."""
    tasks = []
    for table in tomllib.loads(path.read_text(encoding="utf-8")).values():
        labels = table["labels"]
        tasks.append(
            Task(
                tuple(table["nouns"]),
                tuple(table["questions"]),
                {name: tuple(label["words"]) for name, label in labels.items()},
                {name: tuple(label["texts"]) for name, label in labels.items()},
                shop=path.stem.startswith(SHOPS),
            )
        )
    return tasks


def intent_tasks(folder: Path, data: Path) -> tuple[list[Task], list[Task]]:
    """Two lists: coarse groupings of public intents, and each public set as one fine task."""
    names = tomllib.loads((folder / "intents.toml").read_text(encoding="utf-8"))
    fine = {}
    for source in ("banking77", "clinc150"):
        texts: dict[str, list[str]] = {}
        for row in read_jsonl(data / source / "train.jsonl"):
            texts.setdefault(row["label"], []).append(row["text"].strip())
        words = {label: tuple(names[source]["names"][label]) for label in texts}
        fine[source] = Task(GENERIC_NOUNS, GENERIC_QUESTIONS, words, {k: tuple(v) for k, v in texts.items()})
    coarse = [
        Task(
            tuple(group["nouns"]),
            tuple(group["questions"]),
            {name: tuple(label["words"]) for name, label in group["labels"].items()},
            {
                name: tuple(text for intent in label["intents"] for text in fine[group["source"]].texts[intent])
                for name, label in group["labels"].items()
            },
        )
        for group in names["groups"]
    ]
    return coarse, list(fine.values())


def pair_tasks(data: Path) -> list[list[tuple[str, str]]]:
    """Word puzzles (input, target) that only examples explain."""
    tasks = []
    for name in PAIR_TASKS:
        rows = read_jsonl(data / "instruction_induction" / f"{name}.train.jsonl")
        tasks.append([(row["input"], row["target"]) for row in rows])
    return tasks


@dataclass(frozen=True)
class Sources:
    """shops: inboxes of shops, which share their labels' order; then all of each file as one task."""

    written: list[Task]
    shops: list[Task]
    coarse: list[Task]
    fine: list[Task]
    pairs: list[list[tuple[str, str]]]

    def draw(self, rng: random.Random) -> Task:
        kinds = (self.written, self.shops, self.coarse, self.fine)
        return rng.choice(rng.choices(kinds, (0.26, 0.46, 0.14, 0.14))[0])


def sources(data: Path) -> Sources:
    """All that the model learns from. data: the folder with the public sets."""
    folder = Path(__file__).parent / "texts"
    coarse, fine = intent_tasks(folder, data)
    paths = sorted(folder.glob("*.toml"))
    shops = [written_tasks(path) for path in paths if path.stem.startswith(SHOPS)]
    whole = [one_task(tasks) for tasks in shops]
    return Sources(
        [task for path in paths if path.stem in WRITTEN for task in written_tasks(path)],
        [task for tasks in shops for task in tasks] + 2 * [*whole, one_task(whole)],
        coarse,
        fine,
        pair_tasks(data),
    )


def one_task(tasks: list[Task]) -> Task:
    """Tasks whose labels mean the same, in the same order, as one; labels are numbered."""
    words: dict[str, tuple[str, ...]] = {}
    texts: dict[str, tuple[str, ...]] = {}
    for at, labels in enumerate(zip(*(task.texts for task in tasks), strict=True)):
        pairs = list(zip(tasks, labels, strict=True))
        # the first words of all tasks in front
        ranked = sorted((rank, word) for task, label in pairs for rank, word in enumerate(task.words[label]))
        words[f"label {at}"] = tuple(dict.fromkeys(word for _, word in ranked))
        texts[f"label {at}"] = tuple(text for task, label in pairs for text in task.texts[label])
    nouns = tuple(dict.fromkeys(noun for task in tasks for noun in task.nouns))
    return Task(nouns, tuple(question for task in tasks for question in task.questions), words, texts, shop=True)


# -- episodes ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A piece of a prompt; an answer has the words that it was chosen from."""

    text: str
    weight: float = TEXT_WEIGHT
    words: tuple[str, ...] = ()


Segments = list[Segment]


def label_words(rng: random.Random, task: Task, labels: list[str]) -> list[str]:
    """One word a label, all distinct; the first ones of each list are the likelier."""
    chosen: list[str] = []
    telling = task.keywords
    # a word of its texts: so many words that none is learned as a class's name
    if rng.random() < 0.3 and all(len(telling[label]) >= 5 for label in labels):
        for label in labels:
            free = [word for word in telling[label] if word not in chosen] or [label.replace("_", " ")]
            chosen.append(rng.choice(free))
        return chosen
    for label in labels:
        free = [word for word in task.words[label] if word not in chosen] or [label.replace("_", " ")]
        reach = 0.9 if len(free) < 12 else 9 / len(free)  # long lists hold many good words
        chosen.append(free[min(int(rng.expovariate(reach)), len(free) - 1)])
    style = rng.random()
    if style < 0.15:
        return [word[:1].upper() + word[1:] for word in chosen]
    if style < 0.2:
        return [word.upper() for word in chosen]
    return chosen


def options_text(rng: random.Random, words: list[str]) -> str:
    listed = rng.sample(words, len(words))
    conjunction = rng.choice(CONJUNCTIONS)
    return rng.choice(OPTION_LISTS).format(
        comma=", ".join(listed),
        lines="\n".join(f"- {word}" for word in listed),
        slash=rng.choice((" / ", "/", "|")).join(listed),
        or_list=", ".join(listed[:-1]) + conjunction + listed[-1],
    )


def disturbed(rng: random.Random, text: str, bare: bool = False) -> str:
    """The text with other casing and some words lost; bare: with hardly any left."""
    if bare or rng.random() < 0.6:  # some words fall out, so that no text is learned by heart
        lost = rng.random() * (0.95 if bare else 0.4)
        text = " ".join(word for word in text.split() if rng.random() > lost) or text
    style = rng.random()
    if style < 0.1:
        return text.lower()
    if style < 0.14:
        return text.rstrip(".!?")
    if style < 0.16:
        return text.upper()
    return text


def classification(rng: random.Random, task: Task, stage: Stage, bare: bool) -> Segments:
    """One prompt with its examples and answers, ready for the tokenizer."""
    labels = rng.sample(sorted(task.texts), min(len(task.texts), rng.choice((2, 3, 4, 4, 5, 6, 7, 8))))
    words = label_words(rng, task, labels)
    shots = rng.choices(range(9), (0.45, 0.04, 0.05, 0.06, 0.13, 0.08, 0.08, 0.055, 0.055))[0]
    symbolic = shots >= 2 and rng.random() < 0.3
    noun, question = rng.choice(task.nouns), rng.choice(task.questions)
    instruction = rng.choice(INSTRUCTIONS).format(noun=noun, question=question) if rng.random() < 0.85 else ""
    listing = options_text(rng, words) if rng.random() < 0.4 else ""
    if symbolic:
        labels, words, listing = _symbolic(rng, labels, words)
    elif rng.random() < 0.05:
        words, listing = _lettered(words)
    key = rng.choice(KEYS)
    noun_key = {"noun": noun, "Noun": noun[:1].upper() + noun[1:], "key": key, "Key": key[:1].upper() + key[1:]}
    before, after = rng.choice(TEXT_TAGS).format(**noun_key), rng.choice(ANSWER_TAGS).format(**noun_key)
    quote = rng.random() < 0.12
    inline = rng.random() < 0.12  # text and answer on one line
    head = rng.choice((" ", "\n")).join(part for part in (instruction, listing) if part)
    placed = rng.random()  # where the instruction stands: first, after each text, or split in two
    inside, separator = "", rng.choice(SEPARATORS)
    if placed < 0.12:
        head, inside = "", head
    elif placed < 0.2:
        head, inside = instruction, listing
    segments: Segments = [Segment(head + separator)] if head else []
    told: set[str] = set()
    examples = _retrieved if shots >= 2 and rng.random() < 0.55 else _drawn
    drawn = examples(rng, task, labels, words, shots + 1)
    untold = not (symbolic or listing or examples is _retrieved)
    if untold:
        drawn[0] = _common(rng, task, labels, words)
    for text, word in drawn:
        shown = disturbed(rng, text, bare and untold and not told)
        body = f'{before} "{shown}"' if quote else f"{before} {shown}"
        body = body.strip() + (f"\n{inside}" if inside else "") + (" " if inline else "\n") + after
        if symbolic:
            weight = SYMBOL_WEIGHT if word in told else BLIND_WEIGHT
        else:
            weight = 1.0 if told or listing else BLIND_WEIGHT if examples is _retrieved else stage.untold
        told.add(word)
        segments += [Segment(body), Segment(" " + word, weight, tuple(words)), Segment(separator)]
    return segments[:-1]


def _symbolic(rng: random.Random, labels: list[str], words: list[str]) -> tuple[list[str], list[str], str]:
    """Arbitrary symbols for words, few classes: only the examples tell the mapping."""
    count = min(len(labels), rng.choice((2, 2, 3, 4)))
    symbols = rng.sample(rng.choice(SYMBOLS), count)
    return labels[:count], symbols, options_text(rng, symbols) if rng.random() < 0.3 else ""


def _lettered(words: list[str]) -> tuple[list[str], str]:
    """Options with letters, answered by the letter."""
    letters = list("ABCDEFGH"[: len(words)])
    return letters, "Options:\n" + "\n".join(f"{letter}) {word}" for letter, word in zip(letters, words, strict=True))


def _drawn(rng: random.Random, task: Task, labels: list[str], words: list[str], count: int) -> list[tuple[str, str]]:
    """`count` different texts with their label words; the classes in random order."""
    drawn: list[tuple[str, str]] = []
    used: set[str] = set()
    balanced = rng.random() < 0.5
    bag: list[int] = []
    for _ in range(count):
        if not bag:
            bag = rng.sample(range(len(labels)), len(labels))
        at = bag.pop() if balanced else rng.randrange(len(labels))
        text = rng.choice(task.texts[labels[at]])
        if text not in used:
            used.add(text)
            drawn.append((text, words[at]))
    return drawn


def _common(rng: random.Random, task: Task, labels: list[str], words: list[str]) -> tuple[str, str]:
    """A text with its label word; some labels are commoner than others."""
    [at] = rng.choices(range(len(words)), [task.shares[label] for label in labels])
    return rng.choice(task.texts[labels[at]]), words[at]


def _retrieved(
    rng: random.Random, task: Task, labels: list[str], words: list[str], count: int
) -> list[tuple[str, str]]:
    """A text behind the `count` - 1 texts of a small pool that are most like it, the nearest last."""
    pool: dict[str, str] = {}
    most = rng.choice((5, 10, 20, 40))
    for label, word in zip(labels, words, strict=True):
        texts = task.texts[label]
        pool |= dict.fromkeys(rng.sample(texts, min(len(texts), most)), word)
    asked = rng.choice(list(pool))
    word = pool.pop(asked)
    rows, places = task.similarity
    others = list(pool)
    alike = (rows[[places[text] for text in others]] @ rows[places[asked]].T).toarray()[:, 0]
    nearest = alike.argsort(kind="stable")[len(others) - min(count - 1, len(others)) :]
    return [*((others[at], pool[others[at]]) for at in nearest), (asked, word)]


def description(rng: random.Random, task: Task) -> Segments:
    """Texts after their label: what each label word is likely to be said of."""
    label = rng.choice(sorted(task.texts))
    word, noun = rng.choice(task.words[label]), rng.choice(task.nouns)
    texts = rng.sample(task.texts[label], min(len(task.texts[label]), rng.randint(2, 5)))
    opening = rng.choice((f"Topic: {word}\n", f"{word}\n", f"A {noun} about {word}:\n", f"These belong to {word}.\n"))
    return [Segment(opening), Segment("\n".join(texts), 4 * TEXT_WEIGHT)]


def puzzle(rng: random.Random, pairs: list[tuple[str, str]]) -> Segments:
    """Word pairs under an arbitrary layout; the examples tell what is asked."""
    tags = rng.choice((("Input: ", "\nOutput:"), ("", " ->"), ("Q: ", "\nA:"), ("", " =")))
    separator = "\n\n" if "\n" in tags[1] else "\n"
    segments: Segments = []
    chosen = rng.sample(pairs, rng.randint(3, 8))
    targets = tuple(target for _, target in chosen)
    for source, target in chosen:
        segments += [Segment(tags[0] + source + tags[1]), Segment(" " + target, 0.5, targets), Segment(separator)]
    return segments[:-1]


def episode(rng: random.Random, sources: Sources, stage: Stage = STAGES[0], bare: bool = False) -> Segments:
    kind = rng.random()
    if kind < 0.05:
        return puzzle(rng, rng.choice(sources.pairs))
    task = sources.draw(rng)
    return description(rng, task) if kind < 0.14 else classification(rng, task, stage, bare)


# -- tokens and batches --------------------------------------------------------------------------


def train_tokenizer(sources: Sources) -> Tokenizer:
    """A byte-level BPE on the texts and on sample episodes."""
    rng = random.Random(SEED)
    corpus = [
        text
        for task in sources.written + sources.shops + sources.fine
        for texts in task.texts.values()
        for text in texts
    ]
    corpus += ["".join(segment.text for segment in episode(rng, sources)) for _ in range(20_000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])
    return tokenizer


@dataclass(frozen=True)
class Row:
    """One tokenized episode: per token its weight as text; and its answers, each as (place of its
    first token, weight, number of answers before it, first tokens of all words, the right one first)."""

    ids: list[int]
    weights: list[float]
    answers: list[tuple[int, float, int, list[int]]]


def encoded(rng: random.Random, tokenizer: Tokenizer, segments: Segments) -> Row:
    """Token ids of the whole string; each token has the weight of the segment it ends in.

    Most text tokens get weight 0 and the others more, which spares the output matrix most
    of its rows and leaves the expected loss as it is.
    """
    encoding = tokenizer.encode("".join(segment.text for segment in segments))
    owner = [at for at, segment in enumerate(segments) for _ in segment.text]
    weights: list[float] = []
    answers: list[tuple[int, float, int, list[int]]] = []
    last = -1
    for place, (_, end) in enumerate(encoding.offsets[:MAX_TOKENS]):
        at = owner[end - 1] if end else 0
        segment = segments[at]
        if segment.words:
            weights.append(ANSWER_WEIGHT * segment.weight)
            if at != last:
                answers.append((place, segment.weight, len(answers), _choices(tokenizer, segment)))
        else:
            weights.append(segment.weight / TEXT_KEPT if end and rng.random() < TEXT_KEPT else 0.0)
        last = at
    return Row(encoding.ids[:MAX_TOKENS], weights, answers)


def _choices(tokenizer: Tokenizer, segment: Segment) -> list[int]:
    """The first tokens of an answer's words: the right one, then the others."""
    right = first_token(tokenizer, segment.text)
    return [right, *sorted({first_token(tokenizer, " " + word) for word in segment.words} - {right})][:MOST_CHOICES]


FIRST_TOKENS: dict[str, int] = {}


def first_token(tokenizer: Tokenizer, text: str) -> int:
    if text not in FIRST_TOKENS:
        FIRST_TOKENS[text] = token_ids(tokenizer, text)[0]
    return FIRST_TOKENS[text]


@dataclass(frozen=True)
class Batch:
    """Rows of like length, padded right: ids and weights (B, T); and N answers."""

    ids: Tensor
    weights: Tensor
    rows: Tensor  # (N,), the row of each answer
    places: Tensor  # (N,), the place of its first token
    scales: Tensor  # (N,), its weight
    seen: Tensor  # (N,), how many answers stand before it
    choices: Tensor  # (N, MOST_CHOICES), first tokens, the right one first; -1 where there are fewer


def batches(step: int, stage: Stage, tokenizer: Tokenizer, sources: Sources) -> list[Batch]:
    """The micro-batches of one step, rows of like length together.

    `POOL` steps share one pool of episodes, sorted by length, so that little is padding.
    """
    rng = random.Random(SEED * 1_000_003 + step // POOL)
    bare = step // POOL * POOL >= stage.bare
    rows: list[Row] = []
    tokens = 0
    while tokens < POOL * TOKENS_A_STEP:
        rows.append(encoded(rng, tokenizer, episode(rng, sources, stage, bare)))
        tokens += len(rows[-1].ids)
    rows.sort(key=lambda row: len(row.ids))
    packed, start = [], 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or (end + 1 - start) * len(rows[end].ids) > TOKENS_A_STEP:
            packed.append(rows[start:end])
            start = end
    rng.shuffle(packed)
    return [padded(part) for part in packed[step % POOL :: POOL]]


def padded(rows: list[Row]) -> Batch:
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    weights = torch.zeros(len(rows), width)
    flat = []
    for at, row in enumerate(rows):
        ids[at, : len(row.ids)] = torch.tensor(row.ids)
        weights[at, : len(row.ids)] = torch.tensor(row.weights)
        flat += [(at, *answer) for answer in row.answers]
    choices = torch.full((len(flat), MOST_CHOICES), -1)
    for at, (*_, tokens) in enumerate(flat):
        choices[at, : len(tokens)] = torch.tensor(tokens)
    rows_at, places, scales, seen = (torch.tensor([answer[i] for answer in flat]) for i in range(4))
    return Batch(ids, weights, rows_at, places, scales, seen, choices)


# -- the start: embeddings that know which words go together -----------------------------------


def meaning(tokenizer: Tokenizer, sources: Sources) -> Tensor:
    """Embeddings (V, H) from the texts' and their label words' co-occurrence.

    Positive pointwise mutual information, factored (Levy & Goldberg 2014), with the smoothed
    context distribution of Levy et al. 2015. A text co-occurs with itself and, stronger, with the
    words of its label; so a label word starts near what is said of it.
    """
    size, hidden = CONFIG["vocab_size"], CONFIG["hidden_size"]
    counts = torch.zeros(size, size)
    for tasks, weight in (
        (sources.written, 1.0),
        (sources.shops, 1.0),
        (sources.coarse, 0.3),
        (sources.fine, 0.5),
    ):
        for task in tasks:
            for label, texts in task.texts.items():
                words = torch.tensor(
                    sorted({i for word in task.words[label] for i in token_ids(tokenizer, " " + word)})
                )
                for text in texts:
                    ids = {*token_ids(tokenizer, text), *token_ids(tokenizer, " " + text.lower())}
                    said = torch.tensor(sorted(ids))
                    counts[said[:, None], said[None]] += 4 * weight / max(4, len(said))
                    counts[said[:, None], words[None]] += 6 * weight / len(words)
                    counts[words[:, None], said[None]] += 6 * weight / len(words)
                    counts[words[:, None], words[None]] += 3 * weight
    margin, total = counts.sum(1), counts.sum()
    context = margin**0.75 / (margin**0.75).sum()
    expected = (margin / total)[:, None] * context[None]
    information = ((counts / total).clamp(min=1e-12) / expected.clamp(min=1e-12)).log().clamp(min=0)
    torch.manual_seed(SEED)
    left, values, _ = torch.svd_lowrank((information + information.mT) / 2, q=hidden, niter=3)
    vectors = left * values.sqrt()
    vectors -= vectors[margin > 0].mean(0)
    vectors = 0.4 * vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return torch.where(margin[:, None] > 0, vectors, 0.02 * torch.randn(size, hidden))


# per layer, the (width, shift) of each head's window in tokens at the start; None looks everywhere
WINDOWS: tuple[tuple[tuple[int, int] | None, ...], ...] = (
    ((1, 0), (1, 1), (1, 2), (6, 0), (12, 0), (24, 0), (24, 0), None),
    ((1, 1), (1, 2), (12, 0), (24, 0), (24, 0), (48, 0), None, None),
    ((1, 1), (24, 0), (24, 0), (48, 0), None, None, None, None),
    ((24, 0), (48, 0), None, None, None, None, None, None),
)


@torch.no_grad()
def initialize(model: LlamaForCausalLM, embeddings: Tensor) -> None:
    """Start as a bag of the last words: every head passes on what its tokens mean.

    Values and outputs are one orthogonal matrix and its transpose, so that attention adds the mean
    meaning of the words in reach to the place of the answer. What is in reach is set by the biases
    of queries and keys alone, through the rotary embedding; training learns what to look for.
    """
    table: Any = model.get_input_embeddings()
    table.weight.copy_(embeddings)
    for layer, windows in zip(model.model.layers, WINDOWS, strict=True):
        attention: Any = layer.self_attn
        torch.nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(VALUE_GAIN * attention.v_proj.weight.T)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
        for head, window in enumerate(windows):
            if window is not None:
                at = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
                attention.q_proj.bias[at], attention.k_proj.bias[at] = look_back(attention.head_dim, *window)
    model.model.norm.weight.fill_(OUTPUT_GAIN)


def look_back(size: int, width: int, shift: int) -> tuple[Tensor, Tensor]:
    """Biases (D,) of a query and a key whose product is largest `shift` tokens back.

    Under rotary embeddings (Su et al. 2021) two constant vectors meet as a sum of cosines of their
    distance, one a frequency; those slower than the window's make a hill of its width.
    """
    frequencies = CONFIG["rope_theta"] ** (-torch.arange(0, size, 2) / size)
    gain = (WINDOW_GAIN * size**0.5) ** 0.5 * (frequencies * width <= 1.2)
    query = torch.cat((gain, torch.zeros_like(gain)))
    key = torch.cat((gain * (frequencies * shift).cos(), gain * (frequencies * shift).sin()))
    return query, key


def token_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


# -- training ------------------------------------------------------------------------------------


def losses(model: LlamaForCausalLM, reader: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Summed cross-entropy of the next tokens; that of each answer among its words, and whether it is right (N,)."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = reader(input_ids=batch.ids, use_cache=False).last_hidden_state  # (B, T, H)
        before = hidden[batch.rows, batch.places - 1]
        wanted, scale = batch.ids[:, 1:].reshape(-1), batch.weights[:, 1:].reshape(-1)
        kept = scale > 0
        logits = model.lm_head(hidden[:, :-1].reshape(-1, hidden.shape[-1])[kept])
    text = (functional.cross_entropy(logits.float(), wanted[kept], reduction="none") * scale[kept]).sum()
    table: Any = model.get_input_embeddings()
    among = torch.einsum("nh,nch->nc", before.float(), table.weight[batch.choices.clamp(min=0)])
    among = among.masked_fill(batch.choices < 0, -1e9)
    answer = functional.cross_entropy(among, torch.zeros(len(among), dtype=torch.long), reduction="none")
    return text, answer, among.argmax(1) == 0


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by a Newton-Schulz iteration (Jordan et al. 2024).

    torch's own class iterates in bfloat16, which is 60 times slower on processors without it.
    """

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.02
    ) -> None:
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                average = self.state[matrix].setdefault("average", torch.zeros_like(matrix))
                average.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(average, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-0.2 * group["lr"] * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, about, after five quintic Newton-Schulz steps."""
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = (matrix.mT if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the embeddings and for the norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    embeddings = [p for n, p in model.named_parameters() if "embed" in n]
    norms = [p for p in model.parameters() if p.ndim == 1]
    return [
        Muon(matrices, lr=LEARNING_RATE),
        torch.optim.AdamW(embeddings, lr=EMBEDDING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.AdamW(norms, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate(step: int, stage: Stage) -> float:
    left = (stage.last - step) / (DECAY * (stage.last - stage.first))
    return stage.rate * min(1.0, (step - stage.first + 1) / 20, left)


def train(sources: Sources, out: Path, stage: Stage) -> None:
    """Teach one stage; all but the first go on from the model in `out`, as it was saved."""
    checkpoint, vocabulary = out / "checkpoint.pt", out / "tokenizer.json"
    if stage.first == 0 and not checkpoint.exists():
        train_tokenizer(sources).save(str(vocabulary))
    tokenizer = Tokenizer.from_file(str(vocabulary))
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG))
    if stage.first:
        model = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
    model.train()
    tuners = optimizers(model)
    rates = [tuner.param_groups[0]["lr"] for tuner in tuners]
    start = stage.first
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        start = state["step"]
        model.load_state_dict(state["model"])
        for tuner, saved in zip(tuners, state["tuners"], strict=True):
            tuner.load_state_dict(saved)
    elif stage.first == 0:
        initialize(model, meaning(tokenizer, sources))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, steps {start} to {stage.last}", flush=True)
    reader = torch.compile(model.model, dynamic=True)
    began, tokens = time.monotonic(), 0
    right, asked = torch.zeros(3, MAX_TOKENS), torch.zeros(3, MAX_TOKENS)
    for step in range(start, stage.last):
        parts = batches(step, stage, tokenizer, sources)
        scale = sum(float(part.scales.sum()) for part in parts)
        for part in parts:
            text, answers, correct = losses(model, reader, part)
            loss = (text + (answers * part.scales).sum()) / scale
            loss.backward()  # type: ignore[no-untyped-call]
            tokens += part.ids.numel()
            for kind, weight in enumerate((1.0, SYMBOL_WEIGHT, stage.untold)):
                told = part.scales == weight
                right[kind].index_add_(0, part.seen[told], correct[told].float())
                asked[kind].index_add_(0, part.seen[told], torch.ones(int(told.sum())))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tuner, full in zip(tuners, rates, strict=True):
            for group in tuner.param_groups:
                group["lr"] = full * rate(step, stage)
            tuner.step()
            tuner.zero_grad(set_to_none=True)
        if (step + 1) % 50 == 0:
            words, symbols, untold = (right / asked.clamp(min=1)).tolist()
            shown = f"{untold[0]:.3f} " + " ".join(f"{words[at]:.3f}" for at in (0, 1, 2, 4, 8))
            shown += " and of symbols " + " ".join(f"{symbols[at]:.3f}" for at in (2, 4, 8))
            speed = tokens / (time.monotonic() - began)
            print(f"step {step + 1} right untold, after 0 1 2 4 8 examples {shown} tokens/s {speed:,.0f}", flush=True)
            right.zero_()
            asked.zero_()
            state = {"step": step + 1, "model": model.state_dict(), "tuners": [t.state_dict() for t in tuners]}
            torch.save(state, out / "checkpoint.new")
            (out / "checkpoint.new").rename(checkpoint)
    save(model, tokenizer, out)
    checkpoint.unlink(missing_ok=True)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """The Hugging Face layout, weights in float16."""
    network: Any = model  # half() is untyped
    network.half()
    network.save_pretrained(out)
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=2048
    ).save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the builtin model.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the public data sets")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the model is written")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint, texts = options.out / "checkpoint.pt", sources(options.data)
    done = torch.load(checkpoint, weights_only=True)["step"] if checkpoint.exists() else 0
    for stage in STAGES:
        if done < stage.last:
            train(texts, options.out, stage)


if __name__ == "__main__":
    main()
