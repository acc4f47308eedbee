"""Candidates out of prompt libraries: what is taken, what is refused and why, and what a hostile file can do."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from autoprompt import events
from autoprompt.check import check
from autoprompt.config import read_config
from autoprompt.errors import ConfigError, LibraryError, PromptError
from autoprompt.libraries import Imported, Library, Refused, Written, as_imported, read_library, survey, told
from autoprompt.libraries.langchain import read_chain
from autoprompt.libraries.promptsource import FOLDER, find_templates, read_rows, read_templates
from autoprompt.libraries.texts import read_lines
from autoprompt.prompt import Prompt
from autoprompt.template import compiled

FIELDS, LABELS = ("text",), ("sports", "money")
NEWS = """
dataset: local_news
templates:
  a1: !Template
    answer_choices: Sports ||| Money
    id: a1
    jinja: "{{ text }}\\nIs it about {{ answer_choices[0] }} or {{ answer_choices[1] }}? ||| {{ answer_choices[label] }}"
    metadata: !TemplateMetadata
      choices_in_prompt: true
      languages: [en]
    name: choose
    reference: ''
  a2: !Template
    answer_choices: null
    jinja: "{{ headline }}\\nTopic: ||| {{ topic }}"
    name: headline
  a3: !Template
    answer_choices: null
    jinja: "Topic of {{ text }}:|||{{ topic }}"
    name: topic
"""


def taken(jinja: str, choices: str | None = None) -> Imported:
    found = as_imported(Written("one", jinja, choices, "here"))
    assert isinstance(found, Imported), found
    return found


def refusal(jinja: str, choices: str | None = None) -> str:
    found = as_imported(Written("one", jinja, choices, "here"))
    assert isinstance(found, Refused), found
    return found.reason


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with a library of each kind."""
    (tmp_path / "templates" / "local_news").mkdir(parents=True)
    (tmp_path / "templates" / "local_news" / "templates.yaml").write_text(NEWS, encoding="utf-8")
    (tmp_path / "prompts.txt").write_text(
        "# mine\n\nName the topic.\n{{ text }}\\nTopic:\n{{ body }}\n", encoding="utf-8"
    )
    chain = {"_type": "prompt", "input_variables": ["text"], "template": "Sort {text} into {{a, b}}"}
    (tmp_path / "chain.json").write_text(json.dumps(chain), encoding="utf-8")
    return tmp_path


# -- PromptSource's templates in our form ----------------------------------------------------------


def test_what_stands_before_the_bars_is_the_template() -> None:
    found = taken("  {{ text }}\nTopic: |||\n {{ topic }} ")
    assert (found.template, found.fields) == ("{{ text }}\nTopic: {{ label }}", ("text",))
    assert (found.target, found.label_words) == ("{{ topic }}", None)


def test_the_answer_stands_on_a_line_of_its_own_behind_a_question() -> None:
    assert taken("{{ text }} What is it?|||{{ topic }}").template == "{{ text }} What is it?\n{{ label }}"


def test_answer_choices_of_the_file_become_label_words_and_stand_in_the_template() -> None:
    found = taken(
        "{{ text }} {{ answer_choices | join(', ') }}?|||{{ answer_choices[label] }}", "Good ||| 'Bad' \"one\""
    )
    assert found.label_words == ("Good", "'Bad' \"one\"")
    shown = Prompt(found.template, {"a": "a", "b": "b"}).render({"text": "x"}).context
    assert shown == "x Good, 'Bad' \"one\"?\n"


def test_answer_choices_of_the_row_are_made_in_the_template() -> None:
    found = taken("{{ text }} {{ answer_choices[1] }}|||{{ answer_choices[label] }}", "{{ first }} ||| {{ second }}")
    assert (found.label_words, found.fields) == (None, ("first", "second", "text"))
    assert compiled(found.template).render({"text": "x", "first": "f", "second": "s", "label": "!"}) == "x s\n!"


def test_bars_within_a_branch_end_with_the_branch() -> None:
    found = taken("{% if text %}\n{{ text }}: |||\n {% if topic %}{{ topic }}{% endif %} \n{% endif %}\n")
    assert found.template == "{% if text %}{{ text }}: {{ label }}{% endif %}"


