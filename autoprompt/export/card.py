"""The card of an exported winner: how to use each part in ten lines without autoprompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoprompt.answer import ByLikeness, ByOption, ByText
from autoprompt.chat import VECTORS
from autoprompt.models.encoder import EncoderModel
from autoprompt.prompt import Prompt
from autoprompt.wording import fenced, inline

__all__ = ["Trained", "card"]

_CLASSES = {"causal": "AutoModelForCausalLM", "seq2seq": "AutoModelForSeq2SeqLM", "masked": "AutoModelForMaskedLM"}
_READ = {
    "text": "all, without space around it, is the answer.",
    "line": "the first line is the answer.",
    "number": "the last number, or that behind the last `####`, `answer is` or `=`, is the answer.",
    "labels": "the words, between commas, are the answers.",
    "json": "the JSON value is the answer.",
    "code": "the program is the answer.",
}
_TEMPERATURES = {"encoder": EncoderModel.temperature}  # of a prompt that names none; 1 for the other families


@dataclass(frozen=True)
class Trained:
    """What fine-tuning left in the export: its method, the folders there are, and whether labels have vectors."""

    method: str | None = None
    folders: frozenset[str] = frozenset()
    labels: bool = False

    @property
    def whole(self) -> str | None:
        """The folder with all weights, if there is one."""
        return next((name for name in ("model", "merged") if name in self.folders), None)

    @property
    def prompt(self) -> str:
        """Where the prompt lies that goes with what was trained."""
        return "tuned_prompt/" if "tuned_prompt" in self.folders else ""


def card(prompt: Prompt, model: str, family: str, scores: Mapping[str, float], trained: Trained) -> str:
    """The card's Markdown. prompt: the one that goes with what was trained."""
    where = "the folder `autoprompt/models/builtin` of the installed package" if model == "builtin" else inline(model)
    parts = [
        "# A prompt found by autoprompt",
        f"Model: {where}. Test scores: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()) + ".",
        f"## The prompt as text\n\n`{trained.prompt}prompt.txt` holds it whole. "
        f"Put the input in place of the placeholders; {_answering(prompt, family)}",
        fenced(prompt.placeholder_text()),
        f"## In Python\n\n{fenced(_program(prompt, model, family, trained), 'python')}",
        _weights(trained),
        _reading(prompt, family, trained),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _answering(prompt: Prompt, family: str) -> str:
    words = inline(", ".join(repr(word) for word in prompt.label_words.values()))
    if isinstance(prompt.answer, ByText):
        return f"the model writes the answer, at most {prompt.answer.tokens} tokens, in place of {{label}}."
    if isinstance(prompt.answer, ByLikeness):
        return f"the answer is how alike it and {inline(repr(prompt.answer.other))} are, and {{label}} is left out."
    if isinstance(prompt.answer, ByOption) and prompt.answer.style == "texts":
        return "the model writes one of the input's options in place of {label}."
    if family == "encoder":
        return f"the answer is the nearest of {words}, and {{label}} is left out."
    return f"the model writes one of {words} in place of {{label}}."


def _program(prompt: Prompt, model: str, family: str, trained: Trained) -> str:
    base = "path/to/autoprompt/models/builtin" if model == "builtin" else model
    if family == "encoder":
        return "\n".join(_embedding(prompt, base, trained))
    lines = [f"from transformers import AutoTokenizer, {_CLASSES[family]}", f"name = {base!r}"]
    if trained.method == "full":
        lines[1] = 'name = "model"  # this folder\'s, all weights trained'
    lines += ["tokenizer = AutoTokenizer.from_pretrained(name)", f"model = {_CLASSES[family]}.from_pretrained(name)"]
    if trained.method == "lora":
        lines += ["from peft import PeftModel", 'model = PeftModel.from_pretrained(model, "adapter")']
    lines += _parts(prompt, trained)
    if prompt.chat != "none":
        lines += _conversation(prompt)
        if isinstance(prompt.answer, ByText) and prompt.soft is None:
            lines += _writing(prompt.answer, prompt.stops, family, framed=True)
        return "\n".join(lines)
    cut = '.read().rstrip("\\n").split("{label}")[0].replace("{text}", "...")'
    lines.append(f'prompt = open("{trained.prompt}prompt.txt"){cut}')
    if isinstance(prompt.answer, ByText) and prompt.soft is None:
        lines += _writing(prompt.answer, prompt.stops, family)
    return "\n".join(lines)


def _conversation(prompt: Prompt) -> list[str]:
    """Lines that frame a conversation as the tokenizer's chat template does."""
    turns = [(role, content.replace(VECTORS, "")) for role, content in prompt.placeholders().turns]
    fields = "".join(f".replace({'{' + name + '}'!r}, {'...'!r})" for name in prompt.fields)
    lines = ["messages = [", *(f'    {{"role": {role!r}, "content": {text!r}}},' for role, text in turns), "]"]
    lines.append(f'messages[-1]["content"] = messages[-1]["content"]{fields}')
    if turns[0][0] == "system":
        lines += [
            "from jinja2 import TemplateError",
            "try:  # a template without a role for the system raises, or leaves it out",
            '    shown = messages[0]["content"].strip() in tokenizer.apply_chat_template(messages[:2], tokenize=False)',
            "except TemplateError:",
            "    shown = False",
            "if not shown:",
            '    said = messages.pop(0)["content"]',
            '    messages[0]["content"] = said + "\\n\\n" + messages[0]["content"]',
        ]
    return [
        *lines,
        "prompt = tokenizer.apply_chat_template(",
        "    messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)",
        'inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")',
    ]


def _writing(how: ByText, stops: tuple[str, ...], family: str, framed: bool = False) -> list[str]:
    """Lines that write an answer. framed: `inputs` are there already."""
    drawn = f", do_sample=True, temperature={how.temperature:g}" if how.temperature else ", do_sample=False"
    ends = f", stop_strings={list(stops)!r}, tokenizer=tokenizer" if stops else ""
    start = "" if family == "seq2seq" else '[inputs["input_ids"].shape[1]:]'
    return [
        *([] if framed else ['inputs = tokenizer(prompt.rstrip(" "), return_tensors="pt")']),
        f"found = model.generate(**inputs, max_new_tokens={how.tokens}{drawn}{ends})",
        f"print(tokenizer.decode(found[0]{start}, skip_special_tokens=True))",
    ]


def _parts(prompt: Prompt, trained: Trained) -> list[str]:
    """Lines that load vectors and retrieve examples, where there are any."""
    lines = []
    if prompt.soft is not None:
        lines += [
            "from safetensors.torch import load_file",
            f'vectors = load_file("{trained.prompt}vectors.safetensors")["vectors"]',
        ]
    return lines + (_RETRIEVING if prompt.retrieval is not None else [])


def _embedding(prompt: Prompt, model: str, trained: Trained) -> list[str]:
    """The program for a sentence encoder."""
    lines = ["import json, re", "from sentence_transformers import SentenceTransformer"]
    lines.append(f"model = SentenceTransformer({trained.whole or model!r})")
    if trained.method == "lora" and trained.whole is None:
        lines += [
            "from peft import PeftModel",
            'model[0].auto_model = PeftModel.from_pretrained(model[0].auto_model, "adapter")',
        ]
    lines += _parts(prompt, trained)
    if isinstance(prompt.answer, ByLikeness):
        return [
            *lines,
            f'text = re.sub(" *{{label}}", "", open("{trained.prompt}prompt.txt").read()).strip()',
            f"other = {prompt.answer.other!r}  # both with the input's fields put in",
            "cosine = model.similarity(model.encode([text]), model.encode([other]))[0, 0].item()",
            f"print({prompt.answer.low!r} + {prompt.answer.high - prompt.answer.low!r} * cosine)",
        ]
    lines += [
        f'words = json.load(open("{trained.prompt}prompt.json"))["label_words"]',
        f'text = re.sub(" *{{label}}", "", open("{trained.prompt}prompt.txt").read())',
        'text = text.strip().replace("{text}", "...")',
    ]
    if trained.labels:
        return [
            *lines,
            "from safetensors.numpy import load_file as read",
            f'labels = read("{trained.whole or "adapter"}/label_vectors.safetensors")',
            'scores = model.encode(text, normalize_embeddings=True) @ labels["vectors"].T + labels["bias"]',
            "print(list(words)[int(scores.argmax())])",
        ]
    return [
        *lines,
        "cosines = model.similarity(model.encode([text]), model.encode(list(words.values())))[0]",
        "print(list(words)[int(cosines.argmax())])",
    ]


# what retrieval.py does, for inputs of one field or more
_RETRIEVING = [
    'import json; parts = json.load(open("prompt.json")); pool = parts["retrieval"]["pool"]',
    "from sklearn.feature_extraction.text import TfidfVectorizer",
    "alike = TfidfVectorizer(analyzer='char_wb', ngram_range=(3, 5), sublinear_tf=True)",
    'texts = ["\\n".join(v for _, v in sorted(shown["fields"].items())) for shown in pool]',
    'order = (alike.fit_transform(t + " ." for t in texts) @ alike.transform(["..."]).T).toarray()[:, 0].argsort()',
    'shown = [pool[i] for i in order[-parts["retrieval"]["number"]:]]  # the most alike last',
]


def _weights(trained: Trained) -> str:
    if trained.folders >= {"adapter", "merged"}:
        return (
            "`adapter/` is what was trained, for peft; `merged/` is the whole model with it, for whatever loads a "
            "model of this kind by itself. They answer alike: use one of them."
        )
    return ""


def _reading(prompt: Prompt, family: str, trained: Trained) -> str:
    notes = []
    if prompt.chat != "none":
        notes.append(
            "The prompt is a conversation: the text below each line `[system]`, `[user]` or `[assistant]` of "
            "prompt.txt is a message of that role, but for the last, where {label} is what the model says. Frame them "
            "with `apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False)`, add no special "
            "tokens, and let the answer follow directly, without a space; a text that the model writes ends with its "
            "turn. Where the template has no role for the system, its text stands in front of the first user message, "
            "two line breaks between."
        )
    inner = "model[0].auto_model" if family == "encoder" else "model"
    if prompt.soft is not None:
        count, size = prompt.soft.vectors.shape
        notes.append(
            f"The prompt is soft: {count} vectors of {size} numbers stand where prompt.txt shows them. Embed the text "
            f"around them with `{inner}.get_input_embeddings()` and give `inputs_embeds`."
        )
    if prompt.retrieval is not None:
        notes.append(
            f"Each input is shown the {prompt.retrieval.number} examples of the pool in prompt.json that are most like "
            "it (`shown` above; never itself), each as the template of prompt.json renders it with its label word, "
            f"joined by {inline(repr(prompt.separator))}: put them where prompt.txt says so."
        )
    how = {
        "causal": "Sum the log-probabilities of each label word's tokens after the prompt; the highest is the answer.",
        "seq2seq": "Give the prompt to the encoder and sum the log-probabilities of each label word in the decoder.",
        "masked": "Put one mask per token of the label word at {label}, and sum the log-probabilities at the masks.",
        "encoder": "Embed the prompt and the label words; the label word with the highest cosine is the answer.",
    }
    if isinstance(prompt.answer, ByText):
        notes.append(_read(prompt.answer, prompt.stops))
    elif isinstance(prompt.answer, ByLikeness):
        notes.append("Embed the prompt and the other text; the cosine, on the scale above, is the answer.")
    elif trained.labels:
        notes.append(
            "Embed the prompt; the label whose vector has the highest product with it, its bias added, is the answer."
        )
    else:
        notes.append(how[family])
    if isinstance(prompt.answer, ByOption):
        notes.append(
            f"The options stand one a line in the field {inline(repr(prompt.answer.field))}; "
            "prompt.json says under `answer` how they are shown."
        )
    if prompt.answer.kind == "number":
        notes.append("The answer is the mean of the labels' numbers, weighted by the probabilities of their words.")
    if prompt.normalize and family != "encoder":
        notes.append("Divide each sum by the word's number of tokens.")
    temperature = prompt.temperature or _TEMPERATURES.get(family, 1.0)
    if temperature != 1 and prompt.answer.kind in ("label", "option", "number"):
        notes.append(f"Divide by the temperature, {temperature:g}, before the softmax that gives probabilities.")
    if prompt.calibration == "content_free":
        notes.append(
            "Divide the probabilities by their mean over the inputs 'N/A', '' and '[MASK]' (contextual calibration)."
        )
    return "## Reading the answer\n\n" + " ".join(notes)


def _read(how: ByText, stops: tuple[str, ...]) -> str:
    """How a written answer is read."""
    ends = f" Cut it before the first of {inline(', '.join(map(repr, stops)))}." if stops else ""
    form = f" It matches {inline(repr(how.form[1]))}." if how.form is not None else ""
    return f"Let the model write at most {how.tokens} tokens.{ends}{form} Of that text {_READ.get(how.read, '')}" + (
        "" if how.read in _READ else f"what {inline(repr(how.read))} finds is the answer."
    )
