"""talk - what a group is and has said, and what each member is told next.

    visible("ring", ["a", "b", "c"], "b")         # whose answers b is shown: ['a']

The topology decides only which answers of the round before a member is shown; who is asked, and how often, is the same in all:

    star   the hub (the leader, else the first member) sees everyone's, everyone sees the hub's
    mesh   everyone sees everyone's
    ring   member i sees that of member i - 1, the first that of the last
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.task import compose, split
from agent_patterns.reduce import Rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.errors import AgentError
    from agent_core.task import Task
    from agent_patterns.rework_rules import Policy

REVISE = (
    "This is round {number} of {rounds}. Below are answers to this task: your own of the round before, and those of others that "
    "you are shown. Weigh them, correct yourself where they are right, keep what you can defend, and give your whole answer again."
)
CONTINUE = "Below is what others have made of this task so far. Build on it: correct and improve it, and give the whole result."


@dataclass(frozen=True, slots=True)
class Group:
    """Who works together and how.

    `members` and `leader` are anything a Call can run, with different names. `briefs` are words put before the task for a member.
    `enough`: stop a round at that fraction of answers and cancel the rest; `limit`: at most that many at a time. `full`: later
    rounds show all earlier rounds, not just the last. `early`: stop when all say the same. `rework`: who answers anew after that,
    and on what; `validator`: who gives feedback on answers.
    """

    members: Sequence[Any]
    leader: Any = None
    rounds: int = 1
    topology: str = "star"
    process: str = "parallel"
    reduce: str = "synthesis"
    rules: Rules = field(default_factory=Rules)
    enough: float | None = None
    limit: int | None = None
    briefs: Mapping[str, str] = field(default_factory=dict)
    full: bool = False
    revise: str = REVISE
    early: bool = True
    rework: Policy | None = None
    validator: Any = None

    @property
    def everyone(self) -> list[Any]:
        """The leader, if there is one, and the members."""
        return [*([] if self.leader is None else [self.leader]), *self.members]


@dataclass(slots=True)
class Talk:
    """What was said: for each round the answers by name; who failed and why; who was cancelled; how many answers were passed on.

    `rework`: how often each answered anew, and each decision about that.
    """

    rounds: list[dict[str, str]] = field(default_factory=list)
    failures: dict[str, AgentError] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    messages: int = 0
    rework: dict[str, Any] | None = None

    def latest(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return the last answer of each of the names that gave one."""
        last = {name: text for said in self.rounds for name, text in said.items()}
        return [(name, last[name]) for name in names if name in last]


def visible(topology: str, names: Sequence[str], name: str) -> list[str]:
    """Return whose answers a member is shown; the first of the names is the hub of a star.

    >>> visible("star", "hab", "a"), visible("mesh", "hab", "a"), visible("ring", "hab", "h")
    (['h'], ['h', 'b'], ['b'])
    """
    if topology == "ring":
        before = names[names.index(name) - 1]
        return [before] if before != name else []
    if topology == "star" and name != names[0]:
        return [names[0]]
    return [other for other in names if other != name]


def message(task: Task, plan: Group, talk: Talk, names: Sequence[str], name: str) -> str:
    """Return what a member is asked in the next round."""
    if not talk.rounds:
        return f"{plan.briefs[name]}\n\n{task.text}" if name in plan.briefs else task.text
    sources = visible(plan.topology, names, name)
    shown = talk.rounds if plan.full else talk.rounds[-1:]
    others = [
        (f"{source}, round {number}" if plan.full else source, said[source])
        for number, said in enumerate(shown, 1)
        for source in sources
        if source in said
    ]
    talk.messages += len(others)
    own = [("your own answer", said[name]) for said in reversed(talk.rounds) if name in said][:1]
    rule = plan.revise.format(number=len(talk.rounds) + 1, rounds=plan.rounds)
    return with_more(task, plan, name, rule, [*own, *others])


def with_more(task: Task, plan: Group, name: str, rule: str, answers: Sequence[tuple[str, str]]) -> str:
    """Return the task with more words after its instruction and more material after its own."""
    instruction, materials = split(task.text)
    words = [plan.briefs.get(name, ""), instruction, rule]
    return compose("\n\n".join(word for word in words if word), [*materials, *answers])
