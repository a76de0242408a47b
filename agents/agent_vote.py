r"""agent-vote - count votes on answers, by rules that can be checked by hand. A filter; no model.

    $ printf '%s\n' '{"answer": "a", "by": "ann", "output": "Paris"}' '{"answer": "b", "by": "bob", "output": "paris."}' \
    >   '{"answer": "c", "by": "cid", "output": "Rome"}' | agent-vote
    Paris

It reads JSON lines: answers {"answer": id, "by": agent, "output": text}, votes {"voter", "answer", "vote": "approve", "reject",
"abstain", "veto" or a number from 0 to 1, "comment"?}, and agentpipe records, each of which is an answer by its source:

    (a --json < q; b --json < q; c --json < q) | agent-vote --quorum 3 --weight a=2 --veto c

Without votes every answer is a vote for itself: answers that are the same but for case, punctuation and spelling of numbers are
one. Nobody votes on their own answer, nobody twice on one; only a holder (--veto) may veto. What breaks a rule is refused and
counts for nothing; --json lists it. Ties go to the earlier answer.

    majority    sum of weight * vote; the highest wins of those where more than half of the weight is for it
    weighted    sum of weight * vote / sum of weight on that answer; the highest wins
    consensus   sum of weight * vote / weight of all voters; the highest wins if it reaches --threshold

Prints the winner's text. Status 3: nothing won. Status 4: too few voted; the tally is in --json all the same.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from agent_core import Agent
from agent_core.errors import UsageError
from agent_core.task import Answer
from agent_patterns import ballot, counting
from agent_patterns.reduce import Rules, weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_core.cli import Command


def vote(  # noqa: PLR0913, PLR0917 - a command's flags are its parameters
    stdin: bytes,
    command: Command,
    quorum: int = 0,
    weight: tuple[str, ...] = (),
    veto: tuple[str, ...] = (),
    reduce: Literal["majority", "weighted", "consensus"] = "majority",
    threshold: float = 0.66,
) -> Answer:
    """Count the ballot on stdin.

    Args:
        stdin: answers, votes and agentpipe records, one JSON object a line.
        command: the call.
        quorum: so many different voters are needed; status 4 otherwise.
        weight: a voter's weight as NAME=NUMBER; 1 for everyone else.
        veto: a voter who may veto.
        reduce: how votes are counted.
        threshold: the share that a consensus needs, 0 to 1.
    """
    if quorum < 0 or not 0 <= threshold <= 1:
        raise UsageError("--quorum is at least 0 and --threshold from 0 to 1", hint="see --help")
    rules = Rules(weights=weights(weight), veto=frozenset(veto), quorum=quorum, threshold=threshold)
    cast = ballot.read(ballot.expanded(stdin.splitlines(), text_of), command.settings.on_upstream_error, text_of)
    counted = counting.tally(cast, reduce, rules)
    for each in counted.refused:
        command.out.say(f"refused: {each['voter']} {each['vote']} {each['answer']}: {each['why']}")
    if counted.why:
        command.out.say(counted.why)
    status = 0 if counted.winner is not None else 3 if counted.quorum_met else 4
    shown = {
        **asdict(counted),
        "reduce": reduce,
        "formula": counting.FORMULAS[reduce],
        "quorum": quorum,
        "weights": dict(rules.weights),
    }
    return Answer(counted.text, shown, status)


def text_of(data: Mapping[str, Any]) -> str:
    """Return the text of a record's data: its output, the blob that holds it, or its structured content as JSON."""
    from agent_core import records

    return records.content({**data, "output": ballot.output_of(data)})


agent = Agent(
    __doc__,
    stdin="required",
    commands=[vote],
    default="vote",
    examples=["agent-vote --quorum 3 --weight senior=2 --veto director --json < ballot.jsonl"],
    tags=["vote", "group", "filter"],
    when_to_use="Several agents answered or voted and one answer has to be chosen by stated rules, without a model.",
)
main = agent.main

if __name__ == "__main__":
    main()
