"""a2a - the client's side of the Agent2Agent protocol (a2a-protocol.org) as a codec: 1.0, and 0.3 for older servers. No IO.

send("hello", "id-1", "a2a")        the JSON-RPC request
received("shop", response)          (data as of a result record, "") or ({}, id of a task that is not done)
poll(task, "a2a")                   the request that asks for it again
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent_core import errors, records
from agent_core.errors import BadReply, Failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_core.ops import Response


def send(message: str, name: str, style: str) -> dict[str, Any]:
    """Return the JSON-RPC request that sends a message by A2A (a2a-protocol.org): 1.0, or 0.3 for `a2a-0.3`. Pure."""
    if style == "a2a":
        said: dict[str, Any] = {"messageId": name, "role": "ROLE_USER", "parts": [{"text": message}]}
        return {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": said}}
    said = {"kind": "message", "messageId": name, "role": "user", "parts": [{"kind": "text", "text": message}]}
    return {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": said, "configuration": {"blocking": True}}}


def refused(answer: Response) -> bool:
    """Return whether a server does not speak this (nothing was done): an HTTP refusal, or JSON-RPC's "no such method"."""
    if answer.status in {400, 404, 405, 406, 415, 422, 501}:
        return True
    found = records.loads(answer.body) if answer.status == 200 else None
    problem = found.get("error") if isinstance(found, dict) and "agentpipe" not in found else None
    return isinstance(problem, dict) and problem.get("code") in {-32700, -32600, -32601, -32602, -32009}


def received(name: str, answer: Response) -> tuple[dict[str, Any], str]:
    """Return (data as of a result record, "") of an A2A answer, or ({}, task id) when the task is not done. Pure.

    Raises:
        ProviderError: the kind that the HTTP status stands for.
        BadReply: the answer is no JSON-RPC result.
    """
    check_http(name, answer)
    found = records.loads(answer.body)
    problem = found.get("error") if isinstance(found, dict) else None
    if isinstance(problem, dict):
        raise Failed(f"{name} says: {shown(str(problem.get('message') or problem.get('code')))}")
    result = found.get("result") if isinstance(found, dict) else None
    if not isinstance(result, dict):
        raise BadReply(f"{name} answered with something that is no A2A result", hint="does an agent live at this address?")
    task = _inside(result, "task")
    if isinstance(task.get("status"), dict):
        return _of_task(name, task)
    said = _inside(result, "message")
    if not isinstance(said.get("parts"), list):
        raise BadReply(f"{name} answered with neither a task nor a message", hint="does an agent live at this address?")
    return _data(0, text_of_parts(said["parts"])), ""


def _inside(result: dict[str, Any], key: str) -> dict[str, Any]:
    """Return what 1.0 wraps in its kind and 0.3 does not."""
    found = result.get(key)
    return found if isinstance(found, dict) else result


def _of_task(name: str, task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    status = task["status"]
    state = str(status.get("state")).upper().removeprefix("TASK_STATE_").replace("-", "_")
    word = status.get("message")
    told = text_of_parts(word.get("parts")) if isinstance(word, dict) else ""
    if state in {"SUBMITTED", "WORKING"}:
        task_id = task.get("id")
        if not isinstance(task_id, str) or not task_id:
            raise BadReply(f"{name} works on a task without an id")
        return {}, task_id
    if state == "COMPLETED":
        made = task.get("artifacts")
        texts = [text_of_parts(each.get("parts")) for each in made if isinstance(each, dict)] if isinstance(made, list) else []
        return _data(0, "\n".join(text for text in texts if text) or told), ""
    exits = {"INPUT_REQUIRED": 5, "AUTH_REQUIRED": 5, "REJECTED": 77}
    return _data(exits.get(state, 1), "", told or state.lower().replace("_", " ")), ""


def _data(status: int, output: str, problem: str = "") -> dict[str, Any]:
    """Return an A2A answer as `data` of a result. A2A does not say what an answer cost: that stays unknown."""
    return {
        "exit": status,
        "output": output,
        "isError": status != 0,
        "error": {"detail": problem} if problem else None,
        "usage": {},
    }


def text_of_parts(parts: Any) -> str:
    """Return the text of A2A parts (1.0 and 0.3); data parts as JSON."""
    texts = []
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict) and part.get("data") is not None:
            texts.append(json.dumps(part["data"], ensure_ascii=False))
    return "\n".join(texts)


def poll(task: str, style: str) -> dict[str, Any]:
    """Return the JSON-RPC request for the state of a task."""
    return {"jsonrpc": "2.0", "id": 1, "method": "GetTask" if style == "a2a" else "tasks/get", "params": {"id": task}}


def check_http(name: str, answer: Response) -> None:
    """Raise what an HTTP status other than 2xx stands for."""
    if 200 <= answer.status < 300:
        return
    kinds: dict[int, type[errors.ProviderError]] = {401: errors.AuthError, 403: errors.AuthError, 429: errors.RateLimited}
    kind = kinds.get(answer.status, errors.ServerError if answer.status >= 500 else BadReply)
    raise kind(f"{name} answers HTTP {answer.status}", hint="check the address", http_status=answer.status)


def shown(text: str, most: int = 300) -> str:
    """Return a peer's words on one line as they may be shown: cleaned, without secrets, not too long."""
    from agent_core import redact, terminal

    flat = terminal.clean(" ".join(redact.redact(text).split()), keep_newlines=False)
    return flat if len(flat) <= most else f"{flat[:most]}…"
