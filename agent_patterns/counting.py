"""counting - votes on answers, counted by stated formulas. Pure; see agents/agent_vote.py.

    found = tally(read(lines), "consensus", Rules(weights={"senior": 2}, quorum=3))

Who may vote: everyone once for each answer, nobody for an answer of their own, on answers that exist; only holders of a veto may
veto. What breaks a rule is refused: it is listed and counts for nothing, not even for the quorum. Abstentions and vetoes count for
the quorum (different voters with an accepted vote) and not for a score. A vetoed answer cannot win.

With w the weight of a voter (1 unless given) and v their vote on an answer, the sums over the votes on that answer:

    majority    sum(w v)               the highest wins of those where more than half of the weight on the answer is for it
    weighted    sum(w v) / sum(w)      the highest above 0 wins
    consensus   sum(w v) / W           the highest wins of those that reach `threshold`; W is the weight of all voters but those who
                                       abstained on this answer or gave it

Ties go to the earlier answer. Without any votes every answer is its agent's vote: answers with the same normal form (reduce.normal)
are one, majority is then a plurality, and the other two divide by the weight of everyone who answered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent_patterns.ballot import Ballot, Entry, Vote
from agent_patterns.reduce import Rules, normal, vetoed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FORMULAS = {
    "majority": "sum(w*v); the highest of those where more than half of the weight on the answer is for it",
    "weighted": "sum(w*v)/sum(w); the highest above 0",
    "consensus": "sum(w*v)/W; the highest of those that reach the threshold",
}


@dataclass(frozen=True, slots=True)
class Tally:
    """What a ballot came to.

    `votes`: how many of each kind an answer has. `tied`: the answers with the winner's score, if there is more than one. `why`:
    the reason why nothing won. `text`: the winner's output.
    """

    winner: str | None
    text: str
    scores: Mapping[str, float]
    votes: Mapping[str, Mapping[str, int]]
    consensus_points: tuple[str, ...]
    quorum_met: bool
    vetoed: tuple[str, ...]
    voters: int
    tied: tuple[str, ...]
    refused: tuple[Mapping[str, str], ...]
    why: str


def tally(ballot: Ballot, strategy: str = "majority", rules: Rules | None = None) -> Tally:
    """Count a ballot by a strategy (formulas: top of this module) and rules: weights, holders of a veto, quorum, threshold."""
    rules = rules or Rules()
    implied = not ballot.votes
    answers, votes = _implied(ballot.answers, rules) if implied else (_known(ballot), ballot.votes)
    cast, refused = _admitted(answers, votes, rules, implied=implied)
    voters = {vote.voter for each in cast.values() for vote in each}
    scores = _scores(answers, cast, strategy, rules, implied=implied)
    removed = tuple(answer for answer in answers if any(vote.kind == "veto" for vote in cast[answer]))
    running = [answer for answer in answers if answer not in removed and _may_win(strategy, scores[answer], cast[answer], rules)]
    top = max((scores[answer] for answer in running), default=0.0)
    leaders = tuple(answer for answer in running if scores[answer] == top)
    met = len(voters) >= rules.quorum
    winner = leaders[0] if leaders and met else None
    return Tally(
        winner,
        answers[winner].output if winner is not None else "",
        scores,
        {answer: _count(each) for answer, each in cast.items()},
        tuple(answer for answer in answers if answer not in removed and _agreed(cast[answer])),
        met,
        removed,
        len(voters),
        leaders if winner is not None and len(leaders) > 1 else (),
        tuple(refused),
        "" if winner is not None else _why(len(voters), rules, removed, strategy),
    )


def _known(ballot: Ballot) -> dict[str, Entry]:
    """Return the answers that may be voted on: those given, or, where only votes are given, those they name."""
    if ballot.answers:
        return {entry.id: entry for entry in ballot.answers}
    return {vote.answer: Entry(vote.answer, (), vote.answer) for vote in ballot.votes}


def _implied(entries: Sequence[Entry], rules: Rules) -> tuple[dict[str, Entry], list[Vote]]:
    """Return the answers without repetitions and the votes that giving them implies."""
    answers: dict[str, Entry] = {}
    forms: dict[str, str] = {}
    votes: list[Vote] = []
    against: list[tuple[str, str]] = []
    for entry in entries:
        agents = entry.by or (entry.id,)
        wanted = vetoed(entry.output) if rules.veto else None
        if wanted is not None:
            against += [(voter, wanted) for voter in agents]
            continue
        name = forms.setdefault(normal(entry.output), entry.id)
        known = answers.setdefault(name, replace(entry, by=()))
        answers[name] = replace(known, by=tuple(dict.fromkeys([*known.by, *agents])))
        votes += [Vote(voter, name, "approve", 1.0) for voter in agents if voter not in known.by]
    for voter, wanted in against:
        named = [name for name in answers if not wanted or wanted in (normal(name), normal(answers[name].output))]
        votes += [Vote(voter, name, "veto") for name in named or [wanted]]
    return answers, votes


def _admitted(
    answers: Mapping[str, Entry], votes: Iterable[Vote], rules: Rules, *, implied: bool
) -> tuple[dict[str, list[Vote]], list[dict[str, str]]]:
    """Return the accepted votes of each answer, and the refused ones with the reason."""
    cast: dict[str, list[Vote]] = {answer: [] for answer in answers}
    refused: list[dict[str, str]] = []
    seen: set[tuple[str, str]] = set()
    for vote in votes:
        why = _against(vote, answers, rules, seen, implied=implied)
        if why:
            given = str(vote.value) if vote.kind == "score" else vote.kind
            refused.append({"voter": vote.voter, "answer": vote.answer, "vote": given, "why": why})
        else:
            seen.add((vote.voter, vote.answer))
            cast[vote.answer].append(vote)
    return cast, refused


def _against(vote: Vote, answers: Mapping[str, Entry], rules: Rules, seen: set[tuple[str, str]], *, implied: bool) -> str:
    """Return why a vote is refused, or nothing."""
    if vote.answer not in answers:
        return "no such answer"
    if not implied and vote.voter in answers[vote.answer].by:
        return "their own answer"
    if vote.kind == "veto" and vote.voter not in rules.veto:
        return "no right of veto"
    return "voted on it before" if (vote.voter, vote.answer) in seen else ""


def _scores(
    answers: Mapping[str, Entry], cast: Mapping[str, Sequence[Vote]], strategy: str, rules: Rules, *, implied: bool
) -> dict[str, float]:
    everyone = {vote.voter for each in cast.values() for vote in each if vote.kind != "veto" or not implied}
    whole = sum(rules.weight(voter) for voter in everyone)
    made: dict[str, float] = {}
    for answer, votes in cast.items():
        total, on_it = _weighed(votes, rules)
        below = 1.0
        if strategy != "majority":
            out = {vote.voter for vote in votes if vote.kind == "abstain"} | (
                set() if implied else everyone & set(answers[answer].by)
            )
            below = on_it if strategy == "weighted" and not implied else whole - sum(rules.weight(voter) for voter in out)
        made[answer] = round(total / below, 9) if below > 0 else 0.0
    return made


def _weighed(votes: Iterable[Vote], rules: Rules) -> tuple[float, float]:
    """Return (sum of weight times vote, sum of weight) of the votes that have a value."""
    counted = [(rules.weight(vote.voter), vote.value) for vote in votes if vote.value is not None]
    return sum(weight * value for weight, value in counted), sum(weight for weight, _ in counted)


def _may_win(strategy: str, score: float, votes: Iterable[Vote], rules: Rules) -> bool:
    if strategy == "consensus":
        return score > 0 and score >= rules.threshold - 1e-9
    total, on_it = _weighed(votes, rules)
    return score > 0 and (strategy == "weighted" or total > on_it / 2 + 1e-9)


def _count(votes: Iterable[Vote]) -> dict[str, int]:
    made = dict.fromkeys(("approve", "reject", "abstain", "veto", "score"), 0)
    for vote in votes:
        made[vote.kind] += 1
    return made


def _agreed(votes: Iterable[Vote]) -> bool:
    """Return whether at least two voters judged the answer and all of them were for it (a score of 0.5 or more)."""
    values = [vote.value for vote in votes if vote.value is not None]
    return len(values) >= 2 and min(values) >= 0.5


def _why(voters: int, rules: Rules, removed: Sequence[str], strategy: str) -> str:
    if voters < rules.quorum:
        return f"no quorum: {voters} voted and {rules.quorum} are needed"
    reason = {"majority": "no answer has a majority", "weighted": "no answer has a score above 0"}
    plain = reason.get(strategy, f"no answer has the consensus of {rules.threshold:.0%}")
    return f"{plain}; vetoed: {', '.join(removed)}" if removed else plain
