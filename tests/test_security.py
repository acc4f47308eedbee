"""What a model, a space file, data, an export or a journal of somebody else's cannot do."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from rich.console import Console
from safetensors.numpy import save_file
from safetensors.torch import load_file

from autoprompt import events
from autoprompt.config import read_config
from autoprompt.display import THEME, Display, print_error
from autoprompt.errors import ConfigError, ExportError, ModelError, PromptError, ResultsError
from autoprompt.export import Exported, export, read_export
from autoprompt.finetune import load_tuned
from autoprompt.models import load_model, model_fingerprint
from autoprompt.predict import predict
from autoprompt.prompt import Prompt, SoftPart
from autoprompt.report import write_report
from autoprompt.results import RunFolder, read_journal
from autoprompt.wording import fenced, inline, plain

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "autoprompt").rglob("*.py"))
WORDS = {"sports": "sports", "money": "money"}
TEMPLATE = "{{ text }}\nTopic: {{ label }}"


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "model"))


def in_process(code: str, cwd: Path, **environment: str) -> str:
    """What a program prints, in a process of its own. It must end well."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    given = {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- code and pickles ----------------------------------------------------------------------------


def with_code(folder: Path, to: Path, kind: str) -> Path:
    """A model of the type `kind` that names code of its own, which leaves a file behind where it is run."""
    model = copied(folder, to)
    config = json.loads((model / "config.json").read_text())
    named = {"AutoConfig": "code_of.Config", "AutoModelForCausalLM": "code_of.Model"}
    (model / "config.json").write_text(json.dumps({**config, "model_type": kind, "auto_map": named}))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["code_of.Tokenizer", "code_of.Tokenizer"]}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    source = f"open({str(to / 'ran')!r}, 'w').close()\nfrom transformers import LlamaConfig as Config"
    (model / "code_of.py").write_text(source + ", LlamaForCausalLM as Model\n")
    return model


def test_a_model_that_needs_code_of_its_own_is_refused_and_the_code_is_not_run(
    llama_folder: Path, tmp_path: Path
) -> None:
    folder = with_code(llama_folder, tmp_path, "strange")
    with pytest.raises(ModelError, match=r"None of its code was run\. Use a model that transformers knows; or read"):
        load_model(str(folder), device="cpu")
    assert not (tmp_path / "ran").exists()


def test_a_model_that_transformers_knows_is_loaded_without_the_code_beside_it(
    llama_folder: Path, tmp_path: Path
) -> None:
    folder = with_code(llama_folder, tmp_path, "llama")
    assert load_model(str(folder), device="cpu").family == "causal"
    assert not (tmp_path / "ran").exists()


