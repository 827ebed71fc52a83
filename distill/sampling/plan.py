"""What a sampling run is to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.backends import Model
from distill.sampling.price import Price
from distill.sampling.schedule import Rule
from distill.types import Problem, Sampling


@dataclass(frozen=True)
class Wanted:
    """What to sample: attempts of `model` at each problem, as many as the rule says."""

    problems: Sequence[Problem]
    model: Model
    sampling: Sampling
    rule: Rule
    seed: int
    backend: Mapping[str, Any]
    budgets: tuple[int, ...] = ()
    """Completion tokens at which a trace is looked at and, if it is no loop, continued; the last is the end. Without
    any, `sampling.max_tokens` is the only one."""
    graded: bool = False
    """Judge each trace when it is finished, as the rule needs it and the live view shows it."""
    retry_failed: bool = False
    probed: bool = False
    """Sample a few tokens first and look whether they are what was meant."""
    system_prompt: bool | None = None
    """False where the model's authors advise against one."""
    price: Price | None = None
    report: Callable[[dict[str, Any]], None] = field(default=lambda row: None)
    """Takes a row of metrics every few seconds."""
    replied: Callable[[float, float, int], None] = field(default=lambda began, ended, tokens: None)
    """Takes each reply: when its request began and ended, seconds on the monotonic clock, and its tokens."""

    @property
    def ends(self) -> tuple[int, ...]:
        return self.budgets or (self.sampling.max_tokens,)

    def outline(self, known: int) -> str:
        """In words for a person; `known` traces are in the log already."""
        rule, sampling = self.rule, self.sampling
        up_to = "up to " if rule.adaptive else ""
        words = f"{len(self.problems):,} problems × {up_to}{rule.samples:,} sample{'s' if rule.samples > 1 else ''}"
        if rule.stop_at:
            words += f", each until {rule.stop_at} are correct"
        if rule.give_up:
            words += f" or {rule.give_up} were wrong and none correct"
        words += f"; at most {' → '.join(f'{end:,}' for end in self.ends)} tokens each"
        words += f" at temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
        places = len(self.backend.get("endpoints") or ())
        at = f" at {places} endpoint{'s' if places > 1 else ''}" if places else ""
        words += f"; {self.model.name} through {self.backend['kind']}{at}"
        return words + (f"; {known:,} traces are in the log already" if known else "")
