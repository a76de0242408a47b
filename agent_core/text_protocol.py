"""text_protocol - the same conversation for models without native tool calls.

The model writes one thought and one action; the agent answers with an observation. Two grammars are understood, whichever was
asked for, because models mix them up:

    Thought: I need the size.                     Thought: I need the size.
    Action: wordcount {"text": "one two"}         Action: wordcount[one two]
    Observation: 2                                Observation: 2
    Thought: I know.                              Thought: I know.
    Action: FINAL_ANSWER Two.                     Action: Finish[Two.]

Only the first action of a reply counts. Whatever follows it, an invented observation above all, is cut off. An action is a line
that starts with `Action:`, so one that is quoted inside a sentence, or in a code fence while another stands outside, is no action.
Every function here is pure and takes time linear in the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.messages import Message, Text, ToolCall, ToolResult, assistant, system, user
from agent_core.prompt import master

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.tool import Tool, Toolset

STOP = ("\nObservation:",)
FINALS = {"final_answer": "FINAL_ANSWER", "finish": "Finish"}

_RULES = (
    "You are then given its result on a line that starts with `Observation:`. Never write that line yourself. One action a reply."
)
_THOUGHT = "Thought: what you know and what to do next"
_REASON = "Thought: why this is the answer"
FORMATS = {
    "json": f'Reply in exactly this form, then stop:\n\n{_THOUGHT}\nAction: tool_name {{"parameter": "value"}}\n\n{_RULES}',
    "bracket": f"Reply in exactly this form, then stop:\n\n{_THOUGHT}\nAction: tool_name[input]\n\n"
    f"The input is a JSON object, or plain text where the tool has one parameter. {_RULES}",
}
EXITS = {
    "json": f"When you know the answer, reply:\n\n{_REASON}\nAction: FINAL_ANSWER the whole answer, on as many lines as it needs",
    "bracket": f"When you know the answer, reply:\n\n{_REASON}\nAction: Finish[the whole answer]",
}

_MARK = re.compile(
    r"^[ \t]*(?:(?P<fence>```|~~~)|[*_]{0,2}(?P<word>thought|action|observation)[*_]{0,2}:[*_]{0,2})", re.IGNORECASE | re.MULTILINE
)
_NAME = re.compile(r"[ \t]*[`*]{0,3}([^\s\[\](){}\"'`*,;]{1,128})[`*]{0,3}")
_BRACKETS = re.compile(r'\\?[\[\]"]|\\\\')


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """The model wants a tool. `calls` has one call: later ones of the same reply were cut off."""

    thought: str
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Final:
    """The model is done."""

    thought: str
    text: str


@dataclass(frozen=True, slots=True)
class Problem:
    """The reply is in neither grammar. `text` tells the model how to do better."""

    text: str


Decision = ToolCalls | Final | Problem


@dataclass(frozen=True, slots=True)
class _Mark:
    word: str
    start: int
    end: int
    fenced: bool


def parse(text: str, tools: Toolset | None = None, call_id: str = "call_1") -> Decision:
    """Return what the model decided.

    Args:
        text: the model's reply, as it came.
        tools: the tools it may use; known parameters let a bare text fill the sole parameter.
        call_id: the id of the call, should there be one.
    """
    text = text.replace("\r\n", "\n")
    begin = _after_reasoning(text)
    if begin < 0:
        return Problem("The reply ended inside <think>. Think less and end with one `Action:` line.")
    marks = list(_marks(text, begin))
    cut = next((mark.start for mark in marks if mark.word == "observation"), len(text))
    actions = [mark for mark in marks if mark.word == "action" and mark.start < cut]
    action = next((mark for mark in actions if not mark.fenced), actions[0] if actions else None)
    if action is None:
        return Problem(_no_action(text[begin:cut]))
    ends = next((m.start for m in marks if m.start > action.start and m.word and not (m.fenced and not action.fenced)), len(text))
    return _action(_Reply(text, _thought(text[begin : action.start]), action, min(cut, ends), cut), tools, call_id)


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply whose action line was found. `end`: the next marker; `cut`: the first invented observation, or the end."""

    text: str
    thought: str
    mark: _Mark
    end: int
    cut: int


