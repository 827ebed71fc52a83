"""What a sampling run is to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.backends import Backend, ChosenBackend
from distill.models.model import Model
from distill.sampling.price import Price
from distill.sampling.schedule import StoppingRule
from distill.types import Problem, Sampling


@dataclass(frozen=True)
class SamplingJob:
    """What to sample: attempts of `model` at each problem, as many as the rule says."""

    problems: Sequence[Problem]
    model: Model
    sampling: Sampling
    rule: StoppingRule
    seed: int
    backend: ChosenBackend
    """What `choose_backend` came to, never `auto`."""
    budgets: tuple[int, ...] = ()
    """Completion tokens at which a trace is looked at and, if it is no loop, continued; the last is the end. Without
    any, `sampling.max_tokens` is the only one."""
    graded: bool = False
    """Judge each trace when it is finished, as the rule needs it and the live view shows it."""
    retry_failed: bool = False
    """Ask again what the engine refused before."""
    preflight: bool = False
    """Sample a few tokens before all others and refuse an engine that does not do what is meant."""
    system_prompt: bool | None = None
    """False where the model's authors advise against one."""
    price: Price | None = None
    on_metrics: Callable[[dict[str, object]], None] = field(default=lambda row: None)
    """Takes a row of metrics every few seconds."""
    on_reply: Callable[[float, float, int], None] = field(default=lambda began, ended, tokens: None)
    """Takes each reply: when its request began and ended, seconds on the monotonic clock, and its tokens."""

    @property
    def token_budgets(self) -> tuple[int, ...]:
        return self.budgets or (self.sampling.max_tokens,)

    def new_backend(self, log: Path) -> Backend:
        """The backend that the job names, not opened yet; `log` is a folder for what an engine prints."""
        return self.backend.build(self.model, log)

    def outline(self, logged: int) -> str:
        """The job in words for a person; `logged` traces are in the log already."""
        rule = self.rule
        sampling = self.sampling
        up_to = "up to " if rule.adaptive else ""
        plural = "s" if rule.samples > 1 else ""
        text = f"{len(self.problems):,} problems × {up_to}{rule.samples:,} sample{plural}"
        if rule.stop_at:
            text += f", each until {rule.stop_at} are correct"
        if rule.give_up:
            text += f" or {rule.give_up} were wrong and none correct"
        text += f"; at most {' → '.join(f'{end:,}' for end in self.token_budgets)} tokens each"
        text += f" at temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
        endpoint_count = len(self.backend.endpoints)
        location = ""
        if endpoint_count:
            location = f" at {endpoint_count} endpoint{'s' if endpoint_count > 1 else ''}"
        text += f"; {self.model.name} through {self.backend.kind}{location}"
        if logged:
            text += f"; {logged:,} traces are in the log already"
        return text
