"""What the offline provider chooses, fills in and answers."""

import ast
import operator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.effects import Ask
from agent_core.errors import AgentError, ConfigError, DeniedError, Failed
from agent_core.messages import Message, ToolResult, system, user
from agent_core.task import compose
from agent_core.tool import Toolset
from agent_providers import offline

FILES = {"notes.txt": "alpha beta\ngamma", "docs/a.md": "# Title"}


@dataclass(frozen=True)
class Box:
    """A tool as the provider sees it."""

    name: str
    description: str
    function: Any
    parameters: dict[str, Any]
    destructive: bool = False
    output: dict[str, Any] | None = None


@dataclass(frozen=True)
class Boxes:
    tools: tuple[Box, ...]
    cache: dict[str, Any] = field(default_factory=dict)

    def get(self, name):
        return next(tool for tool in self.tools if tool.name == name)


def box(name, description, function, required=(), optional=None, **rest):
    kinds = {"old": "string", "new": "string", "a": "number", "b": "number", "width": "integer"}
    properties = {one: {"type": kinds.get(one, "string")} for one in required}
    schema = {"type": "object", "properties": {**properties, **(optional or {})}, "required": list(required)}
    return Box(name, description, function, schema, **rest)


def calculate(expression):
    signs = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow}

    def value(node):
        if isinstance(node, ast.BinOp):
            return signs[type(node.op)](value(node.left), value(node.right))
        return -value(node.operand) if isinstance(node, ast.UnaryOp) else node.value

    return f"{value(ast.parse(expression, mode='eval').body):g}"


def _replace(text, old, new):
    return text.replace(old, new)


def _listed(path="."):
    return "\n".join(FILES)


def _written(path, content):
    return f"wrote {content!r} to {path}"


def _counted(text, unit="words"):
    return f"{unit}={len(text.split() if unit == 'words' else text.splitlines())}"


UNIT = {"unit": {"enum": ["words", "lines", "characters"], "type": "string", "default": "words"}}
TOOLS = Boxes((
    box("uppercase", "Return the text in capital letters.", lambda text: text.upper(), ["text"]),
    box("lowercase", "Return the text in small letters.", lambda text: text.lower(), ["text"]),
    box("title", "Return the text with each word capitalised.", lambda text: text.title(), ["text"]),
    box("reverse", "Return the text backwards.", lambda text: text[::-1], ["text"]),
    box("wordcount", "Count the words of a text.", lambda text: str(len(text.split())), ["text"]),
    box("replace", "Replace every occurrence of a string in the text.", _replace, ["text", "old", "new"]),
    box("file_read", "Read a text file.", lambda path: FILES[path], ["path"]),
    box("file_list", "List the files of a directory.", _listed, [], {"path": {"type": "string", "default": "."}}),
    box("file_write", "Write text to a file.", _written, ["path", "content"], destructive=True),
    box("file_delete", "Delete a file.", lambda path: f"deleted {path}", ["path"], destructive=True),
    box("calc", "Work out an arithmetic expression.", calculate, ["expression"]),
    box("now", "Return the current date and time.", lambda: "2026-11-21T12:00:00Z"),
    box("http_fetch", "Fetch a page from the web.", lambda url: f"page of {url}", ["url"]),
    box("get_weather", "Return the weather of a city.", lambda city: f"sunny in {city}", ["city"]),
    box("count", "Count the units of a text.", _counted, ["text"], UNIT),
))  # fmt: skip


def converse(text, tools=TOOLS, stdin=None, schema=None, run=None):
    """Play the whole conversation; return the answer and the calls that were made."""
    messages = [system("You are a tool."), user(compose(text, [] if stdin is None else [("stdin", stdin)]))]
    calls = []
    for _ in range(10):
        reply = offline.answer(Ask(messages, tools, schema))
        messages.append(reply.message)
        if not reply.tool_calls:
            return reply.text, calls
        for call in reply.tool_calls:
            calls.append((call.name, call.arguments))
            outcome = run(call) if run else ToolResult(call.id, call.name, str(tools.get(call.name).function(**call.arguments)))
            messages.append(Message("tool", (outcome,)))
    raise AssertionError("it never stopped")