def _action(reply: _Reply, tools: Toolset | None, call_id: str) -> Decision:
    found = _NAME.match(reply.text, reply.mark.end, reply.cut)
    if found is None:
        return Problem(_bad_action("nothing that looks like a tool's name follows `Action:`"))
    name = found[1].rstrip(":")
    tool = tools.get(name) if tools is not None else None
    if tool is None and name.lower() in FINALS:
        return _final(reply, FINALS[name.lower()], found.end())
    return _tool_call(reply, ToolCall(call_id, name, {}), found.end(), tools)


def _final(reply: _Reply, name: str, at: int) -> Decision:
    """`Finish[answer]`, or `FINAL_ANSWER` with the rest of the reply up to the next marker."""
    opening = at if name == "FINAL_ANSWER" else _skip_blanks(reply.text, at, reply.cut)
    if opening < reply.cut and reply.text[opening] == "[":
        close = _closing(reply.text, opening, reply.cut)
        if close < 0:
            close = reply.text.rfind("]", opening, reply.end)
        if close < 0:
            return Problem(
                _bad_action(
                    f"the bracket after {name} is never closed (and a line of the answer must not start with `Observation:`)"
                )
            )
        return Final(reply.thought, reply.text[opening + 1 : close].strip())
    answer = reply.text[at : reply.end].strip().removeprefix(":").strip()
    if reply.mark.fenced:
        answer = answer.removesuffix("```").removesuffix("~~~").rstrip()
    return Final(reply.thought, answer) if answer else Problem(_bad_action(f"{name} is not followed by an answer"))


def _tool_call(reply: _Reply, call: ToolCall, at: int, tools: Toolset | None) -> Decision:
    text = reply.text
    tool = tools.get(call.name) if tools is not None else None
    start = _skip_blanks(text, at, reply.cut, newlines=True)
    opener = text[start : start + 1] if start < reply.cut else ""
    if opener == "{":
        value, _ = _json_at(text, start, reply.cut)
        arguments, problem = (value, "") if isinstance(value, dict) else ({}, "the arguments are not a JSON object")
        return ToolCalls(
            reply.thought, (ToolCall(call.id, call.name, arguments, problem, text[start : reply.end].strip() if problem else ""),)
        )
    if opener == "[" and "\n" not in text[at:start]:
        return _bracketed(reply, call, start, tool)
    line = text[at : _line_end(text, at, reply.end)].strip()
    if line and tool is None:
        return Problem(_bad_action(f'"{_short(call.name)}" is no tool, and what follows it is neither {{JSON}} nor [input]'))
    return ToolCalls(reply.thought, (_filled(call, line, tool) if line else call,))


def _bracketed(reply: _Reply, call: ToolCall, opening: int, tool: Tool | None) -> Decision:
    value, end = _json_at(reply.text, opening + 1, reply.cut)
    end = _skip_blanks(reply.text, end, reply.cut, newlines=True)
    if isinstance(value, dict | str) and reply.text[end : end + 1] == "]" and end < reply.cut:
        return ToolCalls(reply.thought, (_filled(call, reply.text[opening + 1 : end].strip(), tool),))
    close = _closing(reply.text, opening, reply.cut)
    if close < 0:
        return Problem(_bad_action(f"the bracket after {_short(call.name)} is never closed"))
    return ToolCalls(reply.thought, (_filled(call, reply.text[opening + 1 : close].strip(), tool),))


def _filled(call: ToolCall, raw: str, tool: Tool | None) -> ToolCall:
    """Turn the input of a bracket into arguments: a JSON object, or a bare value for the parameter it can only mean."""
    from agent_core.tool import ArgumentProblem

    value, end = _json_at(raw, 0, len(raw))
    whole = end == len(raw) and bool(raw)
    if whole and isinstance(value, dict) and tool is None:
        return ToolCall(call.id, call.name, value)
    if not raw:
        return call
    try:
        arguments = tool.from_text(_text(raw, value if whole else None)) if tool is not None else None
    except ArgumentProblem as problem:
        return ToolCall(call.id, call.name, {}, problem.line(), raw)
    if arguments is None:
        return ToolCall(call.id, call.name, {}, "the input is not a JSON object", raw)
    return ToolCall(call.id, call.name, arguments)


