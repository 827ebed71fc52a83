"""Everything before the first step of GRPO: prompts, rewards that were tried, setup, and the files of the processes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from distill.errors import InputError
from distill.machine import hardware
from distill.models import presets
from distill.models.chat import Tokenizer
from distill.models.presets import Student
from distill.progress import LOG
from distill.rewards import RewardContext
from distill.run import Run, stamp
from distill.training import config as settings
from distill.training.grpo import config as grpo_config
from distill.training.grpo import prompts, reward_probe
from distill.training.grpo.config import Config
from distill.training.grpo.trainer import GrpoJob
from distill.training.job_files import preview_checkpoints, write
from distill.types import Problem


class PreparedGrpo(NamedTuple):
    job: GrpoJob
    prompts: prompts.ChosenPrompts
    reward_values: dict[str, list[float]]
    """The different values that each reward gave to synthetic completions."""


def prepare(
    run: Run,
    student: Student,
    config: Config,
    problems: Sequence[Problem],
    rates: Mapping[str, float],
    *,
    keep: bool = True,
) -> PreparedGrpo:
    """Write grpo/prompts.parquet and `training/grpo/`, and decide how to train.

    Args:
        keep: False writes and removes nothing in the run folder; what would be removed is told.

    Raises:
        InputError: a reward that can never fire, no prompt left, or settings that do not go together.
    """
    _check_config(config, student)
    tokenizer = Tokenizer(student.model, student.revision, presets.template(student))
    widest_config = config.model_copy(update={"max_length": config.max_length or settings.context_length(student)})
    longest = settings.max_row_length(widest_config, student, "grpo")
    path = run.grpo / "prompts.parquet"
    max_prompt_tokens = longest - config.max_completion_length
    with tempfile.TemporaryDirectory() as temporary:
        written = path if keep else Path(temporary) / path.name
        chosen = prompts.write(written, problems, rates, config.pass_rate, tokenizer, student.think, max_prompt_tokens)
        prompts_stamp = stamp(written)
    LOG.info(
        "grpo: %d prompts of up to %d tokens; %d left out by their pass rate, %d as too long, %d of unknown rate",
        *(chosen.rows, chosen.longest, chosen.outside, chosen.too_long, chosen.unknown),
    )
    context = RewardContext(
        tokenizer,
        student.eos or tokenizer.special("eos_token"),
        student.think,
        config.num_generations,
        config.max_completion_length,
    )
    probed = reward_probe.check(config.rewards, context, problems)
    fitted_config = config.model_copy(update={"max_length": chosen.longest + config.max_completion_length})
    training_job = settings.training_job(
        run, student, fitted_config, tokenizer, rows=path, batches="grouped", stage="grpo"
    )
    setup = training_job.setup
    _check_groups(config, setup.micro_batch * setup.accumulation)
    groups = setup.batch // config.num_generations
    steps = config.steps
    if not steps:
        prompts_in_all = round((config.epochs or 1) * chosen.rows)
        steps = -(-prompts_in_all // groups) * config.num_iterations
    trl_arguments = grpo_config.arguments(config)
    if "use_vllm" in trl_arguments:
        # else the cache is laid out for the model's whole context
        trl_arguments["vllm_max_model_length"] = setup.max_length
    job = GrpoJob(
        **dict(training_job),
        rewards=config.rewards,
        tags=student.think,
        order=config.order,
        steps=steps,
        arguments=trl_arguments,
        limits=config.limits,
        samples=str(run.grpo / "samples.jsonl"),
        samples_every=config.samples_every,
    )
    made_of = prompts_stamp["hash"] if prompts_stamp else ""
    if keep:
        write(job, made_of, "grpo")
    else:
        preview_checkpoints(job, made_of, "grpo")
    return PreparedGrpo(job, chosen, probed)


def _check_config(config: Config, student: Student) -> None:
    """Refuse settings that do not go together.

    Raises:
        InputError: no GPU to sample on, or a reference model that would differ from the student.
    """
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


def _check_groups(config: Config, completions: int) -> None:
    """Refuse a batch size that cuts groups: rewards that compare a group must see all of it.

    Args:
        completions: of one process in a step.

    Raises:
        InputError: they are no whole number of groups.
    """
    if completions % config.num_generations:
        raise InputError(
            f"each process has {completions} completions a step, which are no whole groups of {config.num_generations}",
            where="grpo.batch_size",
            fix="make it a multiple of num_generations × processes",
        )