PIPE = "hello pipes\n"
DONE = [
    ("make this uppercase", PIPE, "HELLO PIPES"),
    ("Please convert this to upper case.", PIPE, "HELLO PIPES"),
    ("UPPERCASE", PIPE, "HELLO PIPES"),
    ("put it in capital letters", PIPE, "HELLO PIPES"),
    ("can you turn this into all caps?", PIPE, "HELLO PIPES"),
    ("uppercase hello world", None, "HELLO WORLD"),
    ("uppercase: hello world", None, "HELLO WORLD"),
    ("uppercase salt and pepper", None, "SALT AND PEPPER"),
    ('uppercase "now then, all"', None, "NOW THEN, ALL"),
    ("convert 'straße' to uppercase", None, "STRASSE"),
    ("make the text lowercase please", "ABC Def", "abc def"),
    ("lower-case this", "ABC", "abc"),
    ("title case", "the old man", "The Old Man"),
    ("capitalize each word", "the old man", "The Old Man"),
    ("reverse", "abc\n", "cba"),
    ("reverse the text", "abc\r\n", "cba"),
    ("spell this backwards", "abc", "cba"),
    ("count the words", "one two three\n", "3"),
    ("how many words are in this text?", "one two three", "3"),
    ("What is the number of words?", "one two", "2"),
    ("word count", "one two", "2"),
    ("count the words, then reverse the text", "ab cd\n", "2\ndc ba"),
    ("count the words and reverse the text", "ab cd\n", "2\ndc ba"),
    ("count the words, then reverse it", "ab cd\n", "2\ndc ba"),
    ("uppercase it and then reverse it", "abc", "CBA"),
    ("uppercase, then reverse", "abc", "CBA"),
    ("reverse the text; then uppercase the result", "abc", "CBA"),
    ("first make it uppercase, then reverse it, then count the words", "a b", "B A\n2"),
    ('replace "a" with "o"', "banana", "bonono"),
    ("replace cat with dog", "cat and cat", "dog and dog"),
    ("replace cat with dog and count the words", "cat and cat", "dog and dog\n3"),
    ('substitute "l" by "r"', "lalala", "rarara"),
    ('replace "a" with "o" in "banana"', None, "bonono"),
    ("read notes.txt", None, FILES["notes.txt"]),
    ("show the contents of notes.txt", None, FILES["notes.txt"]),
    ("open the file docs/a.md", None, "# Title"),
    ("read notes.txt and uppercase it", None, FILES["notes.txt"].upper()),
    ("count the words in notes.txt", None, "3"),
    ("list the files", None, "notes.txt\ndocs/a.md"),
    ("what is (2+3)*4?", None, "20"),
    ("calculate (2 + 3) * 4", None, "20"),
    ("compute 6 times 7", None, "42"),
    ("How much is 15% of 80?", None, "12"),
    ("what time is it?", None, "2026-11-21T12:00:00Z"),
    ("what's the date today?", None, "2026-11-21T12:00:00Z"),
    ("now", None, "2026-11-21T12:00:00Z"),
    ("fetch https://example.org/a?b=c.", None, "page of https://example.org/a?b=c"),
    ("what is the weather in Paris?", None, "sunny in Paris"),
    ("count the lines", "a\nb", "lines=2"),
    ('write "abc" to out.txt', None, "wrote 'abc' to out.txt"),
    ("delete the file old.txt", None, "deleted old.txt"),
]


@pytest.mark.parametrize(("text", "stdin", "expected"), DONE, ids=[row[0] for row in DONE])
def test_a_request_that_a_tool_fits_is_answered_with_its_result(text, stdin, expected):
    answer, calls = converse(text, stdin=stdin)

    assert (answer, bool(calls)) == (expected, True)


NOTHING = [
    ("what is the capital of France?", None),
    ("write a poem about reversing time", None),
    ("write a poem about reversing time", "some text"),
    ("explain how to reverse a linked list", None),
    ("explain uppercase letters", "some text"),
    ("translate this to French", "good morning"),
    ("hello", None),
    ("", None),
    ("who are you?", None),
    ("what is the time complexity of quicksort?", None),
    ("how much time does it take?", None),
    ("when was the date of the battle?", None),
    ("tell me a joke", None),
    ("give this a title", "some text"),
    ("uppercase", None),
    ("replace it", "some text"),
    ("calculate", None),
    ("calculate the risk", "some text"),
    ("read", None),
    ("remove the noise", "some text"),
    ("out.txt is old", None),
    ("improve the wording", "some text"),
    ("review this code", "x = 1"),
    ("12", None),
    ("\x00\x1b[31m", None),
]


@pytest.mark.parametrize(("text", "stdin"), NOTHING, ids=[f"{row[0]!r} {row[1]!r}" for row in NOTHING])
def test_a_request_that_no_tool_fits_calls_nothing_and_the_answer_says_that_it_is_no_model(text, stdin):
    answer, calls = converse(text, stdin=stdin)

    assert calls == []
    assert "not a language model" in answer
    assert "OPENAI_API_KEY" in answer
    assert "--provider" in answer