def _text(raw: str, value: Any) -> str:
    """A JSON string means its content; an object is written strictly (models put real line breaks into strings)."""
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict) else raw


def _marks(text: str, begin: int) -> Iterator[_Mark]:
    fence = ""
    for found in _MARK.finditer(text, begin):
        if found["fence"]:
            # a fence closes only with its own kind; an opening one may carry a language
            fence = "" if found["fence"] == fence else fence or found["fence"]
        else:
            yield _Mark(found["word"].lower(), found.start(), found.end(), bool(fence))


def _after_reasoning(text: str) -> int:
    """Return where the reply starts after a leading <think> block; -1 when it never ends."""
    start = len(text) - len(text.lstrip())
    if not text.startswith("<think>", start):
        return start
    end = text.find("</think>", start)
    return end + len("</think>") if end >= 0 else -1


def _thought(text: str) -> str:
    """Everything before the action, without the labels and the fence that opens around the action."""
    text = text.strip().removesuffix("```").removesuffix("~~~")
    return re.sub(r"(?im)^[ \t]*[*_]{0,2}thought[*_]{0,2}:[*_]{0,2}[ \t]*", "", text).strip()


def _skip_blanks(text: str, at: int, end: int, *, newlines: bool = False) -> int:
    blanks = " \t\n" if newlines else " \t"
    while at < end and text[at] in blanks:
        at += 1
    return at


def _line_end(text: str, at: int, end: int) -> int:
    newline = text.find("\n", at, end)
    return end if newline < 0 else newline


def _closing(text: str, opening: int, end: int) -> int:
    """Return where the bracket at `opening` closes: double-quoted strings count as units, unless a lone quote spoils that."""
    quoted = _balanced(text, opening, end, strings=True)
    return quoted if quoted >= 0 else _balanced(text, opening, end, strings=False)


def _balanced(text: str, opening: int, end: int, *, strings: bool) -> int:
    depth, inside = 0, False
    for found in _BRACKETS.finditer(text, opening, end):
        sign = found[0]
        if inside or sign[-1] == '"':
            # a backslash escapes only inside a string
            inside = strings and (inside != (sign[-1] == '"' and not (inside and len(sign) > 1)))
        elif sign[-1] != "\\":
            depth += 1 if sign[-1] == "[" else -1
            if depth == 0:
                return found.end() - 1
    return -1


def _refuse(name: str) -> Any:
    message = f"{name} is not JSON"
    raise ValueError(message)


_decoder = json.JSONDecoder(strict=False, parse_constant=_refuse)  # not strict: models put real line breaks into strings


def _json_at(text: str, start: int, end: int) -> tuple[Any, int]:
    """Return the JSON value at `start` and where it ends; (None, start) when there is none before `end`."""
    try:
        value, stop = _decoder.raw_decode(text, start)
    except (ValueError, RecursionError, StopIteration):
        return None, start
    return (value, stop) if stop <= end else (None, start)


def _short(name: str) -> str:
    return name if len(name) <= 60 else name[:59] + "…"


def _no_action(text: str) -> str:
    what = "Your reply is empty." if not text.strip() else "Your reply has no line that starts with `Action:`."
    return (
        f'{what} Write `Action: tool_name {{"parameter": "value"}}` to use a tool, or `Action: FINAL_ANSWER` and the answer to end.'
    )


def _bad_action(why: str) -> str:
    forms = 'Write `Action: tool_name {"parameter": "value"}`, or `Action: FINAL_ANSWER` and the answer.'
    return f"Your action could not be read: {why}. {forms}"


# -- writing ---------------------------------------------------------------------------------------------------------------------


def manifest(tools: Toolset | None) -> str:
    """Return one entry for each tool, in order: name, parameters with their types, description."""
    if tools is None:
        return ""
    text: str | None = tools.cache.get("text_protocol")
    if text is None:
        text = tools.cache["text_protocol"] = "\n".join(_entry(tool) for tool in tools.tools)
    return text


