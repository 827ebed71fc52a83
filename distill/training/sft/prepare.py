"""Everything before the first step of SFT: rows, audit, lengths, setup, and the files that the processes read."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from distill.models import chat, presets
from distill.models.chat import Tokenizer
from distill.models.presets import Student
from distill.progress import LOG, Progress
from distill.run import Run
from distill.training import config as settings
from distill.training.job import Batching, TrainingJob
from distill.training.job_files import preview_checkpoints, write
from distill.training.sft import audit, lengths, rows
from distill.training.sft.audit import Audit
from distill.training.sft.config import Config
from distill.training.sft.renderer import Renderer

_BATCHING_REASONS: dict[Batching, str] = {
    "packed": "rows are packed, flash-attention skips what documents do not see of one another",
    "grouped": "batches of rows of like length: without flash-attention a packed row costs the square of its length",
}


class PreparedSft(NamedTuple):
    job: TrainingJob
    built: rows.BuiltRows
    audit: Audit


def prepare(
    run: Run,
    student: Student,
    config: Config,
    data: Path,
    progress: Progress,
    *,
    keep: bool = True,
) -> PreparedSft:
    """Render, audit and count the rows, decide how to train, and write it all into `training/` of the run folder.

    Checkpoints of another job (other rows, another learning rate, …) are removed: going on from them would be a mix.

    Args:
        keep: False writes and removes nothing; what would be removed is told.

    Raises:
        RunError: the audit fails, or more than `config.max_dropped` of the rows are too long.
        InputError: nothing fits, or a hyperparameter is missing.
    """
    tokenizer = Tokenizer(student.model, student.revision, presets.template(student))
    rows_path = settings.training_folder(run) / "rows.parquet"
    job = settings.training_job(run, student, config, tokenizer, rows=rows_path, batches=config.batching)
    longest = job.setup.max_length
    audited = audit.check(data, student, tokenizer, job.eos, max_length=longest, limit=config.limit)
    LOG.info("sft: audit: %s", audited.summary)
    for warning in audited.warnings:
        LOG.warning("sft: %s", warning)
    built = rows.build(
        data,
        student,
        tokenizer,
        max_length=longest,
        limit=config.limit,
        rows_path=rows_path,
        progress=progress,
        keep=keep,
    )
    lengths.check(built, longest, config.max_dropped)
    if built.dropped:
        LOG.info("sft: %s", lengths.table(built, longest))
    if config.batching == "auto":
        LOG.info("sft: %s", _BATCHING_REASONS[job.batching])
    if keep:
        write(job, built.made_of)
    else:
        preview_checkpoints(job, built.made_of)
    return PreparedSft(job, built, audited)


def stop_check_beginnings(job: TrainingJob, data: Path, student: Student, count: int) -> tuple[list[list[int]], int]:
    """What `saving.check_stops` lets the student go on from, and the tokens to allow it.

    Returns:
        The first `count` rows that fit, as ids up to the end of their reasoning, and a number of tokens.
    """
    tokenizer = Tokenizer(job.model, job.revision, job.template)
    render = Renderer(tokenizer, student.think, job.eos)
    beginnings: list[list[int]] = []
    max_new_tokens = 0
    for batch in rows.open_parquet(data).iter_batches(batch_size=64, columns=list(rows.COLUMNS)):
        for row in batch.to_pylist():
            turns = rows.messages(row, data)
            example = render(turns).example
            reasoning, close, answer = turns[-1].content.partition(student.think.close)
            if example is None or len(example.ids) > job.setup.max_length or not close:
                continue
            shortened = turns[-1].model_copy(update={"content": reasoning + close})
            beginning = chat.example(tokenizer, [*turns[:-1], shortened], student.think, "").ids
            beginnings.append(list(beginning))
            max_new_tokens = max(max_new_tokens, 2 * len(tokenizer.encode(answer)) + 64)
            if len(beginnings) == count:
                return beginnings, max_new_tokens
    return beginnings, max_new_tokens
