"""One TOML file, read whole and checked whole: all problems at once, each with its cure."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprompt.check import check
from autoprompt.config import Config, StudySection, data_options, read_config, require_words
from autoprompt.config.sections import AnswerSection
from autoprompt.errors import ConfigError, DataError
from autoprompt.racing import RULES
from autoprompt.samplers import SAMPLERS
from autoprompt.study import BRANCHES, StudyOptions

ROOT = Path(__file__).parents[1]

VALID: dict[str, Any] = {
    "name": "demo",
    "data": {"file": "data.jsonl", "label": "label"},
    "prompt": {"template": "{{ text }}\nLabel: {{ label }}", "label_words": {"pos": "good", "neg": "bad"}},
}


def with_values(changes: Mapping[str, Any]) -> dict[str, Any]:
    """VALID with some dotted keys set, and those set to None removed."""
    values = copy.deepcopy(VALID)
    for key, value in changes.items():
        *path, last = key.split(".")
        section = values
        for part in path:
            section = section.setdefault(part, {})
        if value is None:
            section.pop(last, None)
        else:
            section[last] = value
    return values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"text": f"{label} text {i}", "label": label} for label in ("pos", "neg") for i in range(10)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def problems_of(changes: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError, match=r"^the configuration has \d+ problems?:\n  - ") as caught:
        read_config(with_values(changes), folder)
    return caught.value.problems


# -- what is right -------------------------------------------------------------------------------


def test_the_smallest_file_is_read_with_all_defaults(folder: Path) -> None:
    config = read_config(VALID, folder)
    assert (config.name, config.metric, config.seed, config.results) == ("demo", "accuracy", 0, "results")
    assert config.model.name == "builtin"
    assert config.data.fields == ["text"]
    assert config.space.soft is None
    assert config.space.demonstrations is None
    assert config.finetune.method == "auto"


def test_a_word_turns_doctor_and_explanation_off(folder: Path) -> None:
    config = read_config(with_values({"doctor": False, "explain": False}), folder)
    assert not any((config.doctor.checks, config.doctor.baselines))
    assert not any((config.explain.why, config.explain.shortest, config.explain.robustness))
    assert read_config(with_values({"explain": True}), folder).explain.why


WHOLE = r"""
name = "whole-1.0_b"
metric = "macro_f1"
metric_seconds = 1.5
allow_code_execution = true
seed = 3
results = "out"

[model]
name = "some/model"
family = "causal"
device = "cpu"
dtype = "float32"
engine = "own"
batch_tokens = 2048
memory = 1000
revision = "main"
offline = true
trust_remote_code = false

[data]
file = "data.jsonl"
label = "label"
fields = ["text", "title"]
target = "label"
aside = []
columns = { text = "text" }
longest = 4000
cut = "middle"
shares = [0.5, 0.25, 0.25]
quarantine = 0.0

[prompt]
template = "{{ title }}: {{ text }}\n{{ instruction }} {{ label }}"
instruction = "Is it good?"
separator = "\n###\n"
normalize = true
calibration = "content_free"
temperature = 0.5
chat = "none"
label_words = { pos = "good", neg = "bad" }

[space]
libraries = []
temperatures = [0.05, 1]
chats = ["turns", "one"]
templates = ["{{ text }} => {{ label }}"]
instructions = ["", "Good or bad?"]
label_words = { pos = ["great", "fine"], neg = ["poor"] }
calibration = ["none", "content_free"]
demonstrations = { most = 2, draws = 3, orders = 5, selection = ["similar"] }
soft = { vectors = [1, 256], positions = ["start", "example", "answer"], starts = ["random"], dimensions = 2000 }

[study]
trials = 2
batch = 4
slice = 2
evaluations = 1
pruner = "hyperband"
share = 1.0
level = 0.5
promote = "certain"
choose_by = "worst"
sampler = "tpe"
branches = ["discrete", "rewrite"]
floor = 1.0
startup = 1
generations = 1
steps = 1
finalists = 1
objectives = ["score", "tokens"]
tolerance = 0.0
workers = 2
storage = "postgresql://user@host/database"

[budget]
hours = 0.5
until = "07:00"
tokens = 1
notify = ["echo", "done"]

[propose]
model = "some/writer"
tokens = 1

[doctor]
checks = true
baselines = false

[explain]
why = false
shortest = true
margin = 0.0
robustness = false
transfer = ["some/other"]
budget = 8