def _entry(tool: Tool) -> str:
    properties: dict[str, Any] = tool.parameters.get("properties", {})
    required = tool.parameters.get("required", ())
    shown = ", ".join(f"{name}{'' if name in required else '?'}: {_type(schema)}" for name, schema in properties.items())
    notes = [
        f"    {name}: {' '.join(schema['description'].split())}" for name, schema in properties.items() if schema.get("description")
    ]
    return "\n".join([f"- {tool.name}({shown}): {' '.join(tool.description.split())}", *notes])


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    if schema.get("type") == "array":
        return f"{_type(schema.get('items', {}))}[]"
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " | ".join(_type(option) for option in options)
    kind = schema.get("type", "any")
    return kind if isinstance(kind, str) else " | ".join(kind)


def render(
    messages: Sequence[Message], tools: Toolset | None, grammar: str = "json", overrides: Mapping[str, str] | None = None
) -> list[Message]:
    """Return the conversation for a model without native tools.

    The first system message gets the manifest, the reply format and the exit condition; calls become actions and results become
    observations. Each message is rendered once and kept beside the original, so codecs can keep its wire form too.

    Args:
        messages: the conversation as the pattern holds it.
        tools: the tools to offer.
        grammar: "json" (`Action: tool {…}`) or "bracket" (`Action: tool[…]`): what the model is asked to write.
        overrides: templates for sections of the master prompt (see `prompt.SECTIONS`).
    """
    rest = list(messages)
    head = rest.pop(0) if rest and rest[0].role == "system" else system("")
    return [_system(head, tools, grammar, overrides or {}), *_conversation(rest, grammar)]


def _system(head: Message, tools: Toolset | None, grammar: str, overrides: Mapping[str, str]) -> Message:
    listed = manifest(tools)
    key = (grammar, listed, tuple(sorted(overrides.items())))
    kept = head.cache.get("text_protocol")
    if kept is None or kept[0] != key:
        values = {"goal": head.text, "tools": listed, "format": FORMATS[grammar], "exit": EXITS[grammar]}
        kept = head.cache["text_protocol"] = (key, system(master(values, overrides)))
    made: Message = kept[1]
    return made


def _conversation(messages: Sequence[Message], grammar: str) -> Iterator[Message]:
    before: Message | None = None
    for message in messages:
        if message.role == "user":
            yield message
        elif message.role != "assistant" or not message.tool_calls:
            yield from _kept(message, before, grammar)
        before = message
    if before is not None and before.role == "assistant" and before.tool_calls:
        yield assistant(_call_text(before.text, before.tool_calls[0], grammar))


def _kept(message: Message, before: Message | None, grammar: str) -> list[Message]:
    """Return the rendered form of a final answer, or of a tool message together with the calls it answers."""
    key = f"text_protocol.{grammar}"
    made: list[Message] | None = message.cache.get(key)
    if made is None:
        made = [_answer(message, grammar)] if message.role == "assistant" else list(_exchange(message, before, grammar))
        message.cache[key] = made
    return made


def _answer(message: Message, grammar: str) -> Message:
    return assistant(f"Action: Finish[{message.text}]" if grammar == "bracket" else f"Action: FINAL_ANSWER {message.text}")


def _exchange(message: Message, before: Message | None, grammar: str) -> Iterator[Message]:
    """Yield action and observation in turn: several calls of one reply read as if they had been made one after the other."""
    calls = {call.id: call for call in before.tool_calls} if before is not None else {}
    thought = before.text if before is not None else ""
    for part in message.parts:
        if isinstance(part, ToolResult):
            call = calls.get(part.call_id)
            if call is not None:
                yield assistant(_call_text(thought, call, grammar))
                thought = ""
            yield user(observation(part))
        elif isinstance(part, Text):
            yield user(part.text)


def _call_text(thought: str, call: ToolCall, grammar: str) -> str:
    if not call.name:
        return call.raw  # a reply in neither grammar goes back as it was
    arguments = call.raw if call.problem else json.dumps(call.arguments, ensure_ascii=False)
    action = f"Action: {call.name}[{arguments}]" if grammar == "bracket" else f"Action: {call.name} {arguments}"
    return f"Thought: {thought}\n{action}" if thought else action


def observation(result: ToolResult) -> str:
    """Return what the model reads after an action; a failure names its kind."""
    return f"Observation: error ({result.error}): {result.text}" if result.error else f"Observation: {result.text}"
