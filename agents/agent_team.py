"""agent-team - several agents on one task: a team, a swarm, an orchestra, a debate, a crew.

    agent-team team "TASK" --leader L --member A --member B --rounds 3 --topology ring
    agent-team swarm "TASK" --jobs 4 --enough 0.8
    agent-team orchestra "QUESTION" --preset balanced --json | jq .data.structuredContent.agreement
    agent-team debate "TOPIC" --side A="simple" --side B="scale" --rounds 2
    agent-team crew FILE "TASK"

A member is a registered agent or a persona by NAME, NAME="SYSTEM PROMPT", NAME@PROVIDER:MODEL (with =PROMPT, too), or an address:
http(s)://…; they are mixed freely and keep their own model, tools and budget. Without members the preset's are asked. A preset is a
TOML file: one of this suite, NAME.toml in the folder `presets` of your configuration, or a path.

What fails is reported and does not end the others. --json has answer, answers, rounds_completed, messages_exchanged, agreement,
failure_count, threshold_met and what is special to the kind. Runs can be resumed, replayed and forked like any other.

    $ agent-team swarm "fetch the prices and fetch the reviews, then compare" --provider offline --json |
    >   jq -c '.data.structuredContent.parts[] | [.id, .needs]'
    ["1.1",[]]
    ["1.2",[]]
    ["2.1",["1.1","1.2"]]
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from agent_core import Agent
from agent_core.effects import Call, Note
from agent_core.errors import InputError, MissingInput, UsageError
from agent_core.members import Member
from agent_patterns.reduce import Rules, free, weights
from agent_patterns.rework_rules import policy
from agent_patterns.talk import Group
from agent_plugins.tools.files import file_list, file_read, file_search

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_core.config import Settings
    from agent_core.effects import Pattern
    from agent_core.run import Run, Steps
    from agent_core.task import Task

Reducers = Literal[
    "synthesis", "majority", "weighted", "consensus", "veto", "quorum", "moderate", "merge", "first", "last",
]  # fmt: skip
KINDS = ("team", "swarm", "orchestra", "debate", "crew")


# --- presets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class One:
    """A member in a preset: one of this run (`system`, `provider`, `model`, `tools`, `budget`), or `agent`: any --member."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it from the class
    name: str
    system: str = ""
    agent: str = ""
    provider: str = ""
    model: str = ""
    budget: str = ""
    tools: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Position:
    """A side of a debate in a preset."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012
    name: str
    position: str


@dataclass(frozen=True, slots=True)
class Preset:
    """What a preset file may hold."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012
    kind: Literal["team", "swarm", "orchestra", "debate", "crew"]
    summary: str = ""
    rounds: int = 1
    topology: Literal["star", "mesh", "ring"] = "star"
    process: Literal["parallel", "sequential"] = "parallel"
    reduce: Reducers = "synthesis"
    split: Literal["auto", "model", "breadth", "depth", "lexical"] = "auto"
    enough: float | None = None
    quorum: int = 0
    threshold: float = 0.66
    weights: dict[str, float] = field(default_factory=dict)
    veto: list[str] = field(default_factory=list)
    rework: str = ""
    tools: list[str] = field(default_factory=list)
    leader: One | None = None
    validator: One | None = None
    member: list[One] = field(default_factory=list)
    side: list[Position] = field(default_factory=list)


def presets(settings: Settings) -> dict[str, str]:
    """Return the paths of the known presets by name: those of the suite, then the user's, which win."""
    from importlib.resources import files
    from pathlib import Path

    from agent_core import config

    folders = [Path(str(files("agent_patterns"))) / "presets", Path(config.user_dir(settings.environment)) / "presets"]
    return {path.stem: str(path) for folder in folders for path in sorted(folder.glob("*.toml"))}


def load(name: str, kind: str, settings: Settings) -> Pattern:
    """Return a preset by name or path. It is read once, as an effect: a run that is resumed or replayed needs no file.

    Raises:
        UsageError: no preset has that name, or it is for another kind of group.
        InputError: something in the file is wrong (FILE:LINE).
    """
    from pydantic import TypeAdapter

    text = yield Call(Reader(settings, kind), name)
    found: Preset = TypeAdapter(Preset).validate_json(str(text))
    return found


