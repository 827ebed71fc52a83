"""What is shown and reported while sampling goes on."""

from __future__ import annotations

import time

from distill.backends import Backend
from distill.progress import EVERY_SECONDS, Progress
from distill.sampling.plan import SamplingJob
from distill.sampling.tally import Tally

_SHOW_SECONDS = 0.5


class LiveView:
    """Shows the tally on the terminal twice a second, and hands it to the job's `on_metrics` more seldom."""

    def __init__(self, job: SamplingJob, tally: Tally, progress: Progress) -> None:
        self._job = job
        self._tally = tally
        self._progress = progress
        self._shown_at = 0.0
        self._reported_at = 0.0

    def update(self, backend: Backend, in_flight: int) -> None:
        now = time.monotonic()
        if now - self._shown_at < _SHOW_SECONDS:
            return
        self._shown_at = now
        status = backend.status()
        self._tally.engines = max(self._tally.engines, status.get("up", 1))
        total = len(self._job.problems)
        self._progress.show_facts(self._tally.view(total, in_flight, status, self._job.price))
        if now - self._reported_at >= EVERY_SECONDS:
            self._reported_at = now
            self._job.on_metrics(self._tally.metrics_row(total, in_flight))
