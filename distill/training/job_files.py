"""The files of a job, written before its processes start; checkpoints of another job make way."""

from __future__ import annotations

import shutil
from pathlib import Path

from distill.planning import files
from distill.progress import LOG
from distill.run import write_json
from distill.training import callbacks
from distill.training.job import TrainingJob

_FINGERPRINT = "fingerprint"


def write(job: TrainingJob, made_of: str, stage: str = "sft") -> None:
    """Write the job's files and remove checkpoints that belong to another job.

    Args:
        made_of: a hash that tells the job's rows from others.
    """
    folder = Path(job.folder)
    if job.setup.strategy != "single":
        files.write(folder, job.setup, attention=job.attention)
    if _foreign_checkpoints(job, made_of):
        LOG.warning("%s: checkpoints of other settings or rows are removed: %s", stage, job.checkpoint_folder)
        shutil.rmtree(job.checkpoint_folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FINGERPRINT).write_text(job.fingerprint(made_of))
    newest = callbacks.newest_checkpoint(job.checkpoint_folder)
    if newest is not None:
        LOG.info("%s: goes on from %s", stage, newest.name)
    write_json(folder / "job.json", job.model_dump(mode="json"))  # last: further nodes start when they see it


def preview_checkpoints(job: TrainingJob, made_of: str, stage: str = "sft") -> None:
    """Say what `write` would do to the checkpoints that are there."""
    if _foreign_checkpoints(job, made_of):
        LOG.warning("%s: checkpoints of other settings or rows would be removed: %s", stage, job.checkpoint_folder)
    elif (newest := callbacks.newest_checkpoint(job.checkpoint_folder)) is not None:
        LOG.info("%s: would go on from %s", stage, newest.name)


def _foreign_checkpoints(job: TrainingJob, made_of: str) -> bool:
    """Whether there are checkpoints and they are not of this job."""
    fingerprint_file = Path(job.folder) / _FINGERPRINT
    is_own = fingerprint_file.is_file() and fingerprint_file.read_text() == job.fingerprint(made_of)
    return job.checkpoint_folder.exists() and not is_own
