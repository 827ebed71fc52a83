"""Filters decide whether a trace is fit to train on. One file per kind.

A kind has a `Config` and `build(config, context) -> Filter`. A filter looks at one trace, in any process of any
machine; one that compares traces has a last word once all were looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Protocol

from distill import plugins
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.types import Outcome, Problem, Trace
from distill.verifiers import Verifiers


@dataclass(frozen=True, slots=True)
class Candidate:
    """What `Filter.settle` sees of a trace once every check has looked at it."""

    number: int
    """Place in the ledger; names the trace in what `settle` yields."""
    trace_id: str
    problem_id: str
    sample: int
    passes_others: bool
    """Whether all other checks accept it."""
    correct: bool | None
    """Verdict of the check `correct`; None where it is undecidable or switched off."""
    first_outcome: Callable[[], Outcome]
    """Tells this filter's first word; few ask for it."""
    feature: bytes | None


class Candidates(Protocol):
    """All traces, in an order that depends on their content only."""

    def __iter__(self) -> Iterator[Candidate]:
        """By problem, then sample, then trace id; streams, and may be asked for again."""
        ...

    def load(self, numbers: Iterable[int]) -> Iterator[tuple[int, Problem, Trace]]:
        """The records behind candidates, in the order asked for."""
        ...


class Filter(ABC):
    """Says of traces whether they are fit to train on; all that a kind may offer, with what holds where it does not.

    Making one is quick: it is asked for its `basis` wherever a stage looks whether its result still holds. What takes
    long to load waits for the first trace.
    """

    needs: tuple[str, ...] = ()
    """Other checks that must be on, since this one goes by their outcomes."""

    @abstractmethod
    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        """The first word on a trace, in a worker process; it holds where `settle` says nothing."""

    def basis(self) -> object:
        """What outcomes depend on besides trace, problem, settings, think tags and code: plain data, to be hashed.

        None of a user's own file counts as all verifiers that the problems name.
        """
        return None

    def feature(self, problem: Problem, trace: Trace) -> bytes | None:
        """What `settle` needs to know of a trace, at most 1 kB; asked in a worker, after `__call__`."""
        return None

    def settle(self, candidates: Candidates) -> Iterator[tuple[int, Outcome]]:
        """(number, outcome) of each candidate whose outcome changes; once, in one process."""
        return iter(())


@dataclass(frozen=True)
class Context:
    """What filters may need besides the trace. The student's tokenizer is loaded only when a filter asks for it."""

    student: str
    """Local folder or Hub id whose tokenizer counts lengths."""
    revision: str | None = None
    template: str | None = None
    """The student's chat template where its preset names one; many bases have none of their own."""
    tags: Tags = field(default_factory=Tags)
    """Think tags of the model that wrote the traces."""
    benchmarks: tuple[str, ...] = ()
    """Problem sets, `name:split`, that the student will be measured on."""
    cache: Path | None = None
    """Where a judge model's replies are kept, so that nothing is asked twice."""
    verifiers: Verifiers = field(default_factory=Verifiers)
    verifier_kinds: tuple[str, ...] = ()
    """Verifiers that the problems name and that are a user's own file; outcomes depend on what these files hold."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.student, self.revision, self.template)


PASS = Outcome(passed=True)


class ChosenFilter(plugins.Chosen):
    """A check of a recipe: a kind of filter and its settings."""

    family = "filters"
    contract = "distill.filters.Filter"

    def build(self, context: Context) -> Filter:
        """The filter that these settings make.

        Raises:
            InputError: it cannot be used with them here, or a user's own file gives something else.
        """
        built = self._build(context)
        if not isinstance(built, Filter):
            raise self._misbuilt(built)
        return built


ChosenFilters = Annotated[Mapping[str, ChosenFilter | Literal[False]], plugins.ByName(ChosenFilter)]