def test_each_branch_may_have_its_own_answer() -> None:
    found = taken("{% if text|length > 3 %}{{ text }} ||| long{% else %}Short: {{ text }} ||| short {% endif %}")
    shown = [Prompt(found.template, {"a": "a", "b": "b"}).render({"text": text}) for text in ("long text", "t")]
    assert [one.context for one in shown] == ["long text\n", "Short: t\n"]
    assert [one.tail for one in shown] == ["", ""]


def test_a_condition_that_passes_over_rows_without_answer_is_left_out() -> None:
    assert taken("{% if topic != -1 %}{{ text }}|||{{ topic }}{% endif %}").fields == ("text",)
    assert taken("{% if topic == 1 %}{{ text }}|||{{ topic }}{% endif %}").fields == ("text", "topic")


def test_a_column_that_is_called_like_ours_is_no_answer() -> None:
    found = taken("{{ text }} {{ label }} {{ instruction }} {{ answer.label }}|||{{ topic }}")
    assert found.fields == ("answer", "instruction_column", "label_column", "text")
    assert found.template.count("{{ label }}") == 1


def test_fixed_texts_in_braces_become_plain_texts() -> None:
    assert taken("{{ text }} {{\"yes\"}} or {{'no'}}{{' '}}?|||{{ x }}").template.startswith(
        "{{ text }} yes or no{{' '}}?"
    )


