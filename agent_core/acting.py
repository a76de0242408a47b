"""acting - the tool calls of one reply: bound, judged, asked about, guarded, run. What goes wrong is a result the model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core import guards as guarding
from agent_core import messages
from agent_core.effects import Call
from agent_core.errors import AgentError, BudgetLimit, ContractError, DeadlineError, DeniedError, RepeatLimit
from agent_core.journal import call_key, mark, recall, result_from_json
from agent_core.messages import Message, ToolCall, ToolResult
from agent_core.ops import Gather, Invoke
from agent_core.run import SHOWN_INPUT, Consent, admitted, late, parked, past, sleep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_core.effects import Act
    from agent_core.ops import Outcome
    from agent_core.policy import Denial
    from agent_core.run import Run, Steps
    from agent_core.tool import Tool

TOLD_AT, STOP_AT, MALFORMED_STOP = 3, 5, 3
_QUESTIONS = 6
_UNRUN = frozenset({"invalid", "denied", "not_found"})


def run_calls(act: Act, run: Run, path: str) -> Steps:
    """Run the calls: neighbours that are not exclusive together, results in call order, as one tool message."""
    _check_malformed(act, run)
    calls = list(act.calls)
    results: list[ToolResult] = []
    if len(calls) == 1:
        results.append((yield from _tool(calls[0], run, f"{path}.0")))
        return [Message("tool", tuple(results))]
    start = 0
    while start < len(calls):
        end = start + 1
        while end < len(calls) and not _exclusive(calls[start], run) and not _exclusive(calls[end], run):
            end += 1
        group = [_tool(call, run, f"{path}.{start + offset}") for offset, call in enumerate(calls[start:end])]
        if len(group) == 1:
            results.append((yield from group[0]))
        else:
            outcomes: list[Outcome] = yield Gather(group, threads=True)
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
            results += [outcome.value for outcome in outcomes]
        start = end
    return [Message("tool", tuple(results))]


def _exclusive(call: ToolCall, run: Run) -> bool:
    tool = run.tools.get(call.name)
    return tool is not None and tool.exclusive


def _check_malformed(act: Act, run: Run) -> None:
    """Count replies that asked for nothing readable (text protocol); three in a row end the run."""
    run.malformed = run.malformed + 1 if all(not call.name for call in act.calls) else 0
    if run.malformed >= MALFORMED_STOP:
        raise ContractError(
            "the model's replies could not be read three times in a row", hint="try --protocol native or another model"
        )


def _tool(call: ToolCall, run: Run, path: str) -> Steps:
    """Run one call of the model. Whatever goes wrong is a result that the model is shown; only limits end the run."""
    print_ = call_key(call)
    count = run.seen[print_] = run.seen.get(print_, 0) + 1
    if count >= STOP_AT and path not in run.recorded:
        raise RepeatLimit(f"the model asked for the same call of {call.name} {count} times", hint="rephrase the task")
    event = recall(run, path, print_)
    if event is not None:
        _label(call, run, "" if event.data.get("ran") else event.data["error"], event.data.get("arguments"))
        return result_from_json(event.data)
    began, consent = run.clock(), Consent()
    result = yield from _called(call, run, path, print_, count, consent)
    # What fails on the outside says so in the outside's words: only a call that was not made has brought nothing.
    outside = getattr(run.tools.get(call.name), "open_world", False)
    ran = {"ran": True} if consent.ran and outside and result.error in _UNRUN else {}
    _label(call, run, "" if ran else result.error, consent.arguments)
    edited = {} if consent.arguments is None else {"arguments": dict(consent.arguments)}
    yield run.event(
        "tool.finished", path, print_, id=call.id, name=call.name, text=run.redact(result.text), error=result.error,
        value=result.value if result.value != result.text else None,
        wall_ms=round((run.clock() - began - consent.waited) * 1000, 1), **edited, **ran,
        durable=path in run.started or _is_consequential(run.tools.get(call.name)),
    )  # fmt: skip
    return result


def _label(call: ToolCall, run: Run, error: Any, edited: Mapping[str, Any] | None) -> None:
    """Remember what a call brought into the conversation; what was not run brought nothing."""
    tool = run.tools.get(call.name)
    if tool is not None and error not in _UNRUN:
        run.totals.seen |= run.gained(tool, call.arguments if edited is None else edited)


def _called(call: ToolCall, run: Run, path: str, print_: str, count: int, consent: Consent) -> Steps:
    tool = run.tools.get(call.name)
    problem = _refusal(call, tool, run, count)
    if problem is not None or tool is None:
        return problem
    if path in run.started:
        return _failure(call, "permanent", "unknown outcome: the program stopped while this call ran. Check before you repeat it.")
    try:
        arguments: dict[str, Any] = tool.bind(call.arguments)
    except AgentError as error:
        return _failure(call, "invalid", str(error))
    denial, arguments = yield from _decided(call, tool, arguments, consent, run, path)
    if denial is not None:
        hint = f"grant with {denial.rule}" if denial.rule else ""
        run.totals.denied = DeniedError(f"denied: {denial.reason}", hint=hint)
        run.totals.denials.append(run.totals.denied)
        return _failure(call, "denied", f"denied: {denial.reason}")
    yield run.event(
        "tool.started",
        path,
        print_,
        id=call.id,
        name=call.name,
        arguments=call.arguments if consent.arguments is None else dict(consent.arguments),
        effects=not tool.read_only,
        durable=_is_consequential(tool),
    )
    consent.ran = True
    result = yield from _guarded(call, tool, (arguments, consent.grants), print_, run, path)
    if result.error is None:
        run.totals.denied = None
    return result


def _decided(call: ToolCall, tool: Tool, arguments: Any, consent: Consent, run: Run, path: str) -> Steps:
    """Return (None or the refusal that stands, the arguments): a person is asked about what a yes could lift.

    The question holds tool and arguments; the answer is yes, no, or {"arguments": {…}}: a yes to others, which are judged anew.
    What a person decided about the call holds, also where a resumed run is granted what it had to ask for.
    """
    denial = run.decide(tool, arguments, run.totals.seen, consent)
    # The first position beneath a call belongs to the agent that it may call.
    for place in (f"{path}.{question}" for question in range(1, _QUESTIONS + 1)):
        if (denial is None or not denial.askable) and place not in run.recorded:
            break
        said = yield from _said(denial, call, arguments, consent, run, place)
        edited = _bound(tool, said)
        if edited is not None:
            consent.arguments = arguments = edited
            consent.grants, consent.reasons = (), frozenset()
        elif isinstance(said, dict) and denial is not None and denial.askable:
            continue  # no arguments that the tool takes: asked again
        elif said != "yes" or not (denial is None or denial.askable):  # an earlier yes lifts no deny rule given since
            denial = denial or _refused(tool)
            break
        elif denial is not None:
            consent.grants += denial.grants
            consent.reasons |= {denial.reason}
        denial = run.decide(tool, arguments, run.totals.seen, consent)
    return denial, arguments


def _refused(tool: Tool) -> Denial:
    from agent_core.policy import Denial

    return Denial(f"{tool.name}: a person said no to this call")


def _said(denial: Any, call: ToolCall, arguments: Any, consent: Consent, run: Run, place: str) -> Steps:
    """Return what a person said about the call, or says now."""
    if denial is None or not denial.askable:
        return run.recorded[place].data.get("answer")
    asked = run.clock()
    said = yield from _consent(denial, call, arguments, run, place)
    consent.waited += run.clock() - asked
    return said


def _consent(denial: Any, call: ToolCall, arguments: Mapping[str, Any], run: Run, path: str) -> Steps:
    """Return what a person says about one call; "no" where nobody can be asked and the run is not to wait."""
    shown = messages.canonical(dict(arguments))
    question = f"{denial.reason}. Allow {call.name} {shown[:SHOWN_INPUT]}?"
    print_ = mark("consent", call.name, shown, denial.reason)
    event = recall(run, path, print_) if path in run.recorded else None
    if event is not None:
        return event.data["answer"]
    answer = yield Invoke(run.ask_person, {"question": question, "strict": True}, run.deadline)
    if answer is None and getattr(run.settings, "ask", "tty") != "park":
        return "no"
    yield run.event("wait.asked", path, print_, question=question, tool=call.name, arguments=dict(arguments), durable=True)
    if answer is None:
        raise parked(question, run, "--edit JSON")
    yield run.event("wait.finished", path, print_, answer=answer, by="terminal", durable=True)
    return answer


def _bound(tool: Tool, answer: Any) -> dict[str, Any] | None:
    """Return the arguments of an answer that changes them; None for another answer, and for what the tool does not take."""
    found = answer.get("arguments") if isinstance(answer, dict) else None
    try:
        return tool.bind(found) if isinstance(found, dict) else None
    except AgentError:
        return None


def _guarded(
    call: ToolCall, tool: Tool, given: tuple[Mapping[str, Any], tuple[str, ...]], print_: str, run: Run, path: str
) -> Steps:
    """Let the guards decide about the call, make it, and make it again where they say so.

    `given`: the arguments, and the grants that a person consented to.
    """
    arguments, grants = given
    outward = guarding.Outward("tool", tool.name, print_, tool=tool)
    attempt = 0
    while True:
        try:
            decision = yield from admitted(outward, attempt, run, path)
        except (DeadlineError, BudgetLimit):
            raise
        except AgentError as refusal:
            return _failure(call, "transient" if refusal.retryable else "permanent", refusal.line())
        if isinstance(decision, guarding.Use):
            return decision.outcome
        until = run.until(tool.timeout or run.tool_timeout)
        passed = {**arguments, tool.context_name: run.context(until, grants)} if tool.wants_context else arguments
        result = yield from _invoked(call, tool, passed, until, run, path)
        verdict = guarding.after(run.guards, outward, result, attempt, run.clock())
        if not isinstance(verdict, guarding.Retry):
            return result
        yield from sleep(verdict.seconds, run)
        attempt += 1


def _refusal(call: ToolCall, tool: Tool | None, run: Run, count: int) -> ToolResult | None:
    """Return the result of a call that is not run at all, or None."""
    if call.problem:
        return _failure(call, "invalid", call.problem)
    if tool is None:
        near = run.tools.nearest(call.name)
        hint = f" Did you mean {' or '.join(near)}?" if near else f" There are: {', '.join(t.name for t in run.tools.tools)}."
        return _failure(call, "not_found", f"there is no tool named {call.name!r}.{hint}")
    if count >= TOLD_AT:
        return _failure(
            call, "invalid", f"you have made this very call {count - 1} times already; use its result or do something else."
        )
    return None


def _invoked(call: ToolCall, tool: Tool, arguments: Mapping[str, Any], until: float | None, run: Run, path: str) -> Steps:
    """Call the function; its text is capped for the model, its value is not."""
    from agent_core.tool import cap, failure, render

    try:
        value = yield Invoke(tool.function, arguments, until)
        if isinstance(value, Call):
            # A tool that asks another agent says so; the call is made, counted and bounded like any other.
            from agent_core.interpreter import perform

            value = yield from perform(value, run, f"{path}.0")
        text, value = render(value)
    except Exception as error:  # noqa: BLE001 - the one catch at the tool edge: a tool's fault is the model's to deal with
        if past(run):
            raise late() from None
        kind, text = failure(error)
        timed_out = isinstance(error, TimeoutError) and not str(error)
        return _failure(call, kind, f"{call.name} took too long and was stopped" if timed_out else run.redact(text))
    return ToolResult(call.id, call.name, run.redact(cap(text)), None, value)


def _is_consequential(tool: Tool | None) -> bool:
    """Say whether a call reaches beyond this process, so that even a power cut must not make it happen twice."""
    return tool is not None and not tool.read_only and bool(tool.needs or tool.destructive or tool.open_world)


def _failure(call: ToolCall, kind: messages.ToolErrorKind, text: str) -> ToolResult:
    return ToolResult(call.id, call.name, text, kind)
