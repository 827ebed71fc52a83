"""Filters decide whether a trace is fit to train on. One file per kind.

A kind has a `Config` and `build(config, context) -> Filter`; each looks at one trace and says why it rejects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from distill.chat import Tags, Tokenizer
from distill.types import Outcome, Problem, Trace
from distill.verifiers import Verifiers

Filter = Callable[[Problem, Trace], Outcome]


@dataclass(frozen=True)
class Context:
    """What filters may need besides the trace. The student's tokenizer is loaded only when a filter asks for it."""

    student: str
    """Local folder or Hub id whose tokenizer counts lengths."""
    revision: str | None = None
    tags: Tags = field(default_factory=Tags)
    """Think tags of the model that wrote the traces."""
    verifiers: Verifiers = field(default_factory=Verifiers)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.student, self.revision)


PASS = Outcome(passed=True)