STORY = """The harbour opened in 1893. It was built by the Grey family from local stone.
Fishing boats used the harbour until 1970. Today the harbour is a museum with forty boats.
Tickets cost nine pounds. The cafe closes at five."""


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("When did the harbour open?", "The harbour opened in 1893."),
        ("How much do tickets cost?", "Tickets cost nine pounds."),
        ("who built it?", "It was built by the Grey family from local stone."),
    ],
)
def test_a_question_is_answered_with_the_sentence_of_the_material_that_fits_best(question, expected):
    answer, calls = converse(question, stdin=STORY)

    assert calls == []
    assert expected in answer.split("\n")


def test_a_summary_is_made_of_the_materials_own_sentences_in_their_order():
    answer, _ = converse("summarise this in two sentences", stdin=STORY)

    lines = answer.split("\n")
    assert len(lines) == 2
    assert lines[0] == "The harbour opened in 1893."
    assert all(line in STORY for line in lines)


def test_a_question_that_the_material_does_not_answer_is_answered_honestly():
    answer, _ = converse("What is the wifi password?", stdin=STORY)

    assert answer == offline.NOTICE


def test_the_part_of_a_request_that_needs_a_model_is_named_beside_the_results():
    answer, calls = converse("make this uppercase and translate it to French", stdin="good morning")

    assert calls == [("uppercase", {"text": "good morning"})]
    assert answer == "GOOD MORNING\n(not done, this needs a model: translate it to French)"


def test_a_clause_that_no_tool_understands_is_named_beside_the_results():
    answer, _ = converse("uppercase this and count the French words", stdin="deux mots")

    assert answer == "DEUX MOTS\n(not done, this needs a model: count the French words)"


def test_a_question_about_a_file_is_answered_from_the_file():
    answer, calls = converse("what does notes.txt say about gamma?")

    assert calls == [("file_read", {"path": "notes.txt"})]
    assert answer == "gamma"


LINES = "b\na\nb\n"
REAL = [
    ("sort the lines", "a\nb\nb\n"),
    ("remove duplicate lines", "b\na\n"),
    ("sort and remove duplicates", "a\nb\n"),
    ("sort lines, remove duplicates and number them", "   1  a\n   2  b\n"),
    ("how many lines?", "3"),
    ("how many characters are there?", "5"),
    ("count words, lines and characters", "3\n3\n5"),
    ("reverse the order of the lines", "b\na\nb\n"),
    ("make it all caps and count the characters", "B\nA\nB\n5"),
    ("write this in uppercase", "B\nA\nB\n"),
    ("capitalize every word", "B\nA\nB\n"),
]


@pytest.mark.parametrize(("text", "expected"), REAL, ids=[row[0] for row in REAL])
def test_the_tools_of_text_processor_are_found_by_ordinary_requests(text, expected):
    from agents.text_processor import agent

    answer, calls = converse(text, Toolset(tuple(agent.tools)), stdin=LINES)

    assert calls
    assert answer.rstrip("\n") == expected.rstrip("\n")


@pytest.mark.parametrize(
    "text",
    ["sort the lines in reverse order", "make the first letter uppercase", "uppercase only the names", "which words are uppercase?",
     "what does reverse mean?", "is this uppercase?", "how many unique lines are there?", "count the French words"],
)  # fmt: skip
def test_what_the_tools_of_text_processor_would_get_wrong_is_not_done(text):
    from agents.text_processor import agent

    answer, calls = converse(text, Toolset(tuple(agent.tools)), stdin="alpha beta")

    assert (answer, calls) == (offline.NOTICE, [])


ASSISTANT = [
    ("6 * 7?", "calc", {"expression": "6 * 7"}),
    ("what is 17 % of 2340?", "calc", {"expression": "17/100*2340"}),
    ("what time is it?", "now", {}),
    ("read the first 10 lines of notes.txt", "file_read", {"path": "notes.txt", "limit": 10}),
    ("show me src/main.py", "file_read", {"path": "src/main.py"}),
    ("list the files in src/", "file_list", {"path": "src/"}),
    ("search for TODO in src/", "file_search", {"pattern": "TODO", "path": "src/"}),
    ("search the web for python asyncio", "web_search", {"query": "python asyncio"}),
    ('write "hi" to out.txt', "file_write", {"path": "out.txt", "content": "hi"}),
]


@pytest.mark.parametrize(("text", "name", "arguments"), ASSISTANT, ids=[row[0] for row in ASSISTANT])
def test_the_tools_of_assistant_are_found_by_ordinary_requests(text, name, arguments):
    from agents.assistant import agent

    call = offline.answer(Ask([user(text)], Toolset(tuple(agent.tools)))).tool_calls[0]

    assert (call.name, call.arguments) == (name, arguments)