@pytest.mark.parametrize(
    ("jinja", "choices", "reason"),
    [
        ("{{ text }}", None, "has no |||"),
        ("{{ text }} ||| a ||| b", None, "has two parts behind its input"),
        ("{{ text ||| a", None, "is not valid Jinja"),
        ("{% include 'x' %}{{ text }}|||a", None, "has the statement 'include'"),
        ("Say something.|||{{ text }}", None, "shows no column"),
        ("{{ text }}|||{{ answer_choices[0] }}", "a ||| ||| b", "have a blank one"),
        ("{{ text }}|||{{ text|nofilter }}", None, "is not valid Jinja"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_reason(jinja: str, choices: str | None, reason: str) -> None:
    assert reason in refusal(jinja, choices)


def test_what_a_template_draws_it_draws_from_the_row() -> None:
    found = taken("{{ ['a', 'b', 'c', 'd']|choice }}{{ ['e', 'f']|random }} {{ text }}|||x").template
    prompt = Prompt(found, {"a": "a", "b": "b"})
    shown = {text: prompt.render({"text": text}).context[:2] for text in "stuvwxyz"}
    assert len(set(shown.values())) > 2
    assert all(prompt.render({"text": text}).context[:2] == drawn for text, drawn in shown.items())


def test_a_template_never_changes_the_row() -> None:
    row = {"text": "x", "names": ["a"]}
    assert compiled("{{ names.append('b') or '' }}{{ names|join }}").render(row) == "ab"
    assert row == {"text": "x", "names": ["a"]}


# -- its files -------------------------------------------------------------------------------------


def test_a_file_of_templates_is_read_in_the_order_of_names() -> None:
    found = read_templates(NEWS, "local_news")
    assert [one.name for one in found] == ["choose", "headline", "topic"]
    assert isinstance(found[0], Written)
    assert found[0].choices == "Sports ||| Money"


@pytest.mark.parametrize(
    ("text", "told_reason"),
    [
        ("templates: !!python/object/apply:os.system ['false']", "could not determine a constructor for the tag"),
        ("templates: !!python/name:os.system ''", "could not determine a constructor"),
        ("templates: {a: !Other {name: a}}", "could not determine a constructor"),
        ("templates: {a: !Template text}", "stands before what is no mapping"),
        ("a: &a {x: 1}\ntemplates: {<<: *a}", "merge keys"),
        ("templates: " + "[" * 200 + "]" * 200, "more than 64 levels"),
        ("templates: &a [*a]", "no mapping `templates`"),
        ("templates: {a: [", "not YAML that can be read"),
        ("[1, 2]", "no mapping `templates`"),
        ("templates: 2024-99-99", "not YAML that can be read"),
        ("templates: {? [a] : 1}", "unhashable key"),
    ],
)
def test_hostile_yaml_is_refused_at_once(text: str, told_reason: str) -> None:
    began = time.process_time()
    with pytest.raises(LibraryError, match=r"^The (templates|file) of here ") as error:
        read_templates(text, "here")
    assert told_reason in str(error.value)
    assert time.process_time() - began < 1


def test_laughs_cost_nothing() -> None:
    lines = ["a0: &a0 ha"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    began = time.process_time()
    [found] = read_templates("\n".join([*lines, "templates: {one: {name: x, jinja: *a39}}"]), "here")
    assert found == Refused("x", "It has no text `jinja` and `name`.")
    assert time.process_time() - began < 1


def test_a_hostile_template_is_refused_when_it_is_checked(tmp_path: Path) -> None:
    jinja = "{% set n = namespace(x=text) %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}|||x"
    text = json.dumps(
        {
            "templates": {
                "a": {"name": "bomb", "jinja": jinja},
                "b": {"name": "own", "jinja": "{{ text.__class__ }}|||x"},
            }
        }
    )
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    found = read_library("bad.yaml", tmp_path, FIELDS, LABELS)
    assert found.templates == ()
    assert [one.name for one in found.refused] == ["bomb", "own"]
    assert all("cannot be rendered" in one.reason for one in found.refused)


def test_data_sets_are_found_beside_the_file_in_a_named_folder_and_in_rows(
    shelf: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(find_templates("local_news", shelf)) == 3
    other = tmp_path_factory.mktemp("other")
    with pytest.raises(
        LibraryError, match=r"^There are no templates of PromptSource: .* in AUTOPROMPT_PROMPTSOURCE\.$"
    ):
        find_templates("local_news", other)
    monkeypatch.setenv(FOLDER, str(shelf / "templates"))
    assert len(find_templates("local_news", other)) == 3
    row = {"dataset": "two/part", "yaml": NEWS}
    (other / "templates.jsonl").write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    assert len(find_templates("two/part", other)) == 3
    with pytest.raises(LibraryError, match=r"no data set 'local_nws' here, among 2\. Did you mean 'local_news'\?$"):
        find_templates("local_nws", other)


@pytest.mark.parametrize(
    ("line", "reason"),
    [("{", "line 2 is no JSON"), ("[" * 99_999, "line 2 is no JSON"), ('{"dataset": 1}', "line 2 needs the texts")],
)
def test_a_row_that_is_none_is_named_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "rows.jsonl").write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(LibraryError, match=reason):
        list(read_rows(tmp_path / "rows.jsonl"))


def test_the_survey_counts_what_renders_and_why_others_do_not() -> None:
    nested = {
        "name": "nested",
        "jinja": "{% set l = [] %}{% for one in turns if one.who == 'A' %}{{ l.append(one.words[:2]|join(' ')) or '' }}"
        "{% endfor %}{{ l|join('; ') }} {{ parts['left'].index(side) }}|||{{ answer_choices[place - 1] }}",
        "answer_choices": "a ||| b ||| c",
    }
    never = {"name": "never", "jinja": "{{ text }}{{ 1 / 0 }}|||x"}
    rows = [{"dataset": "x", "yaml": json.dumps({"templates": {"1": nested, "2": never, "3": {}}})}]
    found = survey([*rows, {"dataset": "y", "yaml": NEWS}], 50)
    assert (found["data_sets"], found["templates"], found["rendered"], found["words"]) == (2, 6, 4, 2)
    assert found["texts_alone"] == 3
    assert found["refused"] == {
        "It cannot be rendered: division by zero.": 1,
        "It has no text `jinja` and `name`.": 1,
    }
    assert {one["name"] for one in found["refusals"]} == {"never", "3"}


# -- label words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "target", "expected"),
    [
        (("MONEY", "sports"), "{{ answer_choices[label] }}", {"MONEY": "Money", "sports": "Sports"}),
        (("0", "1"), "{{ answer_choices [label|int] }}", {"0": "Sports", "1": "Money"}),
        (("1", "2"), "{{ answer_choices[label - 1] }}", {"1": "Sports", "2": "Money"}),
        (("1", "2"), "{{ answer_choices[label] }}", "the choices are for 0, 1"),
        (("0", "1"), "{{ answer_choices[{'a': 0, 'b': 1}[label]] }}", "a number does not say which is which"),
        (("0", "1", "2"), "{{ answer_choices[label] }}", "They are 2 choices, and the data have 3 labels."),
    ],
)
def test_choices_are_matched_by_word_and_then_by_number(
    tmp_path: Path, labels: tuple[str, ...], target: str, expected: dict[str, str] | str
) -> None:
    one = {"name": "one", "jinja": "{{ text }}|||" + target, "answer_choices": "Sports ||| Money"}
    (tmp_path / "one.yaml").write_text(json.dumps({"templates": {"1": one}}), encoding="utf-8")
    found = read_library("one.yaml", tmp_path, FIELDS, labels)
    assert found.templates == ("{{ text }}\n{{ label }}",)
    if isinstance(expected, dict):
        assert (found.label_words, found.refused) == ((expected,), ())
    else:
        assert found.label_words == ()
        assert [(one.name, expected in one.reason) for one in found.refused] == [
            ("the answer choices Sports | Money", True)
        ]


# -- texts and LangChain ---------------------------------------------------------------------------


def test_a_text_gives_a_candidate_a_line() -> None:
    found = read_lines("# no\n#yes\n\n One. \r\n{{ text }}\\n{{ label }}\n{% if text %}{{ text }}{% endif %}\n")
    assert found.instructions == ("#yes", "One.")
    assert found.templates == ("{{ text }}\n{{ label }}", "{% if text %}{{ text }}{% endif %}")


def chain(template: str, form: str = "f-string", **more: Any) -> Library:
    return read_chain(json.dumps({"_type": "prompt", "template": template, "template_format": form, **more}), "c.json")


@pytest.mark.parametrize(
    ("form", "template", "shown"),
    [
        ("f-string", "Sort {text}: {{a}} {{{{b}}}} {{%", "Sort <x>: {a} {{b}} {%"),
        ("f-string", "{{{text}}}", "{<x>}"),
        ("f-string", "{{# {text} #}}{{", "{# <x> #}{"),
        ("mustache", "{{text}} {{{ text }}} {{& text}} {{! no }}{%{x}{", "<x> <x> <x> {%{x}{"),
        ("jinja2", "{{ text|upper }}", "<X>"),
    ],
)
def test_every_format_of_langchain_shows_what_it_shows_there(form: str, template: str, shown: str) -> None:
    [found] = chain(template, form).templates
    assert compiled(found).render({"text": "<x>"}) == shown


def test_partial_variables_are_set() -> None:
    [found] = chain("{text} {today}", partial_variables={"today": 'a "day"', "unused": "x"}).templates
    assert compiled(found).render({"text": "x"}) == 'x a "day"'


@pytest.mark.parametrize(
    ("form", "template", "reason"),
    [
        ("f-string", "{text!r}", "has a format"),
        ("f-string", "{text:>9}", "has a format"),
        ("f-string", "{a.b}", "is no plain name"),
        ("f-string", "{}", "is no plain name"),
        ("f-string", "{text", "expected '}' before end of string"),
        ("mustache", "{{#text}}x{{/text}}", "is a section"),
        ("mustache", "{{a.b}}", "is no plain name"),
        ("jinja2", "{{ text", "is not valid Jinja"),
        ("jinja2", "{% import 'os' as os %}", "has the statement"),
    ],
)
def test_what_a_template_of_langchain_has_beyond_names_is_refused(form: str, template: str, reason: str) -> None:
    found = chain(template, form)
    assert found.templates == ()
    assert reason in found.refused[0].reason


def test_a_few_shot_prompt_gives_prefix_and_suffix() -> None:
    value = {
        "_type": "few_shot", "prefix": "Name the {{topic}}.", "suffix": "Text: {text}\nTopic:", "examples": [{}, {}],
        "example_prompt": {"_type": "prompt", "template": "{text}"},
    }  # fmt: skip
    found = read_chain(json.dumps(value), "c.json")
    assert found.instructions == ("Name the {topic}.",)
    assert found.templates == ("Text: {{ text }}\nTopic:",)
    assert found.refused[0].reason.startswith("2 examples were not taken")


def written(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "prompts", kind], "kwargs": kwargs}


def message(kind: str, template: str) -> dict[str, Any]:
    return written(kind, prompt=written("PromptTemplate", template=template, input_variables=[]))


def test_a_chat_prompt_gives_system_and_human_message() -> None:
    human = message("HumanMessagePromptTemplate", "{text}")
    found = read_chain(
        json.dumps(written("ChatPromptTemplate", messages=[written("SystemMessage", content="Be {brief}."), human])),
        "c",
    )
    assert (found.instructions, found.templates, found.refused) == (("Be {brief}.",), ("{{ text }}",), ())
    system = message("SystemMessagePromptTemplate", "You know {text}.")
    found = read_chain(json.dumps(written("ChatPromptTemplate", messages=[system, human])), "c")
    assert (found.instructions, found.templates) == ((), ("{{ text }}",))
    assert "names text: it must be the same for every example" in found.refused[0].reason
    found = read_chain(
        json.dumps(written("ChatPromptTemplate", messages=[human, message("AIMessagePromptTemplate", "x")])), "c"
    )
    assert "It has a AIMessagePromptTemplate" in found.refused[0].reason
    found = read_chain(json.dumps(written("ChatPromptTemplate", messages=[human, human])), "c")
    assert "0 system and 2 human messages" in found.refused[0].reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "c.json is no JSON"),
        ("[" * 99_999, "c.json is no JSON"),
        ("[]", "is no JSON object"),
        ('{"_type": "llm_chain"}', "holds a llm_chain; read are"),
        ('{"lc": 1, "id": [], "kwargs": {}}', "without a list `id`"),
        ('{"lc": 1, "id": ["PromptTemplates"], "kwargs": {}}', r"Did you mean 'PromptTemplate'\?"),
        ('{"_type": "prompt"}', "needs the text `template`; there it is NoneType"),
        ('{"_type": "prompt", "template": "x", "template_format": "jinja"}', r"Did you mean 'jinja2'\?"),
        ('{"_type": "few_shot", "prefix": "x"}', "needs the text `suffix`"),
        ('{"_type": "chat"}', "has no list `messages`"),
        ('{"_type": "chat", "messages": [{"id": ["HumanMessage"]}]}', "a message without an object `kwargs`"),
    ],
)
def test_a_file_that_is_no_prompt_of_langchain_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(LibraryError, match=reason):
        read_chain(text, "c.json")


