"""One process of a training: reads its job, trains, and leaves its outcome for the process that waits."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from distill.errors import DistillError
from distill.training.callbacks import JobFiles, JobOutcome
from distill.training.job import TrainingJob

J = TypeVar("J", bound=TrainingJob)


def main(path: str, job_type: type[J], train: Callable[[J], None]) -> int:
    """One rank: read the job, train; its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    job = job_type.model_validate_json(Path(path).read_bytes())
    try:
        train(job)
    except DistillError as error:
        # the process that waits for this one repeats it; every rank may fail, one file is enough
        outcome: JobOutcome = {"status": "failed", "what": error.message, "where": error.where, "fix": error.fix}
        JobFiles(Path(job.folder)).outcome.write_text(json.dumps(outcome), encoding="utf-8")
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code or 1
    finally:
        _leave()
    return 0


def _leave() -> None:
    """Ranks part in good order: without it torch warns, and gloo may hang."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
