"""The logs of one model's sampling, open for appending together."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from distill.sampling.history import Logs
from distill.sampling.journal import Journal
from distill.store import jsonl


class Writers:
    """Opens the logs and the journal for appending; use as a context manager."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._stack = ExitStack()

    def __enter__(self) -> Writers:
        logs = self._logs
        with ExitStack() as opening:
            self.traces = opening.enter_context(jsonl.Log(logs.traces))
            self.failures = opening.enter_context(jsonl.Log(logs.failures))
            self.grades, self.rates, self.censored = (
                opening.enter_context(jsonl.Log(path)) if path else None
                for path in (logs.grades, logs.rates, logs.censored)
            )
            self.replies = opening.enter_context(Journal(logs.replies)) if logs.replies else None
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)