@dataclass(frozen=True)
class Reader:
    """Reads a preset of a kind. A name in brackets is no agent's: the call is no part of the group's progress."""

    settings: Settings
    kind: str
    name: str = "(preset)"

    def program(self, message: str, run: Run, prefix: str) -> Steps:  # noqa: ARG002 - all carriers have one shape
        """Return the program that reads; `message` is the preset's name or path."""
        from agent_core.ops import Invoke

        return (yield Invoke(self.read, {"preset": message}, run.deadline))

    def read(self, preset: str) -> str:
        """Return the data of a preset as JSON text, checked."""
        from agent_core.options import unknown
        from agent_patterns import tables

        path = preset
        if "/" not in preset and not preset.endswith(".toml"):
            known = presets(self.settings)
            if preset not in known:
                raise unknown("preset", preset, [each for each in known if _kind(known[each]) == self.kind])
            path = known[preset]
        data = tables.load(path, Preset, _checked)
        if data["kind"] != self.kind:
            raise UsageError(f"{preset} is a preset for {data['kind']}", hint=f"agent-team {data['kind']} … --preset {preset}")
        return json.dumps(data, ensure_ascii=False)


def _kind(path: str) -> str:
    from agent_patterns import tables

    try:
        return str(tables.parse(path, tables.read(path)).get("kind", ""))
    except InputError:
        return ""


def _checked(data: Any) -> Iterable[Any]:
    from agent_patterns.tables import Problem

    for index, one in enumerate(data.get("member", ())):
        for tool in one.get("tools", ()):
            if agent.tools.get(tool) is None:
                yield Problem(("member", index, "tools"), f"no tool {tool!r}; there are {', '.join(_tool_names())}")
        if one["name"] in [each["name"] for each in data["member"][:index]]:
            yield Problem(("member", index, "name"), f"two members are named {one['name']!r}")
    for tool in data.get("tools", ()):
        if agent.tools.get(tool) is None:
            yield Problem(("tools",), f"no tool {tool!r}; there are {', '.join(_tool_names())}")
    try:
        policy(data.get("rework", ""))
    except UsageError as error:
        yield Problem(("rework",), error.line())


def _tool_names() -> list[str]:
    return [tool.name for tool in agent.tools.tools]


# --- members -------------------------------------------------------------------------------------------------------


def _carrier(one: One, settings: Settings, tools: Sequence[str]) -> Any:
    """Return what a member of a preset stands for."""
    if one.agent:
        from agent_core import peers

        return _renamed(peers.member(one.agent, settings), one.name)
    from decimal import Decimal, InvalidOperation

    try:
        budget = Decimal(one.budget) if one.budget else None
    except InvalidOperation:
        raise InputError(f"the budget {one.budget!r} of {one.name} is no amount", hint='USD, such as budget = "0.10"') from None
    return Member(one.name, one.system.strip(), _tools(one.tools or tools), one.provider, one.model, budget=budget)


def _renamed(carrier: Any, name: str) -> Any:
    return carrier if carrier.name == name else replace(carrier, name=name)


def _distinct(found: Sequence[Any]) -> list[Any]:
    """Return carriers with names of their own: the second `critic` is `critic#2`."""
    made: dict[str, Any] = {}
    for carrier in found:
        name = free(carrier.name, made)
        made[name] = _renamed(carrier, name)
    return list(made.values())


