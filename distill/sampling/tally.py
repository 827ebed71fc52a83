"""What sampling has cost so far and what came of it, for the live view, metrics.jsonl and the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distill.progress import duration
from distill.sampling.price import Price
from distill.sampling.queue import Entry

FATES = ("correct", "wrong", "undecided", "ungraded", "cut", "loop", "surplus")
"""What became of a trace's tokens; those of cancelled and refused requests are not known one by one."""


@dataclass
class Tally:
    """What one call of `collect` did."""

    found: int = 0
    """Traces that were in the log already."""
    found_tokens: int = 0
    """Completion tokens of the traces that were in the log already."""
    ended_before: int = 0
    """Problems that needed nothing more."""
    sampled: int = 0
    """Requests that were replied to."""
    failed: int = 0
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

    def spend(self, prompt: int, tokens: int) -> None:
        self.sampled += 1
        self.prompt_tokens += prompt
        self.tokens += tokens
        self.seconds = time.monotonic() - self.began

    def end(self, open_problem: Entry) -> None:
        """A problem has been sampled enough: what finished beyond its end was not needed."""
        race = open_problem.race
        self.problems += 1
        self.solved += race.right > 0
        self.given_up += race.right == 0 and race.seen < race.rule.samples
        self.accepted += race.right
        for sample, (tokens, fate) in open_problem.spent.items():
            if sample >= race.seen:
                self.fates[fate] -= tokens
                self.fates["surplus"] += tokens

    @property
    def rate(self) -> float:
        """Tokens a second."""
        if self.seconds <= 0:
            return 0.0
        return self.tokens / self.seconds

    @property
    def per_accepted(self) -> float:
        """Teacher tokens for each accepted trace, those of earlier calls included."""
        return (self.found_tokens + self.tokens) / max(1, self.accepted)

    def shares(self) -> dict[str, float]:
        """Share of the tokens by fate."""
        return {fate: self.fates[fate] / self.tokens for fate in FATES if self.tokens and self.fates[fate] > 0}

    def view(self, total: int, under_way: int, status: Mapping[str, Any], price: Price | None) -> dict[str, str]:
        """The live view, heading to text.

        Args:
            status: what the backend says of itself, as a pool of endpoints does.
        """
        lines = {
            "problems": f"{self.problems:,} of {total:,} done, {self.solved:,} solved, {self.given_up:,} given up",
            "traces": f"{self.sampled:,} new, {self.accepted:,} accepted",
            "in flight": f"{under_way:,}",
            "tokens": f"{self.tokens:,}, {self.rate:,.0f}/s",
        }
        if self.accepted:
            lines["per accepted"] = f"{self.per_accepted:,.0f} tokens"
        shares = ", ".join(f"{fate} {share:.0%}" for fate, share in self.shares().items())
        if shares:
            lines["went to"] = shares
        if self.cancelled or self.failed or self.continued:
            lines["requests"] = f"{self.continued:,} continued, {self.cancelled:,} cancelled, {self.failed:,} refused"
        lines |= _endpoints(status)
        if price:
            spent = price.of(self.prompt_tokens, self.tokens, self.seconds * status.get("up", 1))
            lines["cost"] = f"{spent:,.2f}"
        ended = self.problems - self.ended_before
        if ended and total > self.problems:
            lines["ETA"] = duration((total - self.problems) * self.seconds / ended)
        return lines

    def row(self, total: int, under_way: int) -> dict[str, Any]:
        """One row of metrics.jsonl."""
        return {
            "stage": "generate",
            "time": round(time.time(), 1),
            "problems": self.problems,
            "of": total,
            "solved": self.solved,
            "given_up": self.given_up,
            "traces": self.found + self.sampled,
            "accepted": self.accepted,
            "in_flight": under_way,
            "tokens": self.tokens,
            "tokens_per_second": round(self.rate, 1),
            "fates": dict(self.fates),
            "cancelled": self.cancelled,
            "refused": self.failed,
        }


def _endpoints(status: Mapping[str, Any]) -> dict[str, str]:
    """A line on a pool's endpoints; none for a backend that has no pool."""
    if "up" not in status:
        return {}
    states = ", ".join(f"{status[name]} {name}" for name in ("up", "ejected", "draining") if status.get(name))
    text = f"{states or 'none works'}, {status.get('queued', 0):,} requests queued there"
    if status.get("retries"):
        text += f"; {status['retries']:,} retries, {status.get('wasted_tokens', 0):,} tokens lost with them"
    return {"endpoints": text}
