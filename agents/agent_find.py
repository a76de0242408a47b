"""agent-find - find agents, register programs, and put pipelines together that fit.

    agent-find TEXT…                          who can do this? best first
    agent-find --need TAG --prefer TAG        by tags; also --max-ms N, --max-usd X, --explain
    agent-find list | show NAME               what is registered or listed here
    agent-find adopt PROGRAM…                 register an agent or an ordinary program (the only command that starts one)
    agent-find forget NAME
    agent-find compose TASK -n 2              a shell pipeline for a task
    agent-find check 'a | b | c'              would it fit? status 3 if not
    agent-find skills | personas | live       what else there is
    agent-find heartbeat NAME                 a resident agent says that it is there (60 s)

    $ agent-find --need review --prefer security --json | jq '.data.structuredContent[0].name'
    "code-reviewer"

Looked at are the user's catalogue, the nearest AGENTS.md upward, the folders of `discovery.paths` in the configuration, and the
skills folder. Only what was registered can be called, and only while its program has the hash it was registered with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from agent_core import Agent
from agent_core.task import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.catalogue import Entry
    from agent_core.cli import Command
    from agent_plugins.discovery.compose import Pipeline
    from agent_plugins.discovery.match import Match
    from agent_plugins.discovery.sources import Found


def search(  # noqa: PLR0913 - the flags of the query
    text: list[str],
    command: Command,
    *,
    need: tuple[str, ...] = (),
    prefer: tuple[str, ...] = (),
    max_ms: float | None = None,
    max_usd: float | None = None,
    explain: bool = False,
    min_score: float | None = None,
    n: int = 10,
) -> Answer:
    """Find who can do something, best first.

    Args:
        text: what has to be done.
        command: the call.
        need: a tag that a match must have.
        prefer: a tag that a match should have.
        max_ms: most milliseconds of a run, as measured.
        max_usd: most USD of a run, as measured.
        explain: say how each score comes about, and what was dropped.
        min_score: least score (0.1 for text, else anything above 0).
        n: at most so many.
    """
    from agent_plugins.discovery import match
    from agent_plugins.discovery.match import Query

    query = Query(" ".join(text), need, prefer, max_ms, max_usd, min_score)
    found = _found(command, figures=max_ms is not None or max_usd is not None)
    made = sorted((match.match(each, query) for each in found.candidates), key=match.order)
    best = [each for each in made if match.kept(each, query)][:n]
    left = [each for each in made if each not in best] if explain else []
    if not best:
        _none(command, found, made)
    lines = [_line(each, explain=explain) for each in (*best, *left)]
    return Answer("\n".join(lines), [_row(each, explain=explain) for each in best])


def list_(command: Command) -> Answer:
    """List what is registered or listed here."""
    from agent_core import catalogue
    from agent_plugins.discovery.tools import plain

    rows, lines = [], []
    for one in _found(command).candidates:
        state = catalogue.changed(one.entry) if one.entry is not None and one.kind != "skill" else ""
        rows.append({"name": one.name, "kind": one.kind, "source": one.source, "health": one.health, "problem": state or None})
        rows[-1]["description"] = plain(one.description)
        lines.append(f"{one.name:<20} {one.kind:<8} {one.source:<10} {state or one.health:<12} {plain(one.description)[:100]}")
    return Answer("\n".join(line.rstrip() for line in lines), rows)


def show(name: str, command: Command) -> Answer:
    """Show the card of an agent, a program or a skill, and whether it can be called.

    Args:
        name: its name.
        command: the call.
    """
    from agent_core import catalogue, options
    from agent_plugins.discovery import live, tools

    catalogue.checked_name(name)
    found = _found(command)
    one = found.named(name)
    if one is None:
        raise options.unknown("agent", name, [each.name for each in found.candidates])
    store = tools.store_of(command.settings)
    latency, cost = live.measured(store, name) if store is not None else (None, None)
    entry = one.entry if one.kind != "skill" else None
    state = catalogue.changed(entry) if entry is not None else "it is no program"
    value = {
        "name": one.name, "kind": one.kind, "source": one.source, "health": one.health, "callable": not state,
        "problem": state or None, "avg_latency_ms": latency, "cost_per_call_usd": cost, **_registered(entry),
        "card": dict(entry.card) if entry is not None else {"name": name, "description": one.description, "tags": list(one.tags)},
    }  # fmt: skip
    return Answer(_shown(value, one), value)


def adopt(
    programs: list[str],
    command: Command,
    *,
    name: str = "",
    replace: bool = False,
    read: tuple[str, ...] = (),
    timeout: float | None = None,
) -> Answer:
    """Register programs: each is started, shut in, and asked what it is.

    Args:
        programs: paths, or names on the PATH.
        command: the call.
        name: the name to register it under, in place of its own.
        replace: take the name away from another program.
        read: a folder that it may read while it is asked, besides its own and the system's.
        timeout: seconds for each question.
    """
    from agent_core.errors import UsageError
    from agent_plugins.discovery import adopt as adopting
    from agent_plugins.discovery.tools import plain

    if not programs or (name and len(programs) > 1):
        raise UsageError("adopt needs a program, and --name just one", hint="agent-find adopt /usr/bin/jq")
    terms = adopting.Terms(name, replace, timeout or adopting.SECONDS, tuple(read))
    rows, lines = [], []
    for made in [adopting.adopted(program, command.settings, terms) for program in programs]:
        entry = made.entry
        word = "adopted" if made.new else "unchanged"
        rows.append({"name": entry.name, "kind": entry.kind, "new": made.new, "argv": list(entry.argv), "sha256": entry.sha256})
        rows[-1]["sandbox"] = made.level
        lines += [f"{word} {entry.name} ({entry.kind}): {plain(entry.description)}", f"  asked with: {made.level}"]
    return Answer("\n".join(lines), rows)


def forget(name: str, command: Command) -> str:
    """Remove an entry from the catalogue; the program stays.

    Args:
        name: the entry's name.
        command: the call.
    """
    from agent_core import catalogue, options

    if not catalogue.forget(command.settings.data_dir, name):
        raise options.unknown("registered agent", name, catalogue.names(command.settings.data_dir))
    return f"forgot {name}"


def compose(task: str, command: Command, *, n: int = 3) -> Answer:
    """Put a shell pipeline together that does a task; status 3 if none fits.

    Args:
        task: what has to be done, or names of agents in order.
        command: the call.
        n: at most so many stages.
    """
    from agent_plugins.discovery import compose as composing

    pipeline, reason = composing.composed(task, _found(command).candidates, n)
    if pipeline is None or reason:
        command.out.say(f"no pipeline: {reason}")
        return Answer("", {"pipeline": None, "reason": reason}, 3)
    notes = (*pipeline.notes, *composing.verdict(pipeline).notes)
    for note in notes:
        command.out.say(note)
    return Answer(pipeline.text(), {"pipeline": pipeline.text(), **composing.graph(pipeline), "notes": list(notes)})


def check(pipeline: str, command: Command) -> Answer:
    """Say whether a shell pipeline fits; it is read, never run. Status 3 if it does not.

    Args:
        pipeline: the pipeline, in quotes.
        command: the call.
    """
    from agent_plugins.discovery import compose as composing

    made = composing.parsed(pipeline, {each.name: each for each in reversed(_found(command).candidates)})
    found = composing.verdict(made)
    reason = found.reason or _altered(made)
    for note in found.notes:
        command.out.say(note)
    value = {"fits": not reason, "reason": reason or None, "notes": list(found.notes), **composing.graph(made)}
    return Answer(f"does not fit: {reason}" if reason else "fits", value, 3 if reason else 0)


def _altered(pipeline: Pipeline) -> str:
    """Return which stage is not the program any more that was registered, and why; "" for none."""
    from agent_core import catalogue

    for stage in pipeline.stages:
        entry = stage.candidate.entry if stage.candidate is not None else None
        why = catalogue.changed(entry) if entry is not None and entry.sha256 else ""
        if why:
            return f"{stage.name} cannot be called: {why} (agent-find adopt registers it anew)"
    return ""


def skills(command: Command, *, strict: bool = False) -> Answer:
    """List the skills of the skills folder; broken ones are reported and left out.

    Args:
        command: the call.
        strict: a broken one is an error (status 78).
    """
    from dataclasses import asdict

    from agent_core.errors import ConfigError
    from agent_plugins.discovery import sources
    from agent_plugins.discovery.tools import plain

    found, problems = sources.skills_of(command.settings)
    shown = sources.problem_lines(problems)
    if strict and shown:
        raise ConfigError(f"{len(shown)} broken: {'; '.join(shown)}", hint=f"see {sources.skills_folder(command.settings)}")
    for problem in shown:
        command.out.say(f"left out: {problem}")
    lines = [f"{each.name:<24} {' '.join(each.target).strip() or '-':<24} {plain(each.description)[:100]}" for each in found]
    return Answer("\n".join(lines), [asdict(each) for each in found])


def personas(command: Command) -> Answer:
    """List the personas that --persona knows."""
    from pathlib import Path

    from agent_core import config, prompt

    known = prompt.personas([Path(config.user_dir(command.settings.environment)) / "personas"])
    return Answer("\n".join(known), sorted(known))


def heartbeat(  # noqa: PLR0913 - the fields of an advertisement
    name: str,
    command: Command,
    *,
    health: Literal["healthy", "degraded", "unhealthy", "unknown"] = "healthy",
    instance: str = "",
    endpoint: str = "",
    capability: tuple[str, ...] = (),
    ttl: float = 60.0,
) -> Answer:
    """Say that a resident agent is there; its row ends when it is not renewed in time.

    Args:
        name: the agent's name.
        command: the call.
        health: how it is.
        instance: its id, where there are several of one name.
        endpoint: where it can be reached.
        capability: what it can do, a tag.
        ttl: seconds until the row ends.
    """
    from dataclasses import asdict

    from agent_plugins.discovery import live

    row = live.heartbeat(
        command.store(), live.Advertisement(instance or name, name, tuple(capability), endpoint, health=health), ttl
    )
    return Answer(f"{row.agent_id} is {row.health} for {ttl:g} s", asdict(row))


def deregister(name: str, command: Command) -> str:
    """Remove a resident agent's rows, by id or by name.

    Args:
        name: the id or the name.
        command: the call.
    """
    from agent_core.options import unknown
    from agent_plugins.discovery import live

    count = live.deregister(command.store(), name)
    if not count:
        raise unknown("resident agent", name, [row.agent_id for row in live.rows(command.store())])
    return f"deregistered {name}" + (f" ({count} rows)" if count > 1 else "")


def live(command: Command, *, evict: bool = False) -> Answer:
    """List the resident agents that are there now.

    Args:
        command: the call.
        evict: remove for good what has expired.
    """
    from dataclasses import asdict

    from agent_plugins.discovery import live as rows
    from agent_plugins.discovery.tools import plain

    if evict:
        command.out.say(f"{rows.evict(command.store())} removed")
    found = rows.rows(command.store())
    lines = [f"{row.agent_id:<24} {row.agent_name:<20} {row.health:<10} {plain(row.endpoint)}".rstrip() for row in found]
    return Answer("\n".join(lines), [asdict(row) for row in found])


# -- showing -----------------------------------------------------------------------------------------------------------------------


def _found(command: Command, *, figures: bool = False) -> Found:
    """Return what there is; cards and skills that cannot be read are named on stderr."""
    from agent_plugins.discovery import sources, tools

    found = sources.gather(command.settings, tools.store_of(command.settings), figures=figures)
    for problem in sources.problem_lines(found.problems):
        command.out.say(f"left out: {problem}")
    return found


def _none(command: Command, found: Found, made: Sequence[Match]) -> None:
    from agent_plugins.discovery import match

    if not found.candidates:
        command.out.say("nothing is registered here (agent-find adopt PROGRAM, or scripts/build)")
        return
    near = match.nearest(made)
    hint = f"; nearest: {near.candidate.name} {near.score:.2f}, see --min-score" if near is not None else ""
    command.out.say(f"no match among {len(made)}{hint}")


def _line(made: Match, *, explain: bool) -> str:
    from agent_plugins.discovery import match
    from agent_plugins.discovery.tools import plain

    one = made.candidate
    score = "   -" if made.dropped else f"{made.score:.2f}"
    line = f"{score}  {one.name:<20} {one.kind:<8} {plain(one.description)[:100]}".rstrip()
    return f"{line}\n      {plain(match.explained(made))}" if explain else line


def _row(made: Match, *, explain: bool) -> dict[str, Any]:
    from agent_plugins.discovery import tools

    row = tools.row(made)
    return {**row, "explain": list(made.why)} if explain else row


def _registered(entry: Entry | None) -> dict[str, Any]:
    if entry is None:
        return {"argv": [], "sha256": "", "registered": ""}
    return {"argv": list(entry.argv), "sha256": entry.sha256, "registered": entry.registered}


def _shown(value: dict[str, Any], one: Any) -> str:
    from agent_plugins.discovery.tools import plain

    card = value["card"]
    rows = {
        "name": f"{one.name} ({one.kind}, {one.source})",
        "purpose": one.description,
        "use it when": card.get("when_to_use") or "",
        "tags": ", ".join(one.tags),
        "stdin": card.get("stdin") or "",
        "capabilities": ", ".join(each.name for each in one.capabilities),
        "permissions": ", ".join(card.get("permissions") or ()),
        "program": " ".join(value["argv"]),
        "sha256": value["sha256"],
        "registered": value["registered"],
        "callable": f"no: {value['problem']}" if value["problem"] else "yes",
    }
    if value["avg_latency_ms"] is not None:
        rows["measured"] = f"{value['avg_latency_ms']:.0f} ms a run" + (
            f", {value['cost_per_call_usd']:.6f} USD" if value["cost_per_call_usd"] is not None else ""
        )
    return "\n".join(f"{key + ':':<14}{plain(str(text))}" for key, text in rows.items() if text)


agent = Agent(
    __doc__,
    stdin="none",
    commands=[search, list_, show, adopt, forget, compose, check, skills, personas, heartbeat, deregister, live],
    default="search",
    examples=[
        "agent-find --need review --prefer security",
        "agent-find adopt /usr/bin/jq",
        "agent-find compose 'translate and summarise a document' -n 2",
    ],
    tags=["discovery", "registry", "pipeline"],
    when_to_use="Somebody wants to know which agent can do something, or how agents can be put together.",
)
main = agent.main

if __name__ == "__main__":
    main()
