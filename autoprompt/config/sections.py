"""The sections of a space file: every key, its values, and what it is when it is not given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field, PrivateAttr, StringConstraints

from autoprompt.chat import Chat
from autoprompt.config.datasection import DataSection
from autoprompt.config.section import STRICT, Count, Share, Text
from autoprompt.demonstrations import Selection
from autoprompt.prompt import Position

__all__ = [
    "AnswerSection",
    "BudgetSection",
    "Config",
    "DataSection",
    "DoctorSection",
    "ExplainSection",
    "FinetuneSection",
    "MetricSection",
    "ModelSection",
    "PromptSection",
    "SecondSection",
    "SpaceSection",
    "StudySection",
]

BranchName = Literal[
    "discrete",
    "edits",
    "demonstrations",
    "tuning",
    "coordinates",
    "words",
    "gradients",
    "projection",
    "infill",
    "rewrite",
]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = STRICT


class ModelSection(_Section):
    """[model]: which model, and how it runs."""

    name: Text = "builtin"
    family: Literal["auto", "causal", "seq2seq", "masked", "encoder"] = "auto"
    device: Text = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    engine: Text = "own"
    batch_tokens: Count | None = None
    memory: Annotated[int, Field(ge=0)] = 2_000_000
    trust_remote_code: bool = False
    revision: Text | None = None  # of a hub model
    offline: bool | None = None  # None: where the model is a folder


class MetricSection(_Section):
    """[metric]: what a prompt is worth, where a name alone does not say it."""

    name: Text
    also: list[Text] = []  # reported beside it, never chosen by
    constraints: list[Text] = []  # "recall[billing] >= 0.9"
    costs: dict[str, dict[str, Cost]] = {}  # of name = "cost": by target and answer
    default: Cost = 1.0  # of pairs that costs do not name
    worst: Annotated[float, Field(allow_inf_nan=False)] | None = None  # its worst value, for constraints
    maximize: bool | None = None  # of "evaluate:NAME"; None: as is known of the name
    key: Text | None = None  # which of its numbers counts


class PromptSection(_Section):
    """[prompt]: the user's own prompt, the baseline; what is not searched is taken from it."""

    template: Text
    instruction: str = ""
    label_words: dict[str, Text] = {}  # of each label; numbers between which answers lie; none where they are written
    separator: Text = "\n\n"
    normalize: bool = False
    calibration: Literal["none", "content_free"] = "none"
    temperature: Temperature | None = None  # of log-likelihoods; None: 1, and 0.05 for sentence encoders
    chat: Literal["auto", "none", "turns", "one"] = "auto"  # turns where the model has a chat template


class AnswerSection(_Section):
    """[answer]: how a prompt is answered, where that is not by one of the label words."""

    tokens: Count | None = None  # the most to write
    stop: list[Text] = []  # texts that end an answer
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # 0 writes the likeliest text
    samples: Annotated[int, Field(ge=1, le=256)] = 1
    pattern: Text | None = None  # a regular expression that answers have to match
    form: Text | None = None  # a file with a JSON schema that they have to match
    read: Text | None = None  # what of a written text is the answer
    style: Annotated[list[Literal["letters", "texts"]], Field(min_length=1)] = ["letters"]  # of options; searched
    compare: Text | None = None  # a template: the answer is how alike a sentence encoder finds it and the input
    scale: Annotated[list[float], Field(min_length=2, max_length=2)] = [0.0, 1.0]  # what no and full likeness mean


class DemonstrationsSection(_Section):
    """[space.demonstrations]"""

    most: Annotated[int, Field(ge=0, le=64)] = 4
    draws: Count = 16
    orders: Count = 4
    selection: Annotated[list[Selection], Field(min_length=1)] = ["drawn"]


class SoftSection(_Section):
    """[space.soft]"""

    vectors: Annotated[list[Annotated[int, Field(ge=1, le=256)]], Field(min_length=1)] = [4, 8]
    positions: Annotated[list[Position], Field(min_length=1)] = ["start", "answer"]
    starts: Annotated[list[Literal["random", "vocabulary", "best"]], Field(min_length=1)] = [
        "best",
        "vocabulary",
        "random",
    ]
    dimensions: Annotated[int, Field(ge=2, le=2000)] = 24


class SpaceSection(_Section):
    """[space]: what may vary. The baseline's own template, instruction and words always belong to it."""

    templates: list[Text] = []
    instructions: list[str] = []
    libraries: list[Text] = []  # of prompts; once they are read, their candidates stand beside the file's own
    label_words: dict[str, Annotated[list[Text], Field(min_length=1)]] = {}
    calibration: list[Literal["none", "content_free"]] = []
    temperatures: list[Temperature] = []
    chats: list[Chat] = []
    demonstrations: DemonstrationsSection | None = None
    soft: SoftSection | None = None