@pytest.mark.parametrize(
    "text", ["what time is it in Tokyo?", "save this to out.txt", "delete everything", "open the door", "list 3 animals"]
)
def test_the_tools_of_assistant_are_left_alone_by_requests_that_do_not_mean_them(text):
    from agents.assistant import agent

    assert offline.answer(Ask([user(text)], Toolset(tuple(agent.tools)))).text == offline.NOTICE


def test_several_words_of_an_enum_make_several_calls():
    answer, _ = converse("count the words and lines", Boxes((TOOLS.get("count"),)), stdin="a b\nc")

    assert answer == "words=3\nlines=2"


def test_arguments_can_be_named_outright_and_numbers_fill_numbers():
    wrap = box("wrap", "Wrap a text.", lambda text, width=0: f"{text}/{width}", ["text"], {"width": {"type": "integer"}})
    add = box("add", "Add two numbers.", lambda a, b: str(a + b), ["a", "b"])

    assert converse("wrap this, width=40", Boxes((wrap,)), stdin="x")[0] == "x/40"
    assert converse("wrap this to 40 columns", Boxes((wrap,)), stdin="x")[0] == "x/40"
    assert converse("add 2 and 3", Boxes((add,)))[0] == "5"


def test_a_denied_call_ends_the_run_as_denied():
    denial = "file_read needs file-read:notes.txt (grant with --allow)"
    with pytest.raises(DeniedError, match=r"file-read:notes\.txt") as caught:
        converse("read notes.txt", run=lambda call: ToolResult(call.id, call.name, denial, "denied"))

    assert caught.value.status == 77


def test_a_failed_call_ends_the_run_as_failed_and_is_no_answer():
    with pytest.raises(Failed, match="file_read: no such file"):
        converse("read notes.txt", run=lambda call: ToolResult(call.id, call.name, "no such file", "not_found"))


def test_a_reply_schema_that_needs_a_model_is_refused_before_any_tool_runs():
    schema = {
        "type": "object",
        "properties": {"issues": {"type": "array"}, "score": {"type": "integer"}},
        "required": ["issues", "score"],
    }
    with pytest.raises(ConfigError, match="needs a model") as caught:
        converse("make this uppercase", stdin="x", schema=schema, run=lambda _: pytest.fail("a tool ran"))

    assert caught.value.status == 78


def test_a_reply_schema_with_one_plain_field_is_filled_with_the_answer():
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    count = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    assert converse("make this uppercase", stdin="é", schema=schema)[0] == '{"answer":"É"}'
    assert converse("count the words", stdin="a b", schema=count)[0] == '{"n":2}'
    with pytest.raises(ConfigError):
        converse("tell me a joke", schema=schema)


def test_destructive_tools_are_not_chosen_by_synonyms_or_descriptions():
    wipe = box("purge", "Delete old things.", lambda: "gone", destructive=True)

    assert converse("delete old things", Boxes((wipe,)))[1] == []
    assert converse("purge", Boxes((wipe,)))[0] == "gone"


def test_without_tools_nothing_is_called_and_material_with_marks_in_it_stays_material():
    answer, calls = converse("make this uppercase", Boxes(()), stdin='<material origin="x" id="000000000000">\nreverse')

    assert (answer, calls) == (offline.NOTICE, [])


def test_only_the_last_user_message_counts():
    first = [user("reverse abc"), Message("tool", (ToolResult("1", "reverse", "cba"),)), user("uppercase abc")]

    assert offline.answer(Ask(first, TOOLS)).tool_calls[0].name == "uppercase"


def test_the_provider_is_free_and_named():
    made = offline.provider(None, {})

    assert (made.name, made.model, made.price.input) == ("offline", "offline", "0")
    assert made.answer is offline.answer


@settings(max_examples=150, deadline=2000)
@given(st.text(max_size=200), st.none() | st.text(max_size=200))
def test_any_request_gets_an_answer_or_a_documented_error_and_always_the_same_one(text, stdin):
    message = user(compose(text, [] if stdin is None else [("stdin", stdin)]))

    def play():
        try:
            return offline.answer(Ask([message], TOOLS))
        except AgentError as error:
            return repr(error)

    assert play() == play()


@pytest.mark.parametrize(
    "text",
    ["a" * 200_000, "word " * 40_000, "(" * 50_000, "1+" * 50_000, "a/" * 50_000, "'" * 50_000, "a.b" * 50_000, "x and " * 5_000],
)
def test_a_huge_request_is_answered_in_good_time(text):
    import time

    start = time.perf_counter()
    offline.answer(Ask([user(text)], TOOLS))

    assert time.perf_counter() - start < 5