def _tools(names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(tool for tool in agent.tools.tools if tool.name in names)


def carriers(specs: Sequence[str], preset: Preset, settings: Settings) -> list[Any]:
    """Return what the words of `--member` stand for: a member of the preset by its name, else what `peers.member` knows."""
    from agent_core import peers

    own = {one.name: one for one in [*preset.member, *([preset.leader] if preset.leader else [])]}
    if not specs:
        return [_carrier(one, settings, preset.tools) for one in preset.member]
    made = [_carrier(own[spec], settings, preset.tools) if spec in own else peers.member(spec, settings) for spec in specs]
    tools = _tools(preset.tools)
    return _distinct([replace(each, tools=tools) if isinstance(each, Member) and not each.tools else each for each in made])


def _leader(spec: str, preset: Preset, settings: Settings) -> Any:
    if spec:
        return carriers([spec], preset, settings)[0]
    return _carrier(preset.leader, settings, preset.tools) if preset.leader else None


def _reworked(plan: Group, preset: Preset, settings: Settings, given: Mapping[str, Any]) -> Group:
    """Return the group with the policy by which its members answer anew, if there is one, and who gives feedback."""
    text, spec = given.get("rework") or preset.rework, given.get("validator") or ""
    if not text:
        if spec:
            raise UsageError("--validator without --rework", hint="--rework feedback")
        return plan
    table = preset.validator
    validator = carriers([spec], preset, settings)[0] if spec else table and _carrier(table, settings, preset.tools)
    return replace(plan, rework=policy(text), validator=validator)


def _limit(jobs: int, settings: Settings) -> int | None:
    """Return how many may work at a time: `--jobs`, where it was given; else there is no limit."""
    return jobs if jobs > 1 or settings.origins.get("jobs", "default") != "default" else None


def _enough(given: float | None, preset: Preset) -> float | None:
    value = preset.enough if given is None else given
    if value is not None and not 0 < value <= 1:
        raise UsageError(f"--enough: {value:g} is no fraction", hint="above 0, at most 1: 0.8 is four of five")
    return None if value is None else float(value)


def _rounds(given: int | None, preset: Preset) -> int:
    rounds = preset.rounds if given is None else given
    if not 1 <= rounds <= 100:
        raise UsageError(f"--rounds: {rounds} is not from 1 to 100", hint="each round asks every member once")
    return rounds


def _rules(preset: Preset, given: Mapping[str, Any]) -> Rules:
    threshold = preset.threshold if given.get("threshold") is None else given["threshold"]
    if not 0 <= threshold <= 1:
        raise UsageError(f"--threshold: {threshold:g} is not from 0 to 1", hint="0.66 is two thirds")
    return Rules(
        weights={**preset.weights, **weights(given.get("weight") or ())},
        veto=frozenset([*preset.veto, *(given.get("veto") or ())]),
        quorum=given.get("quorum") or preset.quorum,
        threshold=threshold,
    )


def _group(preset: Preset, settings: Settings, given: Mapping[str, Any], *, leads: bool) -> Group:
    """Return the group that a preset and flags make. `leads`: the leader is a member; else it only writes the answer."""
    leader = _leader(given.get("leader") or "", preset, settings)
    rules = _rules(preset, given)
    members = carriers(given.get("member") or (), preset, settings)
    if leader is not None:
        members = [member for member in members if member.name != leader.name]
    rounds = _rounds(given.get("rounds"), preset)
    plan = Group(
        members,
        leader if leads else None,
        rounds,
        given.get("topology") or preset.topology,
        preset.process,
        given.get("reduce") or preset.reduce,
        rules if leads or leader is None else replace(rules, judge=leader),
        _enough(given.get("enough"), preset),
        _limit(given.get("jobs") or 1, settings),
    )
    return _reworked(plan, preset, settings, given)


# --- commands ------------------------------------------------------------------------------------------------------


def _wanted(task: Task) -> None:
    """MissingInput when nobody said what the task is: members asked nothing would cost money and answer anything."""
    if not task.text.strip() and len(task.message.parts) < 2:
        raise MissingInput("there is no task", hint="give it in words, or pipe it in")


def team(  # noqa: PLR0913, PLR0917 - a command's flags are its parameters
    task: Task,
    settings: Settings,
    preset: str = "",
    member: tuple[str, ...] = (),
    leader: str = "",
    rounds: int | None = None,
    topology: Literal["star", "mesh", "ring"] | None = None,
    reduce: Reducers | None = None,
    weight: tuple[str, ...] = (),
    veto: tuple[str, ...] = (),
    quorum: int = 0,
    threshold: float | None = None,
    enough: float | None = None,
    rework: str = "",
    validator: str = "",
    jobs: int = 1,
) -> Pattern:
    """Have a leader and members discuss a task in rounds; the leader writes the answer.

    Args:
        task: the task.
        settings: the settings.
        preset: members and rules, by name or path.
        member: NAME, NAME=PROMPT, NAME@PROVIDER:MODEL or an address; in place of the preset's members.
        leader: who leads, moderates or writes the answer; as for --member.
        rounds: at most so many rounds; fewer when all say the same.
        topology: whose answers a member sees in the next round.
        reduce: how one answer is made of many.
        weight: a member's weight as NAME=NUMBER, for weighted, consensus, quorum and veto.
        veto: a member whose answer "veto" is one, for veto.
        quorum: so many members must have answered, for quorum.
        threshold: the share that a consensus needs, 0 to 1.
        enough: stop at that fraction of answers and cancel the rest.
        rework: who answers anew in the end: peer, person, feedback (several with commas), max=3, cooldown=5, relevance=0.5, forget.
        validator: who gives feedback, for --rework feedback; as for --member.
        jobs: so many at a time (default: all).
    """
    from agent_patterns.group import group

    _wanted(task)
    given = {
        "member": member, "leader": leader, "rounds": rounds, "topology": topology, "reduce": reduce, "weight": weight,
        "veto": veto, "quorum": quorum, "threshold": threshold, "enough": enough, "rework": rework, "validator": validator,
        "jobs": jobs,
    }  # fmt: skip
    found = yield from load(preset or "team", "team", settings)
    return (yield from group(task, _group(found, settings, given, leads=True)))


def orchestra(  # noqa: PLR0913, PLR0917
    task: Task,
    settings: Settings,
    preset: str = "",
    member: tuple[str, ...] = (),
    leader: str = "",
    mode: Literal["parallel", "sequential"] = "parallel",
    reduce: Reducers | None = None,
    weight: tuple[str, ...] = (),
    veto: tuple[str, ...] = (),
    quorum: int = 0,
    threshold: float | None = None,
    enough: float | None = None,
    jobs: int = 1,
) -> Pattern:
    """Answer a question from several perspectives and say how far they agree.

    Args:
        task: the question.
        settings: the settings.
        preset: members and rules, by name or path.
        member: NAME, NAME=PROMPT, NAME@PROVIDER:MODEL or an address; in place of the preset's.
        leader: who writes the answer; as for --member.
        mode: sequential asks one perspective after another; none sees another's answer.
        reduce: how one answer is made of many.
        weight: a member's weight as NAME=NUMBER.
        veto: a member whose answer "veto" is one.
        quorum: so many members must have answered, for --reduce quorum.
        threshold: the share that a consensus needs, 0 to 1.
        enough: stop at that fraction and cancel the rest.
        jobs: so many at a time (default: all).
    """
    from agent_patterns.group import group

    _wanted(task)
    given = {
        "member": member, "leader": leader, "reduce": reduce, "weight": weight, "veto": veto, "quorum": quorum,
        "threshold": threshold, "enough": enough, "jobs": jobs,
    }  # fmt: skip
    found = yield from load(preset or "balanced", "orchestra", settings)
    plan = _group(found, settings, given, leads=False)
    answer = yield from group(task, replace(plan, rounds=1, limit=1 if mode == "sequential" else plan.limit))
    if answer.value["agreement"] is not None:
        yield Note("notice", {"text": f"agreement {answer.value['agreement']:.0%}"})
    return answer


def swarm(  # noqa: PLR0913, PLR0917
    task: Task,
    settings: Settings,
    preset: str = "",
    member: tuple[str, ...] = (),
    split: Literal["auto", "model", "breadth", "depth", "lexical"] | None = None,
    parts: int = 64,
    reduce: Reducers | None = None,
    enough: float | None = None,
    jobs: int = 1,
) -> Pattern:
    """Split a task, work on the parts in parallel, put the results together.

    Args:
        task: the task.
        settings: the settings.
        preset: members and rules, by name or path.
        member: a worker; parts are given to workers in turn (default: one of its own for each part).
        split: by a model, or lexically by breadth (commas, "and"), depth ("then") or what fits; auto: offline lexical.
        parts: at most so many parts.
        reduce: how one answer is made of many.
        enough: stop at that fraction and cancel the rest.
        jobs: so many at a time (default: all).
    """
    from agent_patterns import swarm as pattern

    _wanted(task)
    if not 1 <= parts <= 1000:
        raise UsageError(f"--parts: {parts} is not from 1 to 1000", hint="64 is the default")
    found = yield from load(preset or "swarm", "swarm", settings)
    way = split or found.split
    if way == "auto":
        way = "lexical" if _offline(settings) else "model"
    plan = pattern.Swarm(
        carriers(member, found, settings),
        way,
        reduce or found.reduce,
        Rules(weights=found.weights),
        _enough(enough, found) or 1.0,
        _limit(jobs, settings),
        parts,
    )
    return (yield from pattern.swarm(replace(task, tools=type(agent.tools)(_tools(found.tools)), system=""), plan))


def _offline(settings: Settings) -> bool:
    from agent_core import choose

    return choose.route(settings)[0] == ["offline"]


def debate(  # noqa: PLR0913, PLR0917
    task: Task,
    settings: Settings,
    side: tuple[str, ...] = (),
    preset: str = "",
    member: tuple[str, ...] = (),
    leader: str = "",
    rounds: int | None = None,
    jobs: int = 1,
) -> Pattern:
    """Have sides argue a topic, score each other, and a moderator conclude.

    Args:
        task: the topic.
        settings: the settings.
        side: NAME=POSITION; a member of that name argues it, else one of this run.
        preset: members and rules, by name or path.
        member: NAME, NAME=PROMPT, NAME@PROVIDER:MODEL or an address; in place of the preset's.
        leader: who writes the answer; as for --member.
        rounds: at most so many rounds.
        jobs: so many at a time (default: all).
    """
    from agent_patterns import debate as pattern

    _wanted(task)
    found = yield from load(preset or "debate", "debate", settings)
    named = {carrier.name: carrier for carrier in carriers(member, found, settings)}
    positions = [_position(each) for each in side] or [(each.name, each.position) for each in found.side]
    strangers = sorted(set(named) - {name for name, _ in positions}) if member else []
    if strangers:
        raise UsageError(f"{strangers[0]} has no side", hint=f'--side {strangers[0]}="POSITION"')
    sides = [pattern.Side(named.get(name) or Member(name), position) for name, position in positions]
    moderator = _leader(leader, found, settings)
    return (yield from pattern.debate(task, sides, _rounds(rounds, found), moderator, _limit(jobs, settings)))


def _position(text: str) -> tuple[str, str]:
    name, equals, position = text.partition("=")
    if not equals or not name.strip() or not position.strip():
        raise UsageError(f"--side: {text[:80]!r} is no side", hint='--side NAME="POSITION"')
    return name.strip(), position.strip()


def crew(  # noqa: PLR0913, PLR0917
    file: str,
    task: Task,
    settings: Settings,
    rounds: int | None = None,
    reduce: Reducers | None = None,
    enough: float | None = None,
    rework: str = "",
    validator: str = "",
    jobs: int = 1,
) -> Pattern:
    """Have the crew of a file (or of a preset, by name) do a task: in parallel, or one after another, each on what came before.

    Args:
        file: a TOML file with members, process and reduce, or the name of a preset (reviewers).
        task: the task.
        settings: the settings.
        rounds: at most so many rounds.
        reduce: how one answer is made of many.
        enough: stop at that fraction and cancel the rest.
        rework: who answers anew in the end: peer, person, feedback (several with commas), max=3, cooldown=5, relevance=0.5, forget.
        validator: who gives feedback, for --rework feedback; as for --member.
        jobs: so many at a time (default: all).
    """
    from agent_patterns.group import group

    _wanted(task)
    given = {"rounds": rounds, "reduce": reduce, "enough": enough, "rework": rework, "validator": validator, "jobs": jobs}
    found = yield from load(file, "crew", settings)
    return (yield from group(task, _group(found, settings, given, leads=True)))


agent = Agent(
    __doc__,
    tools=[file_list, file_read, file_search],
    commands=[team, swarm, orchestra, debate, crew],
    examples=[
        'agent-team debate "Monolith or services" --side A="simple" --side B="scale" --rounds 2',
        'agent-team orchestra "How should we price this?" --preset balanced --json',
        'agent-team swarm "Review every file in src/" --jobs 4 --enough 0.8',
    ],
    tags=["group", "team", "swarm", "orchestra", "debate", "crew"],
    when_to_use="A task gains from several agents: perspectives, opposing sides, rounds of review, or parts done in parallel.",
)
main = agent.main

if __name__ == "__main__":
    main()