class StudySection(_Section):
    """[study]: how long and how wide to search."""

    trials: Annotated[int, Field(ge=2)] = 80
    evaluations: Count | None = None  # (prompt, example) pairs
    batch: Annotated[int, Field(ge=4)] = 8
    slice: Annotated[int, Field(ge=2)] = 8
    pruner: Literal["racing", "successive_halving", "hyperband", "wilcoxon", "none"] = "racing"
    share: Annotated[float, Field(gt=0, le=1)] = 0.17
    level: Share = 0.05
    promote: Literal["best", "certain"] = "best"
    choose_by: Literal["score", "worst"] = "score"  # of the finalists
    sampler: Literal["surrogate", "tpe", "gp", "cmaes", "nsgaii", "random"] = "surrogate"
    branches: Annotated[list[BranchName], Field(min_length=1)] | None = None
    floor: Annotated[float, Field(ge=0, le=1)] = 0.2
    startup: Count = 16
    generations: Count = 4
    steps: Count = 40
    finalists: Count = 6
    objectives: Annotated[list[Literal["score", "tokens"]], Field(min_length=1)] = ["score"]
    tolerance: Annotated[float, Field(ge=0)] = 0.01
    workers: Annotated[int, Field(ge=1, le=256)] = 1  # processes on this machine, one a GPU
    storage: Text | None = None  # where workers of other machines join; None: a file in the run's folder


class BudgetSection(_Section):
    """[budget]: when a run ends, whatever it has found by then; what earlier processes of it took counts."""

    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    until: Text | None = None  # "07:00", or "2026-11-26 07:00", local time
    tokens: Count | None = None  # that the search may read
    notify: list[Text] = []  # a command and its arguments, run at the end


class DoctorSection(_Section):
    """[doctor]: what is looked at before the search."""

    checks: bool = True  # of data, metric and model
    baselines: bool = True  # that the winner is compared with, such as a linear probe


class ExplainSection(_Section):
    """[explain]: what is found out about the winner after the verdict."""

    why: bool = True  # what each of its parts earned
    shortest: bool = True  # which of them can be left out
    margin: Annotated[float, Field(ge=0)] = 0.01  # of the metric, by which a shorter prompt may be worse
    robustness: bool = True
    transfer: list[Text] = []  # other models: folders or names
    budget: Annotated[int, Field(ge=8)] = 32  # mixtures of your prompt and the winner that are scored


class ProposeSection(_Section):
    """[propose]: the model that writes and fills in for the proposers; the task model, where none is named."""

    model: Text | None = None
    tokens: Count = 20_000  # the most that one turn may read and write with it


class SecondSection(_Section):
    """[finetune.second]: another task, on which the model is measured before and after."""

    file: Text
    label: Text
    template: Text
    label_words: dict[str, Text]
    instruction: str = ""
    fields: Annotated[list[Text], Field(min_length=1)] = ["text"]


class FinetuneSection(_Section):
    """[finetune]: the final pass. A key that is not given is as `recommended` has it for the model's family."""

    method: Literal["auto", "lora", "full", "vectors", "none"] = "auto"
    adapter: Literal["lora", "dora", "rslora"] | None = None
    rank: Count | None = None
    alpha: Count | None = None  # None: twice the rank
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    freeze_embeddings: bool | None = None
    head: Literal["none", "labels", "regression"] | None = None
    temperature: Temperature | Literal["classes"] | None = None
    train_vectors: bool | None = None
    epochs: Count | None = None
    steps: Count | None = None
    keep: Literal["best", "last"] | None = None
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    optimizer: Text | None = None
    schedule: Text | None = None
    batch_size: Count | None = None
    weight_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = None
    patience: Annotated[int, Field(ge=0)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    class_weights: Literal["none", "balanced"] | None = None
    consistency: Annotated[float, Field(ge=0)] | None = None
    contrastive: Annotated[float, Field(ge=0)] | None = None
    gradient_checkpointing: bool | None = None
    precision: Literal["auto", "fast", "float32", "bfloat16"] | None = None
    prompts: Count = 1  # of the study's best, trained on side by side
    augment: list[Literal["demonstrations", "formats"]] = []
    variants: Count = 4  # prompts that augment makes
    unlabelled: Text | None = None  # a file of inputs, labelled by the winner
    confidence: Annotated[float, Field(gt=0, le=1)] = 0.9  # accuracy that such labels must have on dev
    write: Annotated[int, Field(ge=0)] = 0  # new examples of each label, written by the model
    compare: bool = True  # tune from the user's own prompt too: what each part was worth
    merge: bool = True  # export the weights with the adapter merged in, beside the adapter
    second: SecondSection | None = None


class Config(_Section):
    """A whole space file."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    metric: Text | MetricSection = "accuracy"
    metric_seconds: Annotated[float, Field(gt=0)] = 60.0  # that one call of a custom metric may take
    allow_code_execution: bool = False  # run programs that a model wrote, contained: for the metrics pass@k
    seed: Annotated[int, Field(ge=0)] = 0
    results: Text = "results"
    model: ModelSection = ModelSection()
    data: DataSection
    prompt: PromptSection
    answer: AnswerSection = AnswerSection()
    space: SpaceSection = SpaceSection()
    study: StudySection = StudySection()
    budget: BudgetSection = BudgetSection()
    propose: ProposeSection = ProposeSection()
    doctor: DoctorSection = DoctorSection()
    explain: ExplainSection = ExplainSection()
    finetune: FinetuneSection = FinetuneSection()
    _notices: tuple[str, ...] = PrivateAttr(default=())

    @property
    def notices(self) -> tuple[str, ...]:
        """What was taken of each library, and what was not, a sentence each."""
        return self._notices

    def joined(self, space: SpaceSection, notices: Sequence[str]) -> Config:
        """The same with the candidates of its libraries in the space."""
        config = self.model_copy(update={"space": space})
        config._notices = tuple(notices)
        return config

    @property
    def metric_name(self) -> str:
        return self.metric if isinstance(self.metric, str) else self.metric.name