# -- a library, and the space file -----------------------------------------------------------------


def test_a_library_gives_what_fits_and_refuses_the_rest(shelf: Path) -> None:
    found = read_library("promptsource:local_news", shelf, FIELDS, LABELS)
    assert found.templates[1] == "Topic of {{ text }}: {{ label }}"
    assert (len(found.templates), found.instructions) == (2, ("",))
    assert found.label_words == ({"sports": "Sports", "money": "Money"},)
    assert found.refused == (Refused("headline", "It wants the columns headline; the data's fields are text."),)
    assert told("promptsource:local_news", found) == (
        "Taken from promptsource:local_news: 2 templates, 1 choice of label words; 1 refused: "
        "headline: It wants the columns headline; the data's fields are text."
    )
    lines = read_library("prompts.txt", shelf, FIELDS, LABELS)
    assert lines.instructions == ("Name the topic.",)
    assert lines.templates == ("{{ text }}\nTopic: {{ label }}",)
    assert "names {{ body }}" in lines.refused[0].reason
    assert read_library("chain.json", shelf, FIELDS, LABELS).templates == ("Sort {{ text }} into {a, b}\n{{ label }}",)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("prompt.txt", r"There is no file .*prompt\.txt\. Did you mean 'prompts\.txt'\?"),
        ("Name the topic.", "It is no library: .* stands in a list"),
        ("a\0.txt", "There is no file|It is not a file's name"),
        ("x" * 5000 + ".txt", "It is not a file's name"),
        ("promptsource:", "has no data set ''"),
    ],
)
def test_a_library_that_is_not_there_is_an_error(shelf: Path, name: str, reason: str) -> None:
    with pytest.raises(LibraryError, match=reason):
        read_library(name, shelf, FIELDS, LABELS)


