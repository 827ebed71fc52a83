"""What sampling has cost so far and what came of it, for the live view, metrics.jsonl and the end."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from distill.models.request import BackendStatus
from distill.progress import duration
from distill.sampling.price import Price
from distill.sampling.queue import OpenProblem

FATES = ("correct", "wrong", "undecided", "ungraded", "cut", "loop", "surplus")
"""What became of a trace's tokens; those of cancelled and refused requests are not known one by one."""


@dataclass
class Tally:
    """What one call of `collect` did."""

    logged_traces: int = 0
    """Traces that were in the log already."""
    logged_tokens: int = 0
    """Completion tokens of the traces that were in the log already."""
    problems_before: int = 0
    """Problems that needed nothing more."""
    replies: int = 0
    """Requests that were replied to."""
    refused: int = 0
    """Requests that the engine refused."""
    cancelled: int = 0
    """Samples that were cancelled, their problem being decided without them."""
    continued: int = 0
    """Requests that went on with a cut trace."""
    problems: int = 0
    """Problems that ended, those of earlier calls included."""
    solved: int = 0
    """Problems that ended with a correct sample."""
    given_up: int = 0
    """Problems that ended early without a correct sample."""
    accepted: int = 0
    """Correct samples that count, up to k a problem."""
    tokens: int = 0
    """Completion tokens sampled by this call."""
    prompt_tokens: int = 0
    """Prompt tokens sent by this call: the prompt once for each request, and again what a continued trace had said."""
    seconds: float = 0.0
    """Time from the engine's readiness to the last trace."""
    engine: str = ""
    engines: int = 1
    """Endpoints that worked at the same time, at most."""
    fates: Counter[str] = field(default_factory=Counter)
    """Completion tokens of this call by what became of them."""
    began: float = 0.0
    """When the engine was ready, on the monotonic clock."""

    def count_reply(self, prompt: int, tokens: int) -> None:
        self.replies += 1
        self.prompt_tokens += prompt
        self.tokens += tokens
        self.seconds = time.monotonic() - self.began

    def count_problem(self, open_problem: OpenProblem) -> None:
        """A problem has been sampled enough: what finished beyond its end was not needed."""
        race = open_problem.race
        self.problems += 1
        self.solved += race.correct > 0
        self.given_up += race.correct == 0 and race.counted < race.rule.samples
        self.accepted += race.correct
        for sample, (tokens, fate) in open_problem.finished_samples.items():
            if sample >= race.counted:
                self.fates[fate] -= tokens
                self.fates["surplus"] += tokens

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second."""
        if self.seconds <= 0:
            return 0.0
        return self.tokens / self.seconds

    @property
    def tokens_per_accepted(self) -> float:
        """Teacher tokens for each accepted trace, those of earlier calls included."""
        return (self.logged_tokens + self.tokens) / max(1, self.accepted)

    def fate_shares(self) -> dict[str, float]:
        """Share of the tokens by fate."""
        return {fate: self.fates[fate] / self.tokens for fate in FATES if self.tokens and self.fates[fate] > 0}

    def view(self, total: int, under_way: int, status: BackendStatus, price: Price | None) -> dict[str, str]:
        """The live view, heading to text.

        Args:
            status: what the backend says of itself, as a pool of endpoints does.
        """
        lines = {
            "problems": f"{self.problems:,} of {total:,} done, {self.solved:,} solved, {self.given_up:,} given up",
            "traces": f"{self.replies:,} new, {self.accepted:,} accepted",
            "in flight": f"{under_way:,}",
            "tokens": f"{self.tokens:,}, {self.tokens_per_second:,.0f}/s",
        }
        if self.accepted:
            lines["per accepted"] = f"{self.tokens_per_accepted:,.0f} tokens"
        shares = ", ".join(f"{fate} {share:.0%}" for fate, share in self.fate_shares().items())
        if shares:
            lines["went to"] = shares
        if self.cancelled or self.refused or self.continued:
            lines["requests"] = f"{self.continued:,} continued, {self.cancelled:,} cancelled, {self.refused:,} refused"
        lines |= _endpoints(status)
        if price:
            spent = price.cost(self.prompt_tokens, self.tokens, self.seconds * status.get("up", 1))
            lines["cost"] = f"{spent:,.2f}"
        ended = self.problems - self.problems_before
        if ended and total > self.problems:
            lines["ETA"] = duration((total - self.problems) * self.seconds / ended)
        return lines

    def metrics_row(self, total: int, under_way: int) -> dict[str, object]:
        """One row of metrics.jsonl."""
        return {
            "stage": "generate",
            "time": round(time.time(), 1),
            "problems": self.problems,
            "of": total,
            "solved": self.solved,
            "given_up": self.given_up,
            "traces": self.logged_traces + self.replies,
            "accepted": self.accepted,
            "in_flight": under_way,
            "tokens": self.tokens,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "fates": dict(self.fates),
            "cancelled": self.cancelled,
            "refused": self.refused,
        }


def _endpoints(status: BackendStatus) -> dict[str, str]:
    """A line on a pool's endpoints; none for a backend that has no pool."""
    if "up" not in status:
        return {}
    states = ", ".join(f"{status[name]} {name}" for name in ("up", "ejected", "draining") if status.get(name))
    text = f"{states or 'none works'}, {status.get('queued', 0):,} requests queued there"
    if status.get("retries"):
        text += f"; {status['retries']:,} retries, {status.get('wasted_tokens', 0):,} tokens lost with them"
    return {"endpoints": text}
