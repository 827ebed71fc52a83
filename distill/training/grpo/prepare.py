"""Everything before the first step of GRPO: prompts, rewards that were tried, setup, and the files of the processes."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from distill.errors import InputError
from distill.machine import hardware
from distill.models import presets
from distill.models.chat import Tokenizer
from distill.models.presets import Student
from distill.rewards import Context
from distill.run import Run, stamp
from distill.training import config as settings
from distill.training.grpo import config as grpo_config
from distill.training.grpo import prompts, reward_probe
from distill.training.grpo.config import Config
from distill.training.grpo.trainer import Job
from distill.training.sft.prepare import foretell, write
from distill.types import Problem

LOG = logging.getLogger("distill")


class Prepared(NamedTuple):
    job: Job
    prompts: prompts.Chosen
    tried: dict[str, list[float]]
    """What each reward gave to synthetic completions."""


def prepare(
    run: Run,
    student: Student,
    config: Config,
    problems: Sequence[Problem],
    rates: Mapping[str, float],
    *,
    keep: bool = True,
) -> Prepared:
    """Write grpo/prompts.parquet and `training/grpo/`, and decide how to train.

    Args:
        keep: False writes and removes nothing in the run folder; what would be removed is told.

    Raises:
        InputError: a reward that can never fire, no prompt left, or settings that do not go together.
    """
    _check(config, student)
    tokenizer = Tokenizer(student.model, student.revision, presets.template(student))
    widest = config.model_copy(update={"max_length": config.max_length or settings.context(student)})
    longest = settings.length(widest, student, "grpo")
    path, room = run.grpo / "prompts.parquet", longest - config.max_completion_length
    with tempfile.TemporaryDirectory() as aside:
        written = path if keep else Path(aside) / path.name
        chosen = prompts.write(written, problems, rates, config.pass_rate, tokenizer, student.think, room)
        made_of = stamp(written)
    LOG.info(
        "grpo: %d prompts of up to %d tokens; %d left out by their pass rate, %d as too long, %d of unknown rate",
        *(chosen.rows, chosen.longest, chosen.outside, chosen.too_long, chosen.unknown),
    )
    trying = Context(
        tokenizer,
        student.eos or tokenizer.special("eos_token"),
        student.think,
        config.num_generations,
        config.max_completion_length,
    )
    tried = reward_probe.check(config.rewards, trying, problems)
    fitted = config.model_copy(update={"max_length": chosen.longest + config.max_completion_length})
    plain = settings.job(run, student, fitted, tokenizer, rows=path, batches="grouped", stage="grpo")
    spread = plain.setup
    _whole_groups(config, spread.micro_batch * spread.accumulation)
    groups = spread.batch // config.num_generations
    told = grpo_config.arguments(config)
    if "use_vllm" in told:
        told["vllm_max_model_length"] = spread.max_length  # else the cache is laid out for the model's whole context
    job = Job(
        **dict(plain),
        rewards=config.rewards,
        tags=student.think,
        order=config.order,
        steps=config.steps or -(-round((config.epochs or 1) * chosen.rows) // groups) * config.num_iterations,
        arguments=told,
        limits=config.limits,
        samples=str(run.grpo / "samples.jsonl"),
        samples_every=config.samples_every,
    )
    (write if keep else foretell)(job, made_of["hash"] if made_of else "", "grpo")
    return Prepared(job, chosen, tried)


def _check(config: Config, student: Student) -> None:
    if config.rollouts in ("server", "colocate") and not hardware.gpus():
        raise InputError(
            f"{config.rollouts} needs a GPU and this machine has none", where="grpo.rollouts", fix="use generate"
        )
    if config.beta and student.rope:
        raise InputError(
            f"the reference model would not have the stretched positions of {student.name}",
            where="grpo.beta",
            fix="set it to 0, or start from a student that sft made",
        )


def _whole_groups(config: Config, rows: int) -> None:
    """
    Args:
        rows: completions of one process in a step; rewards that compare a group must see all of it.
    """
    if rows % config.num_generations:
        raise InputError(
            f"each process has {rows} completions a step, which are no whole groups of {config.num_generations}",
            where="grpo.batch_size",
            fix="make it a multiple of num_generations × processes",
        )