@pytest.mark.model
def test_code_is_run_only_where_it_is_asked_for(llama_folder: Path, tmp_path: Path) -> None:
    folder = with_code(llama_folder, tmp_path, "strange")
    code = f"""
from autoprompt.models import load_model
from autoprompt.errors import ModelError
try:
    load_model({str(folder)!r}, "causal", device="cpu", trust_remote_code=True)
except ModelError as error:
    print(error)
"""
    in_process(code, tmp_path, HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1")
    assert (tmp_path / "ran").exists()


def test_trust_is_off_unless_the_file_gives_it(tmp_path: Path) -> None:
    assert not read_config(space(tmp_path)).model.trust_remote_code
    assert read_config({**space(tmp_path), "model": {"trust_remote_code": True}}).model.trust_remote_code


def test_pickled_weights_are_refused_in_a_sentence(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = copied(gpt2_folder, tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"Its weights are pickled \(\.bin\), which can run code .* as safetensors"):
        load_model(str(folder), device="cpu")


def test_a_pickled_adapter_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "target_modules": ["q_proj"]}')
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors; other weights are not read\.$"):
        load_tuned(load_model(str(llama_folder), device="cpu"), tmp_path)


# what runs or unpickles: file -> the calls that are right there
CALLS = {
    "metrics/inner.py": {"compile", "exec"},  # the same where it judges with the model, which is in this process
    "metrics/child.py": {"compile", "exec"},  # the user's own metric file, in a process of its own
    "execution/harness.py": {"compile"},  # a program that a model wrote, behind walls
}
DANGEROUS = re.compile(
    r"(^|\.)(eval|exec|compile|execfile|exec_module|__import__|system|popen|load_state_dict_from_url)$"
    r"|^(pickle|marshal|shelve|dill|joblib|cloudpickle)\b|^torch\.load$|^(np|numpy)\.load$"
)


def dangerous(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found |= {name for name in names if re.match(r"(pickle|marshal|shelve|dill|joblib|cloudpickle)\b", name)}
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            safe = name in {"re.compile", "torch.compile"} or name.endswith(".eval")  # of a network: a mode
            if name == "torch.load":
                safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            if DANGEROUS.search(name) and not safe:
                found.add(name)
            if any(k.arg == "shell" or (k.arg == "allow_pickle") for k in node.keywords):
                found.add(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=[path.relative_to(ROOT).as_posix() for path in SOURCES])
def test_no_source_unpickles_or_runs_text(path: Path) -> None:
    assert dangerous(path) <= CALLS.get(path.relative_to(ROOT / "autoprompt").as_posix(), set())


def test_what_is_dangerous_is_seen(tmp_path: Path) -> None:
    source = (
        "import pickle\ntorch.load(a)\ntorch.load(a, weights_only=True)\neval(b)\nexec(c)\nre.compile(d)\nm.eval()\n"
    )
    (tmp_path / "a.py").write_text(source + "os.system(e)\nnp.load(f)\nrun(g, shell=True)\n")
    found = {"pickle", "torch.load", "eval", "exec", "os.system", "np.load", "run(g, shell=True)"}
    assert dangerous(tmp_path / "a.py") == found


# -- hub models, from a cache on disk -------------------------------------------------------------

OLD, NEW = "a" * 40, "b" * 40


def hub_cache(model: Path, home: Path) -> Path:
    """A cache as the hub's client lays it out: a model "org/tiny" of two commits, the branch main at the older one."""
    folder = home / "hub" / "models--org--tiny"
    for commit in (OLD, NEW):
        shutil.copytree(model, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(OLD)
    config = folder / "snapshots" / NEW / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rms_norm_eps": 1e-3}))
    return folder


LOADING = """
import json, sys
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event) if event.startswith("socket.") else None)
from autoprompt.errors import ModelError
from autoprompt.models import load_model, model_fingerprint
found = []
for name, revision in json.loads({asked!r}):
    try:
        model = load_model(name, device="cpu", revision=revision, offline=True)
        same = model_fingerprint(name, revision, True) == model.fingerprint
        found.append([model.fingerprint, model.network.config.rms_norm_eps, same])
    except ModelError as error:
        found.append(str(error))
print(seen)
print(json.dumps(found))
"""


@pytest.mark.model
def test_a_hub_model_is_loaded_at_its_revision_and_known_by_its_commit(llama_folder: Path, tmp_path: Path) -> None:
    hub_cache(llama_folder, tmp_path / "home")
    asked = [["org/tiny", None], ["org/tiny", NEW], ["org/tiny", "main"], ["org/tiny", "v9"], ["org/none", None]]
    code = LOADING.format(asked=json.dumps(asked))
    *_, sockets, answers = in_process(code, tmp_path, HF_HOME=str(tmp_path / "home")).splitlines()
    found = json.loads(answers)
    assert sockets == "[]"
    assert found[0] == [f"org/tiny@{OLD}", 1e-6, True]
    assert found[1] == [f"org/tiny@{NEW}", 1e-3, True]
    assert found[2] == found[0]
    advice = r"^The model '{}' cannot be loaded \(\w+: .*\)\. It is not in the cache of this machine\. Get it with `hf "
    assert re.search(advice.format("org/tiny"), found[3])
    assert re.search(advice.format("org/none") + "download org/none` where there is a network", found[4])


def test_a_folder_has_no_revision(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a folder, which has no revision 'main'\. Leave it out\.$"):
        load_model(str(llama_folder), device="cpu", revision="main")
    model = {"name": str(llama_folder), "revision": "main"}
    with pytest.raises(
        ConfigError, match=r"model\.revision is 'main', and the model .* only hub models have revisions"
    ):
        read_config({**space(tmp_path), "model": model})


def test_a_name_that_no_file_can_have_is_no_crash() -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded"):
        model_fingerprint("x" * 5000)


# -- a whole run ---------------------------------------------------------------------------------


def space(folder: Path, **more: Any) -> dict[str, Any]:
    """A short run on data that lie in `folder`."""
    lines = ["text,topic", *(f"We won {i} times,sports\nThe bank lost {i},money" for i in range(9))]
    (folder / "topics.csv").write_text("\n".join(lines))
    return {
        "name": "topics",
        "results": str(folder / "results"),
        "data": {"file": str(folder / "topics.csv"), "label": "topic"},
        "prompt": {"template": TEMPLATE, "label_words": WORDS},
        "space": {"instructions": ["Sports or money?"]},
        "study": {"trials": 6, "batch": 4, "startup": 4, "branches": ["discrete"], "finalists": 2},
        "finetune": {"epochs": 1},
        "doctor": False,
        "explain": False,
        **more,
    }


LISTENING = """
import json, sys
from pathlib import Path
seen = []
def hook(event, arguments):
    if event.startswith("socket."):
        seen.append(event)
sys.addaudithook(hook)
import socket
socket.socket().close()
opened, seen[:] = len(seen), []
"""
RUNNING = """
from autoprompt.run import run
from autoprompt.errors import AutopromptError
try:
    done = run({values!r})
    print(json.dumps([opened, seen, done.values["verdict"], json.loads((done.folder / "manifest.json").read_text())["model"]]))
except AutopromptError as error:
    print(json.dumps([opened, seen, str(error)]))
"""
PREDICTING = """
from autoprompt.predict import predict
run = Path({run!r})
print(json.dumps([seen, predict(run / "winner", run / "test.jsonl", device="cpu", offline=True).value]))
"""


def ran(folder: Path, **more: Any) -> list[Any]:
    code = LISTENING + RUNNING.format(values=space(folder, **more))
    found: list[Any] = json.loads(in_process(code, folder, HF_HOME=str(folder / "home")).splitlines()[-1])
    return found


@pytest.mark.model
def test_a_run_with_a_folder_opens_no_socket_and_one_of_the_hub_offline_neither(
    llama_folder: Path, tmp_path: Path
) -> None:
    local, hub = tmp_path / "local", tmp_path / "hub"
    local.mkdir()
    opened, seen, verdict, mark = ran(local, model={"name": str(llama_folder), "device": "cpu"})
    assert opened > 0  # the hook hears one that is opened on purpose
    assert seen == []
    assert verdict
    assert re.fullmatch(r"[0-9a-f]{16}", mark)
    hub.mkdir()
    cache = hub_cache(llama_folder, hub / "home")
    model = {"name": "org/tiny", "device": "cpu", "offline": True}
    asked: dict[str, Any] = {"model": model, "finetune": {"method": "none"}}
    _, seen, _, mark = ran(hub, **asked)
    assert (seen, mark) == ([], f"org/tiny@{OLD}")
    # the branch moves on: the run is not resumed with another model
    (cache / "refs" / "main").write_text(NEW)
    _, seen, error = ran(hub, **asked)
    assert seen == []
    assert f'model: "org/tiny@{OLD[:10]}' in error
    assert "holds a run that was started with something else" in error
    run_folder = hub / "results" / "topics"
    code = LISTENING + PREDICTING.format(run=str(run_folder))  # of the commit that the export names
    seen, value = json.loads(in_process(code, hub, HF_HOME=str(hub / "home")).splitlines()[-1])
    assert seen == []
    result = json.loads((run_folder / "result.json").read_text())
    assert value == result["winner"]["test"]


# -- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/b", "..", ".", "", "a\\..\\b", "a\nb", ".hidden", "a\x00b"])
def test_a_name_cannot_lead_out_of_the_results_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name is .*allowed are letters, digits"):
        read_config({**space(tmp_path), "name": name})


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/b", "..", "."])
def test_the_name_of_a_run_folder_is_the_name_of_one_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"^The name of a run is .*; it must be the name of one folder\.$"):
        RunFolder(tmp_path / "results", name)
    assert list(tmp_path.iterdir()) == []


ABOUT = Exported("builtin", "causal", "float32", "accuracy", ("text",), "topic", "prompt")


def exported_to(folder: Path, soft: bool = False, **more: Any) -> Path:
    part = SoftPart(np.ones((2, 4), np.float32)) if soft else None
    export(folder, Prompt(TEMPLATE, WORDS, soft=part), ABOUT, **more)
    return folder


def test_an_export_takes_the_metric_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("metrics.py", "secrets.py", "topics.csv"):
        (tmp_path / "mine" / name).write_text("x = 1\n")
    folder = exported_to(tmp_path / "winner", metric_file=tmp_path / "mine" / "metrics.py")
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "autoprompt.json", "metrics.py", "prompt.json", "prompt.txt"}


@pytest.mark.parametrize("place", ["winner", "winner.part"])
def test_an_export_does_not_follow_a_link_in_its_place(place: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("kept")
    (tmp_path / place).symlink_to(tmp_path / "mine")
    exported_to(tmp_path / "winner")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kept.txt"]
    assert not (tmp_path / "winner").is_symlink()


@pytest.mark.parametrize(
    ("judged", "problem"),
    [
        ({"also": ["/tmp/metrics.py:f"]}, "also is not a key here; allowed are constraints, costs, default"),
        ({"name": "/tmp/metrics.py:f", "default": 1.0}, "name is not a key here; allowed are"),
        ({"default": -1.0}, r"metric\.default is -1\.0; it must be at least 0"),
    ],
)
def test_what_an_export_says_of_its_metric_names_no_other(judged: Any, problem: str, tmp_path: Path) -> None:
    folder = exported_to(tmp_path / "winner")
    (tmp_path / "rows.jsonl").write_text('{"text": "The match."}\n')
    rewritten(folder / "autoprompt.json", judged=judged)
    with pytest.raises(ConfigError, match=rf"The metric in .*autoprompt\.json has 1 problem:\n  - {problem}"):
        predict(folder, tmp_path / "rows.jsonl")


def rewritten(path: Path, **more: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


@pytest.mark.parametrize("metric", ["../metrics.py:f", "/tmp/metrics.py:f", "a/../../metrics.py:f", "linked.py:f"])
def test_an_export_cannot_name_a_metric_outside_its_folder(metric: str, tmp_path: Path) -> None:
    folder = exported_to(tmp_path / "winner")
    (tmp_path / "metrics.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (folder / "linked.py").symlink_to(tmp_path / "metrics.py")
    rewritten(folder / "autoprompt.json", metric=metric)
    with pytest.raises(ExportError, match=r"names the metric .*, which lies outside\. It is not run\.$"):
        read_export(folder)
    assert not (tmp_path / "ran").exists()


def test_a_prompt_cannot_name_the_file_of_its_vectors(tmp_path: Path) -> None:
    folder = exported_to(tmp_path / "winner", soft=True)
    save_file({"vectors": np.zeros((2, 4), np.float32)}, tmp_path / "vectors.safetensors")
    soft = json.loads((folder / "prompt.json").read_text())["soft"]
    rewritten(folder / "prompt.json", soft={**soft, "file": "../vectors.safetensors"})
    with pytest.raises(ExportError, match=r"^The prompt's vectors have the part 'file', which is not known\.$"):
        Prompt.load(folder)
    rewritten(folder / "prompt.json", soft=soft, vectors="../vectors.safetensors")
    with pytest.raises(ExportError, match=r"^The prompt has the part 'vectors', which this version does not know\.$"):
        Prompt.load(folder)


@pytest.mark.parametrize(
    "vectors",
    [np.zeros((2, 4), np.int64), np.full((2, 4), np.nan, np.float32), np.zeros(8, np.float32)],
    ids=["whole-numbers", "not-finite", "flat"],
)
def test_vectors_that_are_none_are_refused(vectors: Any, tmp_path: Path) -> None:
    folder = exported_to(tmp_path / "winner", soft=True)
    save_file({"vectors": vectors}, folder / "vectors.safetensors")
    with pytest.raises(ExportError, match=r"holds no readable vectors \(numbers of the type"):
        Prompt.load(folder)


# -- the terminal and the report -----------------------------------------------------------------

NASTY = [
    "[bold red]x[/]",
    "[link=http://evil.example]x[/link]",
    "\x1b]8;;http://evil.example\x07x\x1b]8;;\x07",
    "\x1b[2J\x1b[H",
    "safe\rEVIL",
    "\x07\x08\x7f\x9b31m",
    "\u202egnp.exe",
    "\u2066x\u2069\u2028\x85",
    "half \ud800",
]


def shown(*told: events.Event) -> str:
    """What a terminal gets."""
    out = io.StringIO()
    display = Display(Console(file=out, theme=THEME, highlight=False, force_terminal=False, color_system=None))
    for event in told:
        display(event)
    display.console.print(display.view())
    return out.getvalue()


@pytest.mark.parametrize("text", NASTY)
def test_no_text_of_an_event_acts_on_the_terminal(text: str) -> None:
    found = shown(
        events.RunStarted(text, False, text, True, 1, 9),
        events.ModelLoaded(text, "causal", "cpu", "float32", 9),
        events.StageStarted(text),
        events.TrialFinished(0, text, 0.5, 0.1, 9, 9, 0.1, "f", text, text),
        events.TrialFailed(1, text, text),
        events.TestOpened(text, 1),
        events.SecondTask(text, 3, 0.5, 0.4, (-0.2, 0.1)),
        events.Notice(text),
        events.VerdictReached("improved", text, 0.5, 0.6, (0.0, 0.1), None),
    )
    assert found == plain(found)
    assert plain(text)[:5] in found
    if "[" in text and text.isprintable():
        assert found.count(text) >= 6  # markup is shown, not followed


@pytest.mark.parametrize("text", NASTY)
def test_no_text_of_an_error_acts_on_the_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_error(f"There is no {text} here.")
    assert capsys.readouterr().err == f"Error: There is no {plain(text)} here.\n"


def test_what_acts_on_a_terminal_is_written_out() -> None:
    assert plain("a\x1b[2J\r\x07\u202e\u2028\ud800\x9b") == r"a\x1b[2J\r\x07\u202e\u2028\ud800\x9b"
    for kept in ("Zürich 東京 😀 👩\u200d💻 שלום مرحبا\n\tx", "a\\b [x] <y>"):
        assert plain(kept) == kept
    assert plain("a\r\nb") == "a\nb"


MARKUP = [
    "![x](http://evil.example/a.png)",
    "[click](javascript:alert(1))",
    "<img src=x onerror=alert(1)> <script>x</script> <!-- x -->",
    "<http://evil.example>",
    "a | b | c",
    "` `` ``` ~~~ ~~x~~",
    "**b** __b__ *i* _i_ \\",
    "# head\n\n## head\n- item\n> quote\n---\n***",
    "1. item\n2) item",
    "&lt;b&gt; &#60; &copy;",
    "[x]: http://evil.example\n\n[x]",
    "```\n\n# out of the fence\n<b>",
    "    code",
    "+ x",
    "=====",
    "12) x",
]
ACTIVE = {
    "link_open",
    "image",
    "html_inline",
    "html_block",
    "em_open",
    "strong_open",
    "s_open",
    "blockquote_open",
    "hr",
}


def kinds(markdown: str) -> list[str]:
    """The kinds of all tokens of a text in Markdown, as GitHub's dialect has them."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    return [inner.type for token in tokens for inner in [token, *(token.children or [])]]


def flip(text: str, *fields: str) -> dict[str, Any]:
    turn = "gained" if len(fields) > 1 else "lost"
    asked = dict.fromkeys(fields, text)
    return {"number": text, "fields": asked, "label": text, "before": text, "after": text, "shift": 0.5, "turn": turn}


def part(text: str) -> dict[str, Any]:
    numbers = dict.fromkeys(("value", "low", "high", "share", "alone", "last", "error"), 0.1)
    return {"part": text, "kind": text, "text": text, **numbers}


def journal_of(text: str) -> list[dict[str, Any]]:
    told: list[events.Event] = [
        events.RunStarted(text, False, text, True, 1, 9),
        events.ModelLoaded(text, text, text, text, 9),
        events.DataRead(1, 1, 1, (text, text), 0),
        events.TrialFinished(0, "baseline", 0.5, 0.1, 9, 9, 0.1, "f", text, "discrete"),
        events.TrialFinished(1, "discrete", 0.6, 0.1, 9, 9, 0.1, "f", text, text, False, text, (0,)),
        events.TrialFailed(2, text, text),
        events.Confirmed(0, "baseline", 0.5, 0.1, "f"),
        events.Confirmed(1, "discrete", 0.6, 0.1, "f"),
        events.WinnerChosen(1, "discrete", 0.6, "f", text),
        events.TestOpened(text, 1),
        events.SecondTask(text, 3, 0.5, 0.4, (-0.2, 0.1)),
        events.ExamplesAdded("written", 1, {"asked": 2, "refused": {text: 1}}),
        events.Finding(text, "problem", text, {text: text}),
        events.Finding(text, "warning", text + "!", {}),
        events.BaselineScored(text, 0.4, text),
        events.VerdictDetailed(
            text,
            0.01,
            0.1,
            {"name": text, "value": 0.5, "difference": 0.1, "interval": (0.0, 0.2), "p": 0.5},
            {text: {"examples": 3.0, "baseline": 0.3, "winner": 0.6}},
            {text: 0.1},
            {text: 3},
        ),
        events.ExamplesFlipped(1, 2, tuple(flip(text, *fields) for fields in (("text",), ("text", text), (text,)))),
        events.GainExplained("dev", 9, 0.1, (part(text),), text),
        events.PromptShortened((text,), text, "f", (9.0, 8.0), (0.6, 0.6), (-0.01, 0.01), 0.02, text),
        events.RobustnessMeasured(0.6, 0.5, 0.4, 0.3, ({"kind": text, "change": text, "value": 0.4},), text),
        events.PromptsTransferred(({"model": text, "values": {text: 0.5}, "left_out": {"text": text, text: text}},)),
        events.VerdictReached("improved", "better", 0.5, 0.6, (0.0, 0.1), None),
        events.StageFinished(text, 1.0, 2),
        events.Notice(text),
    ]
    return [json.loads(json.dumps(event.record())) for event in told]


@pytest.mark.parametrize("text", [*MARKUP, *NASTY])
def test_no_text_of_a_run_acts_in_the_report(text: str) -> None:
    report, harmless = write_report(journal_of(text)), write_report(journal_of("x"))
    assert report == plain(report)
    found = kinds(report)
    allowed = kinds(harmless)
    assert [kind for kind in found if kind in ACTIVE] == [kind for kind in allowed if kind in ACTIVE]
    for kind in ("heading_open", "tr_open", "td_open", "list_item_open", "fence", "code_block", "code_inline"):
        assert (kind, found.count(kind)) == (kind, allowed.count(kind))
    assert "http://" not in re.sub(r"```.*?```", "", report, flags=re.DOTALL)


@pytest.mark.parametrize("text", MARKUP)
def test_a_text_on_a_line_of_markdown_reads_as_it_is(text: str) -> None:
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"- {inline(text)}")
    words = re.sub(r"<[^>]*>", "", rendered).replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"')
    assert words.replace("&amp;", "&").strip() == " ".join(text.split())


@pytest.mark.parametrize("text", [*MARKUP, *NASTY])
def test_no_prompt_acts_in_the_card_of_an_export(text: str, tmp_path: Path) -> None:
    words = {"a": text, "b": "other"}
    prompt = Prompt(TEMPLATE, words, text, separator=text)
    clean = json.loads(json.dumps(prompt.to_dict()).replace("\\ud800", "?"))
    about = Exported(text.replace("\ud800", "?"), "causal", "float32", "accuracy", ("text",), "topic", "prompt")
    export(tmp_path / "winner", Prompt.from_dict(clean), about)
    card = (tmp_path / "winner" / "README.md").read_text(encoding="utf-8")
    assert card == plain(card)
    found = kinds(card)
    assert [kind for kind in found if kind in ACTIVE] == []
    assert (found.count("fence"), found.count("heading_open")) == (2, 4)


def test_a_fence_cannot_be_closed_from_within() -> None:
    assert fenced("```\n````x") == "`````text\n```\n````x\n`````"
    assert kinds(fenced("```\n# x\n~~~")) == ["fence"]


DAMAGE: list[Callable[[dict[str, Any]], Any]] = [
    lambda event: event.pop("number"),
    lambda event: event.update(value="much"),
    lambda event: event.update(number=[1]),
    lambda event: event.update(margin=None),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_journal_that_makes_no_sense_is_refused(damage: Callable[[dict[str, Any]], Any]) -> None:
    journal = journal_of("x")
    damage(journal[4])
    with pytest.raises(
        ResultsError, match=r"^The journal has an event that cannot be told \(\w+: .*\)\. Was it edited"
    ):
        write_report(journal)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"event": 5}', '{"event": ["x"]}', "9" * 5000])
def test_a_line_of_a_journal_that_is_no_event_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(line + "\n")
    with pytest.raises(ResultsError, match=r"line 1 is not an event\. Was the file edited\?$"):
        list(read_journal(tmp_path / "events.jsonl"))


# -- templates -----------------------------------------------------------------------------------

BOMBS = [
    "{% set x = text %}" + "{% set x = (x, x) %}" * 26,  # small in memory, large to walk through
    "{{ 'a' * 10**9 }}",
    "{{ 'a' * 1000000000 }}",
    "{{ [1] * 10**9 }}",
    "{{ 9 ** 99999 }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ '\t'.expandtabs(1000000000) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ text|tojson(indent=1000000000) }}",
    "{{ (text * 10000)|replace('x', 'y' * 10000) }}",
    "{{ range(10**9)|list }}",
    "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in text %}{% for b in text %}{% for c in text %}{% for d in text %}x{% endfor %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "{% for a in range(9999) %}" + "y" * 50_000 + "{% endfor %}",
    "{% set x = text %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}",
    "{% set x = text %}" + "{% set x = x + x %}" * 60 + "{{ x }}",
    "{% set x %}{{ text }}{% endset %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60 + "{{ x }}",
    "{% set x = [text] %}" + "{% set x = [x, x, x, x] %}" * 60 + "{{ x }}",
    "{% set x = 'ab' %}" + "{% set x = x.replace('a', x) %}" * 60 + "{{ x }}",
    "{{ [text, text]|map('center', 1000000000)|list }}",
    "{{ (5).to_bytes(1000000000, 'big') }}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% for i in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "{{ lipsum(100000000) }}",
    "{{ []|choice }}",
    "{{ 'd'.format }}{{ '%1000000000d'|format(1) }}",
    "{{ '%*d'|format(1000000000, 1) }}",
    "{% set l = [] %}{% for i in range(60) %}{% set _ = l.append([]) %}{% endfor %}{% for i in range(59) %}"
    "{% set _ = l[i].append(l[i + 1]) %}{% set _ = l[i].append(l[i + 1]) %}{% endfor %}{{ l }}",  # 2^60 to walk through
    "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
    "{% set l = [1] %}{% for a in l %}{% set _ = l.append(l) %}{% endfor %}{{ l }}",
    "{% set n = namespace(x=text) %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x == [n.x] }}{{ n.x }}",
    "{% set n = namespace() %}{{ n }}",
    "{% set n = namespace() %}{{ n._Namespace__attrs }}",
    "{{ zip.__globals__ }}",
    "{{ [text]|selectattr('__class__')|list|length }}{{ [text]|map(attribute='__class__')|first }}",
    "{{ text|attr('format_map')({}) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{ text.__class__ }}",
    "{{ text['__class__'] }}",
    "{{ [text]|map(attribute='__class__')|join }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ '{0.__class__}'.format(text) }}",
    "{% for a in [1] %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{{ text.upper }}",
    "{{ " + "(" * 5000 + "text" + ")" * 5000 + " }}",
    "{% for i in [1] %}" * 60 + "{% endfor %}" * 60,
    "{{ text }}" * 5000,
    "x" * 200_000,
    "{{ " + "9" * 5000 + " }}",
    "{{ [2e999] }}",
]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_a_template_that_would_not_end_is_refused_at_once(bomb: str) -> None:
    began = time.process_time()
    with pytest.raises(PromptError, match=r"^The template .* (cannot be rendered|is not valid Jinja|has) ?"):
        Prompt(bomb + "{{ text }}{{ label }}", WORDS).render({"text": "x" * 100})
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("template", "context"),
    [
        ("{% for w in text.split() %}{{ loop.index }}.{{ w|upper }} {% endfor %}{{ label }}", "1.ONE 2.TWO"),
        ("{% set x = text|replace('o', '0') %}{{ x ~ '!' }}{{ label }}", "0ne tw0!"),
        ("{{ {'one two': 'both'}[text] }} {{ text[:3] * 2 }} {{ 2 ** 10 }}{{ label }}", "both oneone 1024"),
        ("{% if 'one' in text %}{{ '{:>9}'.format(text) }}{% endif %}{{ label }}", "  one two"),
        ("{{ text.split()|map('capitalize')|join(' & ') }}{{ label }}", "One & Two"),
        (
            "{% set l = [] %}{% for w in text.split() %}{{ l.append(w) or '' }}{% endfor %}{{ l[::-1] }}{{ label }}",
            "['two', 'one']",
        ),
        (
            "{% set n = namespace(at=0) %}{% for w in text %}{% set n.at = n.at + 1 %}{% endfor %}{{ n.at }}{{ label }}",
            "7",
        ),
        (
            "{% for a, b in zip(text, range(3)) %}{{ a }}{{ b }}{% endfor %}{{ '%03d'|format(7) }}{{ label }}",
            "o0n1e2007",
        ),
        ("{{ [1, 2, 2, 3, 3]|most_frequent }}{{ [text]|random }}{{ label }}", "[2, 3]one two"),
        (
            "{% for i in range(3) %}{{ i }}{% endfor %}{{ text|tojson }}{{ title|default('-') }}{{ label }}",
            '012"one two"-',
        ),
    ],
)
def test_what_a_prompt_may_use_of_jinja_works(template: str, context: str) -> None:
    assert Prompt(template, WORDS).render({"text": "one two"}).context == context


def test_a_long_text_is_rendered_whole() -> None:
    text = "word " * 400_000
    prompt = Prompt(
        "{{ text|trim|replace('w', 'v') }} {% for w in text.split()[:9] %}{{ w }}{% endfor %}{{ label }}", WORDS
    )
    assert prompt.render({"text": text}).context == text.replace("w", "v") + "word" * 9