def config(shelf: Path, space: dict[str, Any]) -> dict[str, Any]:
    rows = [{"text": f"The {kind} of day {n}", "topic": kind} for n in range(12) for kind in LABELS]
    (shelf / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    prompt = {"template": "{{ text }}\n{{ label }}", "label_words": {"sports": "sports", "money": "Sports"}}
    return {"name": "x", "data": {"file": "rows.jsonl", "label": "topic"}, "prompt": prompt, "space": space}


def test_candidates_of_libraries_join_those_of_the_file(shelf: Path) -> None:
    names = ["promptsource:local_news", "prompts.txt"]
    values = config(shelf, {"libraries": names, "instructions": ["Mine."], "label_words": {"money": ["cash"]}})
    found = read_config(values, shelf)
    assert found.space.instructions == ["Mine.", "", "Name the topic."]
    assert "Topic of {{ text }}: {{ label }}" in found.space.templates
    assert found.space.libraries == []
    # here the user's own word for money is Sports
    assert found.space.label_words == {"money": ["cash"]}
    assert "'Sports' would stand for 'sports', and stands for 'money' already." in found.notices[0]
    values["prompt"]["label_words"]["money"] = "money"
    assert read_config(values, shelf).space.label_words == {"money": ["cash", "Money"], "sports": ["Sports"]}


def test_a_single_text_as_instructions_names_a_library(shelf: Path) -> None:
    found = read_config(config(shelf, {"instructions": "promptsource:local_news"}), shelf)
    assert len(found.space.templates) == 2
    assert found.notices[0].startswith("Taken from promptsource:local_news: 2 templates")


def test_what_a_worker_is_sent_needs_no_library(shelf: Path) -> None:
    found = read_config(config(shelf, {"libraries": ["prompts.txt"]}), shelf)
    sent = found.model_dump(mode="json", exclude_unset=True)
    (shelf / "prompts.txt").unlink()
    assert read_config(sent, shelf).space == found.space


def test_libraries_that_are_not_there_are_told_with_all_other_problems(shelf: Path) -> None:
    values = config(shelf, {"libraries": ["promptsource:local_newt", "gone.txt"], "templates": ["{{ label }}"]})
    with pytest.raises(ConfigError, match=r"^the configuration has 3 problems") as error:
        read_config(values, shelf)
    assert "Did you mean 'local_news'?" in str(error.value)
    with pytest.raises(ConfigError, match=r"space\.libraries has 'gone\.txt'"):
        read_config({**values, "seed": "x"}, shelf)
    with pytest.raises(ConfigError, match=r"space\.libraries\.0 is 3"):
        read_config({**values, "space": {"libraries": [3]}}, shelf)


def test_check_tells_what_was_taken(shelf: Path) -> None:
    config(shelf, {})
    (shelf / "space.toml").write_text(
        'name = "x"\n[data]\nfile = "rows.jsonl"\nlabel = "topic"\n[prompt]\ntemplate = "{{ text }} {{ label }}"\n'
        '[prompt.label_words]\nsports = "sports"\nmoney = "money"\n[space]\nlibraries = ["promptsource:local_news"]\n',
        encoding="utf-8",
    )
    first, *others = check(shelf / "space.toml").splitlines()
    assert "3 templates, 1 instructions, 2x2 label words" in first
    assert others == [
        "Taken from promptsource:local_news: 2 templates, 1 choice of label words; 1 refused: headline: It wants the "
        "columns headline; the data's fields are text."
    ]


@pytest.mark.model
def test_a_run_says_at_its_start_what_was_taken(
    shelf: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoprompt.run import run

    heard: list[events.Event] = []
    values = config(shelf, {"instructions": "promptsource:local_news"})
    values["data"]["file"] = str(shelf / "rows.jsonl")
    values["prompt"]["label_words"]["money"] = "money"
    values |= {"model": str(llama_folder), "results": str(shelf / "results"), "study": {"trials": 4}, "doctor": False}
    values |= {"explain": False, "finetune": {"method": "none"}}
    monkeypatch.setenv(FOLDER, str(shelf))
    run(values, listener=heard.append)
    notices = [event.message for event in heard if isinstance(event, events.Notice)]
    assert notices[0].startswith("Taken from promptsource:local_news: 2 templates, 1 choice of label words")


def test_what_is_not_in_the_sandbox_stays_out_of_it() -> None:
    with pytest.raises(PromptError, match="cannot be rendered"):
        compiled("{{ names.clear() }}").render({"names": ["a"]})