[finetune]
method = "full"
adapter = "dora"
rank = 1
alpha = 3
dropout = 0.1
freeze_embeddings = true
head = "none"
temperature = 0.2
train_vectors = false
epochs = 1
steps = 1
keep = "last"
learning_rate = 0.5
optimizer = "adafactor"
schedule = "cosine"
batch_size = 1
weight_decay = 0.0
warmup = 0.0
patience = 0
label_smoothing = 0.1
class_weights = "balanced"
consistency = 1.0
contrastive = 0.0
gradient_checkpointing = true
precision = "bfloat16"
prompts = 3
augment = ["demonstrations", "formats"]
variants = 1
unlabelled = "data.jsonl"
confidence = 1.0
write = 2
compare = false
merge = false

[finetune.second]
file = "data.jsonl"
label = "label"
template = "{{ text }} {{ label }}"
label_words = { pos = "good", neg = "bad" }
instruction = "Good?"
fields = ["text"]
"""


def test_a_whole_file_is_read(folder: Path) -> None:
    (folder / "space.toml").write_text(WHOLE, encoding="utf-8")
    config = read_config(folder / "space.toml")
    assert config.name == "whole-1.0_b"
    assert (config.model.name, config.model.batch_tokens) == ("some/model", 2048)
    assert config.prompt.label_words == {"pos": "good", "neg": "bad"}
    assert config.space.label_words == {"pos": ["great", "fine"], "neg": ["poor"]}
    assert config.space.demonstrations is not None
    assert (config.space.demonstrations.most, config.space.demonstrations.orders) == (2, 5)
    assert config.space.demonstrations.selection == ["similar"]
    assert config.space.soft is not None
    assert config.space.soft.vectors == [1, 256]
    assert (config.study.trials, config.study.evaluations, config.study.share) == (2, 1, 1.0)
    assert (config.study.pruner, config.study.promote, config.study.sampler) == ("hyperband", "certain", "tpe")
    assert config.study.branches == ["discrete", "rewrite"]
    assert config.study.objectives == ["score", "tokens"]
    assert (config.propose.model, config.propose.tokens) == ("some/writer", 1)
    assert (config.doctor.baselines, config.explain.why, config.explain.transfer) == (False, False, ["some/other"])
    assert (config.finetune.method, config.finetune.learning_rate) == ("full", 0.5)
    assert config.finetune.second is not None
    assert config.finetune.second.label_words == {"pos": "good", "neg": "bad"}
    options = data_options(config, folder)
    assert options.file == folder / "data.jsonl"
    assert options.fields == ("text", "title")
    assert options.shares == (0.5, 0.25, 0.25)
    assert (options.train, options.dev, options.test, options.split) == (None, None, None, None)


def test_the_whole_file_above_names_every_key_there_is() -> None:
    import tomllib

    values = tomllib.loads(WHOLE)
    values["answer"] = dict.fromkeys(AnswerSection.model_fields)  # for other targets than labels
    values["data"] |= dict.fromkeys(
        ("train", "dev", "test", "split", "options", "first_option", "group", "folds", "fold")
    )
    for section, field in Config.model_fields.items():
        kind = field.annotation
        known = getattr(kind, "model_fields", None)
        assert section in values
        assert known is None or set(known) == set(values[section])


def test_a_file_with_a_byte_order_mark_is_read(folder: Path) -> None:
    (folder / "space.toml").write_bytes(b"\xef\xbb\xbf" + WHOLE.encode())
    assert read_config(folder / "space.toml").name == "whole-1.0_b"


def test_a_path_may_be_a_text(folder: Path) -> None:
    (folder / "space.toml").write_text(WHOLE, encoding="utf-8")
    assert read_config(str(folder / "space.toml")) == read_config(folder / "space.toml")


def test_the_model_may_be_named_by_one_word(folder: Path) -> None:
    assert read_config(with_values({"model": "some/model"}), folder).model.name == "some/model"
    assert read_config({**VALID, "model": "builtin"}, folder).model == read_config(VALID, folder).model


def test_reading_leaves_the_given_mapping_alone(folder: Path) -> None:
    values = with_values({"model": "builtin", "data.shares": [0.5, 0.25, 0.25]})
    before = copy.deepcopy(values)
    read_config(values, folder)
    assert values == before


def test_three_files_are_read(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / f"{name}.jsonl").write_text("", encoding="utf-8")
    three = {"data.file": None, "data.train": "a.jsonl", "data.dev": "b.jsonl", "data.test": "c.jsonl"}
    options = data_options(read_config(with_values(three), folder), folder)
    assert (options.file, options.train, options.test) == (None, folder / "a.jsonl", folder / "c.jsonl")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "a"),
        ("name", "x" * 100),
        ("seed", 0),
        ("study.trials", 2),
        ("study.batch", 4),
        ("study.slice", 2),
        ("study.evaluations", 1),
        ("study.evaluations", None),
        ("study.share", 0.001),
        ("study.share", 1.0),
        ("study.share", 1),
        ("study.level", 0.999),
        ("study.branches", ["rewrite"]),
        ("study.branches", list(BRANCHES)),
        ("study.floor", 0.0),
        ("study.floor", 1.0),
        ("study.objectives", ["score"]),
        ("study.objectives", ["tokens", "score"]),
        ("study.tolerance", 0.0),
        ("propose.tokens", 1),
        *(("study.pruner", rule) for rule in RULES),
        *(("study.sampler", sampler) for sampler in SAMPLERS),
        ("space.demonstrations.most", 0),
        ("space.demonstrations.most", 64),
        ("space.soft.dimensions", 2),
        ("space.soft.vectors", [1]),
        ("finetune.method", "none"),
    ],
)
def test_values_on_the_edge_are_allowed(key: str, value: Any, folder: Path) -> None:
    config: Any = read_config(with_values({key: value}), folder)
    for part in key.split("."):
        config = getattr(config, part)
    assert config == value


def test_the_words_of_the_file_are_those_of_the_rooms() -> None:
    fields = StudySection.model_fields
    lists, _ = get_args(fields["branches"].annotation)  # a list of words with its bounds, or None
    [words] = get_args(get_args(lists)[0])
    assert get_args(words) == BRANCHES
    assert get_args(fields["pruner"].annotation) == RULES
    assert get_args(fields["sampler"].annotation) == SAMPLERS


def test_what_the_file_does_not_say_is_what_a_study_does_by_itself(folder: Path) -> None:
    config, own = read_config(VALID, folder), StudyOptions()
    names = [name for name in StudySection.model_fields if name not in ("choose_by", "workers", "storage")]
    study = {name: getattr(config.study, name) for name in names}
    same = {name: getattr(own, name) for name in study}
    assert {**study, "objectives": tuple(study["objectives"])} == same
    assert config.propose.tokens == own.writer_tokens


# -- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # unknown keys
        ({"budget.hours": 0}, ["budget.hours", "0"]),
        ({"budget.until": "dawn"}, ["until is 'dawn'", "07:00"]),
        (
            {"nmae": "x"},
            [
                "nmae is not a key here",
                "allowed are allow_code_execution, answer, budget, data, doctor, explain, finetune, metric",
                "Did you mean 'name'?",
            ],
        ),
        (
            {"study.trails": 3},
            [
                "study.trails is not a key here",
                "batch, branches, choose_by, evaluations, finalists",
                "Did you mean 'trials'?",
            ],
        ),
        ({"data.lable": "x"}, ["data.lable is not a key here", "Did you mean 'label'?"]),
        ({"space.soft.dimension": 3}, ["space.soft.dimension is not a key here", "Did you mean 'dimensions'?"]),
        ({"space.demonstrations.mots": 3}, ["space.demonstrations.mots", "draws, most, orders", "mean 'most'?"]),
        ({"finetune.zzz": 3}, ["finetune.zzz is not a key here", "allowed are adapter, alpha, augment, batch_size"]),
        # what is missing
        ({"data": None}, ["data is missing; it is required"]),
        ({"prompt": None}, ["prompt is missing; it is required"]),
        ({"name": None}, ["name is missing; it is required"]),
        ({"name": None, "nmae": "x"}, ["name is missing; it is required. Did you mean 'nmae'?"]),
        ({"data.label": None}, ["data.label is missing; it is required"]),
        ({"prompt.template": None}, ["prompt.template is missing; it is required"]),
        ({"prompt.label_words": None}, ["prompt.label_words has 0 labels; it needs a word for each of at least two."]),
        # wrong kinds
        ({"seed": "7"}, ["seed is '7'", "valid integer"]),
        ({"seed": True}, ["seed is True", "valid integer"]),
        ({"seed": 1.0}, ["seed is 1.0", "valid integer"]),
        ({"name": 5}, ["name is 5", "valid string"]),
        ({"metric": ["accuracy"]}, ["metric is ['accuracy']", "valid string"]),
        ({"data.fields": "text"}, ["data.fields is 'text'", "valid list"]),
        ({"data.fields": [3]}, ["data.fields.0 is 3", "valid string"]),
        ({"study.share": "0.5"}, ["study.share is '0.5'", "valid number"]),
        ({"study.branches": "edits"}, ["study.branches is 'edits'", "valid list"]),
        ({"study.evaluations": 2.5}, ["study.evaluations is 2.5", "valid integer"]),
        ({"propose.model": 3}, ["propose.model is 3", "valid string"]),
        ({"prompt.normalize": "yes"}, ["prompt.normalize is 'yes'", "valid boolean"]),
        ({"prompt.label_words": ["pos", "neg"]}, ["prompt.label_words is ['pos', 'neg']", "valid dictionary"]),
        ({"prompt.label_words": {"pos": 1, "neg": "bad"}}, ["prompt.label_words.pos is 1", "valid string"]),
        ({"space.label_words": {"pos": "great"}}, ["space.label_words.pos is 'great'", "valid list"]),
        ({"study": 3}, ["study is 3"]),
        ({"model": 3}, ["model is 3"]),
        ({"space.soft": "yes"}, ["space.soft is 'yes'"]),
        # out of range
        ({"seed": -1}, ["seed is -1; it must be at least 0."]),
        ({"study.trials": 1}, ["study.trials is 1; it must be at least 2."]),
        ({"study.batch": 3}, ["study.batch is 3; it must be at least 4."]),
        ({"study.slice": 1}, ["study.slice is 1; it must be at least 2."]),
        ({"study.evaluations": 0}, ["study.evaluations is 0; it must be at least 1."]),
        ({"study.share": 0.0}, ["study.share is 0.0; it must be more than 0"]),
        ({"study.share": 1.01}, ["study.share is 1.01; it must be at most 1"]),
        ({"study.share": float("nan")}, ["study.share is nan"]),
        ({"study.level": 1.0}, ["study.level is 1.0; it must be less than 1"]),
        ({"study.level": 0.0}, ["study.level is 0.0; it must be more than 0"]),
        ({"study.floor": 1.1}, ["study.floor is 1.1; it must be at most 1"]),
        ({"study.tolerance": -0.1}, ["study.tolerance is -0.1; it must be at least 0"]),
        ({"study.steps": 0}, ["study.steps is 0; it must be at least 1."]),
        ({"study.startup": 0}, ["study.startup is 0; it must be at least 1."]),
        ({"study.branches": []}, ["study.branches", "at least 1"]),
        ({"study.objectives": []}, ["study.objectives", "at least 1"]),
        ({"propose.tokens": 0}, ["propose.tokens is 0; it must be at least 1."]),
        ({"finetune.learning_rate": 0.0}, ["finetune.learning_rate is 0.0; it must be more than 0"]),
        ({"finetune.learning_rate": 1.0}, ["finetune.learning_rate is 1.0; it must be less than 1"]),
        ({"space.demonstrations.most": 65}, ["space.demonstrations.most is 65; it must be at most 64."]),
        ({"space.soft.vectors": [4, 0]}, ["space.soft.vectors.1 is 0; it must be at least 1."]),
        ({"space.soft.vectors": []}, ["space.soft.vectors", "at least 1"]),
        ({"space.soft.dimensions": 2001}, ["space.soft.dimensions is 2001; it must be at most 2000."]),
        ({"data.shares": [0.5, 0.5]}, ["data.shares", "at least 3"]),
        ({"data.shares": [1.0, 0.5, -0.5]}, ["data.shares.0 is 1.0; it must be less than 1"]),
        ({"data.shares": [1, 0, 0]}, ["data.shares.1 is 0.0; it must be more than 0"]),
        # not one of the words
        ({"model.family": "casual"}, ["model.family is 'casual'", "'causal'", "Did you mean 'causal'?"]),
        ({"model.dtype": "float8"}, ["model.dtype is 'float8'", "'bfloat16'", "Did you mean"]),
        (
            {"finetune.unlabelled": "more.jsonl"},
            ["finetune.unlabelled is 'more.jsonl', and there is no file"],
        ),
        (
            {"finetune.second": {"file": "no.jsonl", "label": "a", "template": "{{ b }}", "label_words": {}}},
            ["finetune.second.file is 'no.jsonl', and there is no file"],
        ),
        (
            {"finetune.second": {"file": "data.jsonl", "label": "a", "template": "{{ b }}", "label_words": {}}},
            ["finetune.second.template: The template '{{ b }}' names {{ b }}"],
        ),
        (
            {"finetune.contrastive": 1.0},
            ["finetune.contrastive is given, and the model 'builtin' is no sentence encoder; leave it out."],
        ),
        (
            {"finetune.head": "labels"},
            ["finetune.head is given, and the model 'builtin' is no sentence encoder; leave it out."],
        ),
        ({"finetune.method": "qlora"}, ["finetune.method is 'qlora'", "'full'", "Did you mean 'lora'?"]),
        ({"prompt.calibration": 3}, ["prompt.calibration is 3", "'content_free'"]),
        ({"space.calibration": ["nome"]}, ["space.calibration.0 is 'nome'", "Did you mean 'none'?"]),
        (
            {"space.demonstrations.selection": ["simlar"]},
            ["space.demonstrations.selection.0 is 'simlar'", "'drawn'", "Did you mean 'similar'?"],
        ),
        ({"space.soft.positions": ["strat"]}, ["space.soft.positions.0 is 'strat'", "Did you mean 'start'?"]),
        ({"study.pruner": "raceing"}, ["study.pruner is 'raceing'", "'hyperband'", "Did you mean 'racing'?"]),
        ({"study.sampler": "nsga"}, ["study.sampler is 'nsga'", "'surrogate'", "Did you mean 'nsgaii'?"]),
        ({"study.branches": ["edit"]}, ["study.branches.0 is 'edit'", "'infill'", "Did you mean 'edits'?"]),
        ({"study.branches": ["words", "tunning"]}, ["study.branches.1 is 'tunning'", "Did you mean 'tuning'?"]),
        ({"study.promote": "certian"}, ["study.promote is 'certian'", "'best'", "Did you mean 'certain'?"]),
        ({"study.objectives": ["score", "token"]}, ["study.objectives.1 is 'token'", "Did you mean 'tokens'?"]),
        ({"study.soft_share": 0.5}, ["study.soft_share is not a key here", "allowed are batch, branches"]),
        ({"propose.modle": "x"}, ["propose.modle is not a key here; allowed are model, tokens", "mean 'model'?"]),
        # names that could be paths
        ({"name": ""}, ["name is ''", "allowed are letters, digits"]),
        ({"name": "../x"}, ["name is '../x'", "allowed are letters, digits"]),
        ({"name": "a/b"}, ["name is 'a/b'", "allowed are letters, digits"]),
        ({"name": ".hidden"}, ["name is '.hidden'", "no leading dot"]),
        ({"name": "x" * 101}, ["name is 'xxx", "up to 100"]),
        ({"name": "line\n"}, ["name is 'line\\n'", "allowed are letters, digits"]),
        # files
        ({"data.file": "dat.jsonl"}, ["data.file is 'dat.jsonl'", "there is no file", "Did you mean 'data.jsonl'?"]),
        ({"data.file": "gone/x.jsonl"}, ["data.file is 'gone/x.jsonl'", "there is no file"]),
        ({"data.file": None}, ["data.train is missing; give data.file, or train, dev and test."]),
        ({"data.train": "data.jsonl"}, ["data.file and data.train, dev, test are both given"]),
        (
            {"data.file": None, "data.train": "data.jsonl", "data.dev": "data.jsonl"},
            ["data.test is missing; give data.file, or train, dev and test."],
        ),
        # what does not fit together
        ({"data.split": "split", "data.file": None}, ["data.split is given without data.file"]),
        ({"data.shares": [0.4, 0.3, 0.2]}, ["data.shares is [0.4, 0.3, 0.2]", "must add up to 1"]),
        ({"data.fields": ["text", "label"]}, ["data.label 'label' is also one of data.fields"]),
        (
            {"study.objectives": ["tokens"]},
            ["study.objectives is ['tokens']; 'score' must be among them."],
        ),
        (
            {"study.objectives": ["score", "tokens"], "study.sampler": "cmaes"},
            ["study.sampler is 'cmaes', which knows one objective", 'or objectives = ["score"].'],
        ),
        # answers
        ({"data.target": "text"}, ["prompt.label_words is given, and data.target is 'text'; leave it out."]),
        ({"answer.tokens": 3}, ["answer.tokens is given, and with data.target = 'label' no answer is written"]),
        ({"answer.compare": "{{ text }}"}, ["answer.compare is given, and data.target is 'label'"]),
        ({"answer.style": ["texts"]}, ["answer.style is given, and data.target is 'label'"]),
        ({"answer.scale": [1.0, 0.0]}, ["answer.scale is [1.0, 0.0]; the first number must be below the second."]),
        ({"data.target": "labels", "answer.pattern": "("}, ["answer: An answer has to match '(', which is no regular"]),
        ({"data.target": "labels", "answer.samples": 2}, ["answer.samples is 2 and answer.temperature 0"]),
        ({"data.target": "labels", "answer.form": "x.json"}, ["answer: The form x.json cannot be read"]),
        ({"data.target": "labels", "answer.read": "words"}, ["An answer is read as 'words'; allowed are text, line"]),
        ({"data.target": "number"}, ["prompt.label_words has 'pos', which is no number"]),
        ({"data.target": "number", "metric": "macro_f1"}, ["metric is 'macro_f1', and data.target is 'number'"]),
        ({"metric": "pass@2", "allow_code_execution": True}, ["it is for data.target = 'program'"]),
        ({"data.target": "labels", "finetune.write": 3}, ["finetune.write is given, and data.target is 'labels'"]),
        # templates
        ({"prompt.template": "{{ text }"}, ["prompt.template: ", "template"]),
        ({"prompt.template": "{{ text }}"}, ["prompt.template: ", "has no {{ label }}"]),
        ({"prompt.template": "{{ label }}"}, ["prompt.template: ", "shows no input field; it needs one of text"]),
        ({"prompt.template": "{{ txt }} {{ label }}"}, ["prompt.template: ", "names {{ txt }}", "instruction, label"]),
        ({"space.templates": ["{{ text }} {{ label }}", "x"]}, ["space.templates.1: ", "has no {{ label }}"]),
        ({"prompt.template": ""}, ["prompt.template is empty or too short"]),
        ({"prompt.template": "{{ text.__class__ }} {{ label }}"}, ["prompt.template: "]),
        ({"prompt.template": "{{ text / 0 }} {{ label }}"}, ["prompt.template: "]),
        # label words
        ({"prompt.label_words": {"pos": "good"}}, ["prompt.label_words has 1 labels", "at least two"]),
        ({"prompt.label_words": {}}, ["prompt.label_words has 0 labels", "at least two"]),
        (
            {"prompt.label_words": {"pos": "good", "neg": "good"}},
            ["The word 'good' stands for 'pos' and 'neg'; each word belongs to one label."],
        ),
        ({"space.label_words": {"neg": ["good"]}}, ["The word 'good' stands for 'pos' and 'neg'"]),
        ({"space.label_words": {"poss": ["fine"]}}, ["space.label_words.poss is not a label", "Did you mean 'pos'?"]),
        ({"space.label_words": {"pos": []}}, ["space.label_words.pos", "at least 1"]),
        # metrics
        ({"metric": "acuracy"}, ["metric: There is no metric 'acuracy'", "log_loss", "Did you mean 'accuracy'?"]),
        ({"model": {"engine": "owm"}}, ["model.engine is 'owm'; installed are own", "Did you mean 'own'?"]),
        ({"model": {"memory": -1}}, ["model.memory is -1; it must be at least 0"]),
        ({"metric": "gone.py:f"}, ["metric: ", "'gone.py:f'", "is not a file"]),
        ({"metric": ""}, ["metric is empty or too short"]),
        ({"metric": {}}, ["metric.name is missing"]),
        ({"metric": {"name": "mcc", "alsso": []}}, ["metric.alsso is not a key here", "Did you mean 'also'?"]),
        ({"metric": {"name": "mcc", "also": "accuracy"}}, ["metric.also is 'accuracy'", "valid list"]),
        ({"metric": {"name": "mcc", "also": ["acuracy"]}}, ["metric: There is no metric 'acuracy'"]),
        ({"metric": {"name": "mcc", "constraints": ["recall[poss] >= 1"]}}, ["no label 'poss'", "mean 'pos'?"]),
        ({"metric": {"name": "cost", "costs": {"pos": {"neg": -1.0}}}}, ["metric.costs.pos.neg is -1.0", "at least 0"]),
        ({"metric": {"name": "cost"}}, ["metric: The metric 'cost' needs costs"]),
    ],
)
def test_a_problem_names_the_key_what_was_given_and_what_is_allowed(
    changes: dict[str, Any], words: list[str], folder: Path
) -> None:
    problems = problems_of(changes, folder)
    assert any(all(word in problem for word in words) for problem in problems), problems


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.file": "x" * 5000}, ["data.file is 'xxx"]),
        ({"metric": "x" * 5000 + ".py:f"}, ["metric: "]),
        ({"metric": "\0.py:f"}, ["metric: "]),
        ({"prompt.template": "{{ " + "(" * 3000 + "text" + ")" * 3000 + " }} {{ label }}"}, ["prompt.template: "]),
        (
            {"prompt.template": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}{{ text }} {{ label }}"},
            ["prompt.template: "],
        ),
        ({"prompt.label_words": {"pos": " ", "neg": "bad"}}, ["pos", "' '"]),
        ({"space.label_words": {"pos": ["fine", "  "]}}, ["space.label_words.pos"]),
        ({"data.fields": ["text", "instruction"]}, ["data.fields", "instruction"]),
        ({"data.fields": ["text", "label"], "data.label": "team"}, ["data.fields", "label"]),
    ],
    ids=[
        "long-data-file",
        "long-metric-file",
        "nul-in-metric-file",
        "deep-template",
        "endless-template",
        "blank-word",
        "blank-word-of-the-space",
        "field-named-instruction",
        "field-named-label",
    ],
)
def test_an_odd_value_is_a_problem_in_words_and_no_traceback(
    changes: dict[str, Any], words: list[str], folder: Path
) -> None:
    problems = problems_of(changes, folder)
    assert any(all(word in problem for word in words) for problem in problems), problems


def test_all_problems_are_told_at_once(folder: Path) -> None:
    values = with_values(
        {"seed": "7", "study.trails": 3, "study.batch": 1, "model.family": "casual", "prompt.template": None}
    )
    with pytest.raises(ConfigError, match=r"^the configuration has 5 problems:\n") as caught:
        read_config(values, folder)
    told = str(caught.value)
    for key in ("seed", "study.trails", "study.batch", "model.family", "prompt.template"):
        assert f"\n  - {key} is " in told


def test_all_problems_of_meaning_are_told_at_once(folder: Path) -> None:
    problems = problems_of(
        {
            "data.file": "gone.jsonl",
            "data.shares": [0.5, 0.5, 0.5],
            "data.fields": ["text", "label"],
            "prompt.template": "{{ text }}",
            "space.label_words": {"maybe": ["so"]},
            "metric": "gone",
        },
        folder,
    )
    assert len(problems) == 6


def test_problems_of_meaning_are_told_beside_those_of_form(folder: Path) -> None:
    problems = problems_of({"seed": "7", "data.file": "gone.jsonl", "prompt.template": "{{ text }}"}, folder)
    for key in ("seed", "data.file", "prompt.template"):
        assert any(problem.startswith(key) for problem in problems), f"{key} is not told: {problems}"


def test_a_long_value_is_shortened(folder: Path) -> None:
    (problem,) = problems_of({"seed": "x" * 500}, folder)
    assert len(problem) < 150


def test_a_missing_file_is_told_with_the_nearest_name(folder: Path) -> None:
    (folder / "support.toml").write_text(WHOLE, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"suport\.toml has 1 problem:\n.*no such file\. Did you mean 'support\.toml'"
    ):
        read_config(folder / "suport.toml")


def test_a_space_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "space.toml").write_text("")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match=r"space\.toml has 1 problem:\n.*It cannot be read: Permission denied\.$"):
        read_config(tmp_path / "space.toml", tmp_path)


def test_a_file_in_a_missing_folder_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no such file\.$"):
        read_config(folder / "gone" / "space.toml")


def test_a_folder_in_place_of_the_file_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"It is a folder\. Give a space file \(TOML\)\.$"):
        read_config(folder)


@pytest.mark.parametrize(
    "content",
    [b"name = support", b"[data", b"a = 1\na = 2", b"\xff\xfe\x00", b"name: support\n", b"x = " + b"[" * 100_000],
    ids=["bare", "bracket", "twice", "bytes", "yaml", "deep"],
)
def test_bad_toml_is_told_with_its_place(content: bytes, folder: Path) -> None:
    (folder / "bad.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.toml has 1 problem:\n  - It is not valid TOML: .*in quotes\."):
        read_config(folder / "bad.toml")


def test_a_key_with_a_point_is_still_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("a.b is not a key here")):
        read_config({**VALID, "a.b": 1}, folder)


def test_a_label_of_digits_keeps_its_words(folder: Path) -> None:
    config = read_config(with_values({"prompt.label_words": {"0": "bad", "1": "good"}}), folder)
    assert list(config.prompt.label_words) == ["0", "1"]


def test_an_unknown_key_in_a_list_is_told(folder: Path) -> None:
    assert problems_of({"space.templates": [{"a": 1}]}, folder)[0].startswith("space.templates.0 is {'a': 1}")


# -- labels of the data --------------------------------------------------------------------------


def test_a_label_of_the_data_without_a_word_is_told(folder: Path) -> None:
    config = read_config(VALID, folder)
    require_words(config, ["pos", "neg"])
    with pytest.raises(
        DataError, match=r"the label 'meh', which has no word in \[prompt.label_words\] \(there: pos, neg"
    ):
        require_words(config, ["pos", "meh", "neg"])


# -- check ---------------------------------------------------------------------------------------


def test_the_shipped_space_file_is_right() -> None:
    told = check(ROOT / "search_spaces" / "support.toml")
    assert "support.toml is right: 8 templates, 9 instructions" in told
    assert re.search(r"\d+ train, \d+ dev, \d+ locked test examples, 7 labels, \d+ duplicates removed\.$", told)


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_space_file_passes_check(path: Path) -> None:
    assert f"{path} is right: " in check(path)


def test_check_counts_what_varies(folder: Path) -> None:
    (folder / "space.toml").write_text(WHOLE.replace(', "title"', "").replace("{{ title }}: ", ""), encoding="utf-8")
    told = check(folder / "space.toml")
    assert "2 templates, 3 instructions, 3x2 label words, up to 2 demonstrations, soft prompts; 2 trials;" in told
    assert "12 train, 4 dev, 4 locked test examples, 2 labels, 0 duplicates removed." in told


def test_check_tells_broken_data(folder: Path) -> None:
    (folder / "space.toml").write_text(WHOLE, encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.jsonl, line 1: there is no column 'title'"):
        check(folder / "space.toml")


# -- anything at all -----------------------------------------------------------------------------

LEAVES = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.sampled_from(["accuracy", "{{ text }} {{ label }}", "data.jsonl", "text", "label", "none", "a.py:b", "\0"]),
)
WORDS = [
    "name",
    "data",
    "prompt",
    "space",
    "study",
    "propose",
    "model",
    "metric",
    "finetune",
    "label_words",
    "template",
    "pos",
]
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), inner, max_size=4),
    ),
    max_leaves=12,
)
KEYS = [
    "name",
    "metric",
    "seed",
    "model",
    "model.name",
    "data",
    "data.file",
    "data.fields",
    "data.label",
    "data.shares",
    "data.split",
    "data.target",
    "data.options",
    "data.aside",
    "data.columns",
    "data.group",
    "data.folds",
    "data.fold",
    "data.longest",
    "data.cut",
    "prompt.template",
    "prompt.label_words",
    "prompt.separator",
    "space",
    "space.templates",
    "space.label_words",
    "space.soft",
    "space.soft.vectors",
    "space.demonstrations",
    "study.trials",
    "study.slice",
    "study.share",
    "study.branches",
    "study.objectives",
    "propose.model",
    "finetune.learning_rate",
]


def problems_or_none(values: Mapping[str, Any], folder: Path) -> tuple[str, ...] | None:
    """None when the values were read. Only ConfigError may come out of it, anything else goes through."""
    try:
        read_config(values, folder)
    except ConfigError as error:
        return error.problems
    return None


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), VALUES, max_size=6))
def test_no_mapping_raises_anything_but_config_error(values: dict[str, Any], folder: Path) -> None:
    problems = problems_or_none(values, folder)
    assert problems is None or (problems and all(problems))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=2))
def test_no_change_of_a_valid_file_raises_anything_but_config_error(changes: dict[str, Any], folder: Path) -> None:
    values = copy.deepcopy(VALID)
    for key, value in changes.items():
        *path, last = key.split(".")
        section: Any = values
        for part in path:
            section = section.setdefault(part, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict):
            section[last] = value
    problems = problems_or_none(values, folder)
    assert problems is None or (problems and all(problems))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_no_bytes_in_the_file_raise_anything_but_config_error(content: bytes, folder: Path) -> None:
    (folder / "any.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"any\.toml has \d+ problem"):
        read_config(folder / "any.toml")
