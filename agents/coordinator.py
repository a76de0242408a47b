"""coordinator - plan a request, give its parts to the agents that fit, and close with what each did and cost.

    coordinator "refactor the auth module" --budget 0.50
    coordinator 'review this and summarise the review' < change.diff
    coordinator --tool roster 'review code'

It knows the agents that are registered on this computer (`agent-find adopt PROGRAM`, `scripts/register`) and calls no other: a plan
that names one is corrected, and said so. Cards and answers of agents are material to the model, never instruction. Tasks that do
not need each other run side by side; agents inherit what is left of budget and time and can only be permitted less. What failed is
planned anew once.

The answer ends with one line for each task. `--json` has {answer, steps: [{agent, task, status, cost_usd, run_id, output,
problem}], notes}; a cost that nobody knows is null. Status 4: some task failed and nothing made up for it (what there is, is in the
record). Status 1: nothing could be done.

Without a model nothing is planned: the request goes, as it is, to the one or two agents whose cards share most words with it
(the score of `agent-find`), and the answer is what they said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core import Agent, tool
from agent_patterns.assignments import INPUT, RESULTS, ROSTER
from agent_patterns.coordinate import coordinate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.tool import Context

SYSTEM = """You coordinate agents, each a program that takes a text and answers with a text. Cut the request into the fewest tasks
that do it, each for the one agent whose card fits; use an agent only for what its card says. An agent sees nothing but its input
and the results it needs: write inputs that are complete in themselves, and name in `needs` the tasks whose results it must have
(`input` is the material of the request). Tasks that do not need each other run at the same time.
When you answer, use only what the agents found; say what is missing or contradictory."""

MOST = 40  # agents that the model is shown
NEAR = 0.75  # a second agent is asked without a model if it fits nearly as well as the first


@tool(read_only=True, idempotent=True)
def roster(request: str, context: Context) -> list[dict[str, Any]]:
    """List the registered agents that can be called now, those whose cards fit the request best first.

    Args:
        request: what has to be done.
        context: where the catalogue is.
    """
    from agent_core import catalogue
    from agent_core.terminal import clean
    from agent_plugins.discovery import match, sources

    found: list[dict[str, Any]] = []
    for entry in catalogue.read(context.settings.data_dir)[0]:
        if entry.name == agent.name or entry.kind != "agent" or catalogue.changed(entry):
            continue
        score = match.match(sources.of_entry(entry, None), match.Query(request)).score
        when = str(entry.card.get("when_to_use") or entry.description)
        words = clean(" ".join(when.split()), keep_newlines=False)[:300]
        found.append({"name": entry.name, "when_to_use": words, "tags": list(entry.tags)[:12], "score": round(score, 3)})
    return sorted(found, key=lambda each: (-each["score"], each["name"]))[:MOST]


def without_model(instruction: str, materials: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return a plan of the best one or two agents by the score of their cards; for the closing, what they said."""
    said = [(origin.partition(": ")[2], text.strip()) for origin, text in materials if origin.startswith(f"{RESULTS}: ")]
    if said:
        return {"answer": said[0][1] if len(said) == 1 else "\n\n".join(f"{name}:\n{text}" for name, text in said)}
    request = instruction.partition("\n\nPlan the tasks for this request.")[0]
    if any(origin == "tasks that failed" for origin, _ in materials):
        return {"tasks": []}
    cards = next((text for origin, text in materials if origin == ROSTER), "")
    return {"tasks": [{"id": name, "agent": name, "input": request, "needs": [INPUT]} for name in best(cards)]}


def best(cards: str) -> list[str]:
    """Return the names of the agents to ask by the scores in the roster."""
    import re

    from agent_core.errors import ConfigError
    from agent_providers.offline import SET_UP

    rows = [(match[1], float(match[2])) for match in re.finditer(r"^- ([a-z0-9-]+) \(fits (\d\.\d+)\):", cards, re.MULTILINE)]
    fitting = [(name, score) for name, score in rows if score > 0]
    if not fitting:
        raise ConfigError(
            "no registered agent's card fits these words, and planning needs a model",
            hint=f"{SET_UP}; agent-find lists who there is",
        )
    return [name for name, score in fitting[:2] if score >= fitting[0][1] * NEAR]


agent = Agent(
    __doc__,
    SYSTEM,
    tools=[roster],
    pattern=coordinate,
    offline=without_model,
    examples=[
        'coordinator "refactor the auth module" --budget 0.50',
        "coordinator 'review this and summarise the review' < change.diff",
    ],
    tags=["coordinate", "plan", "delegate", "agents"],
    when_to_use="A request has several parts that different agents do best.",
)
main = agent.main

if __name__ == "__main__":
    main()
