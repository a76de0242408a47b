"""checked - a pattern whose answer must satisfy a schema: what does not is shown to the model, twice at most.

The check is a pydantic model (a class, or "module:Class" so that pydantic is imported only once an answer is there) or a
JSON Schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, ContractError
from agent_core.messages import assistant, user
from agent_core.task import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_core.effects import Pattern
    from agent_core.task import Task

REPAIRS = 2
_LOOKED_AT, _TRIED = 100_000, 64


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer that satisfied its schema: the text as the model wrote it and the value it stands for."""

    text: str
    value: Any


def checked(pattern: Pattern, task: Task, reply: Any) -> Pattern:
    """Return `Checked` for the pattern's answer; ContractError when the model cannot produce one after REPAIRS corrections.

    An answer that says no, or that not all was done, is nothing to check.
    """
    answered = yield from pattern
    if isinstance(answered, Answer) and answered.status:
        return answered
    text = str(getattr(answered, "text", answered))
    conversation = task.messages()
    for attempt in range(REPAIRS + 1):
        value, problem = read(text, reply)
        if not problem:
            return Checked(text, value)
        if attempt == REPAIRS:
            break
        ask = (
            f"Your answer does not fit the required form: {problem}\nAnswer again with the corrected JSON object and nothing else."
        )
        conversation = [*conversation, assistant(text), user(ask)]
        answer = yield task.ask(conversation)
        text = answer.text
    raise ContractError(f"the answer still does not fit the required form: {problem}", hint="try another model")


def schema_of(reply: Any) -> dict[str, Any]:
    """Return the JSON Schema of a reply declaration."""
    if isinstance(reply, dict):
        return reply
    schema: dict[str, Any] = _model(reply).model_json_schema()
    return schema


def read(text: str, reply: Any) -> tuple[Any, str]:
    """Return (value, "") for a text that fits, else (None, every problem in one line each)."""
    found = first_object(text)
    if found is None:
        return None, "there is no JSON object in it."
    return (found, _schema_problems(found, reply)) if isinstance(reply, dict) else _validated(found, _model(reply))


def first_object(text: str) -> Any:
    """Return the first JSON object or array in a text (models like to put one between words or fences), or None."""
    decoder = json.JSONDecoder()
    starts = (place for place, letter in enumerate(text[:_LOOKED_AT]) if letter in "{[")
    for place in islice(starts, _TRIED):
        try:
            return decoder.raw_decode(text, place)[0]
        except (ValueError, RecursionError):
            continue
    return None


def _model(reply: Any) -> Any:
    if not isinstance(reply, str):
        return reply
    from importlib import import_module

    module, _, name = reply.partition(":")
    return getattr(import_module(module), name)


def _validated(found: Any, model: Any) -> tuple[Any, str]:
    from pydantic import ValidationError

    try:
        return model.model_validate(found).model_dump(mode="json"), ""
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in error.errors()[:20]]
        return None, "; ".join(lines)


def _schema_problems(found: Any, schema: Mapping[str, Any]) -> str:
    import jsonschema

    try:
        checker = jsonschema.validators.validator_for(schema)
        checker.check_schema(schema)
        problems = list(checker(schema).iter_errors(found))[:20]
    except jsonschema.exceptions.SchemaError as error:
        raise ConfigError(
            f"the output schema is not valid: {error.message}", hint="check the file given to --output-schema"
        ) from None
    return "; ".join(f"{'.'.join(map(str, each.absolute_path)) or 'the whole'}: {each.message[:200]}" for each in problems)
