"""sft: fine-tune the student on the kept traces with TRL's SFTTrainer."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from distill import chat, hardware, presets
from distill.chat import Tokenizer
from distill.errors import InputError, RunError
from distill.presets import Student
from distill.progress import Progress
from distill.run import Run
from distill.sampling.engine import SMALL
from distill.stages import Job, Summary
from distill.types import Message, Record

if TYPE_CHECKING:
    from datasets import Dataset


class Config(Record):
    data: str | None = None
    """Another run folder whose sft set to train on instead of this run's."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many rows."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the set; the student preset's when not given, as with the learning rate."""
    learning_rate: float | None = Field(None, gt=0)
    batch_size: int = Field(64, ge=1)
    """Sequences (packed rows when packing) per optimizer step, over all devices."""
    device_batch_size: int = Field(1, ge=1)
    max_length: int = Field(32768, ge=16)
    """Longest prompt + completion, student tokens. Longer rows are left out and counted, never cut."""
    packing: bool = True
    """Fill rows of `max_length` with whole documents that do not see one another."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """`eager` is the faster one for short rows on a CPU; `flash_attention_2` needs the flash-attn extra."""
    schedule: Literal["cosine", "linear", "constant_with_warmup", "cosine_with_min_lr"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps."""
    weight_decay: float = Field(0.0, ge=0)
    adam_beta2: float = Field(0.999, gt=0, lt=1)
    gradient_checkpointing: bool = True
    seed: int = 0


def inputs(job: Job[Config]) -> dict[str, Path]:
    found = {str(path): path for path in [_set(job)]}
    if Path(job.student.model).is_dir():
        found[job.student.model] = Path(job.student.model)
    return found


def outputs(run: Run) -> list[Path]:
    return [run.student]


def _set(job: Job[Config]) -> Path:
    run = Run(Path(job.config.data)) if job.config.data else job.run
    return run.sft / "train.parquet"


def run(job: Job[Config]) -> Summary:
    """Train and save `student/` with tokenizer, chat template and generation config, so that vLLM serves it.

    Raises:
        InputError: no set to train on, a student that needs GPUs, or a hyperparameter that nothing gives.
        RunError: every row is longer than `max_length`, or the loss is not finite.
    """
    student = job.student
    if not _set(job).is_file():
        raise InputError(
            "there is no set to train on",
            where=str(_set(job)),
            fix="run `distill filter` first, or name a run with --data",
        )
    if (student.parameters or 0) > SMALL and not hardware.gpus():
        raise InputError(
            f"fine-tuning {student.name} ({student.model}) needs GPUs ({student.hardware}) and this machine has none",
            fix="run the same command where they are; the run folder can be copied there",
        )
    rows, dropped, tokenizer = _rows(job)
    trainer, partial = _trainer(job, rows, tokenizer)
    result = trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if not losses or not math.isfinite(losses[-1]):
        raise RunError(f"the loss is {losses[-1] if losses else 'missing'}", fix="lower sft.learning_rate")
    _save(trainer, partial, job.run.student)
    return {
        "rows": len(rows),
        "dropped_too_long": dropped,
        "tokens": int(sum(len(ids) for ids in rows["input_ids"])),
        "steps": trainer.state.global_step,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "train_seconds": round(result.metrics["train_runtime"], 1),
    }


def _rows(job: Job[Config]) -> tuple[Dataset, int, Tokenizer]:
    """Token ids and labels (-100 outside the completion) of the rows that fit, and how many do not."""
    import datasets

    datasets.disable_progress_bars()
    student, limit = job.student, job.config.limit
    tokenizer = Tokenizer(student.model, student.revision, presets.template(student))
    eos = student.eos or tokenizer.special("eos_token")
    loaded = datasets.load_dataset("parquet", data_files=str(_set(job)), split="train")
    built = []
    for row in loaded.select(range(min(limit or len(loaded), len(loaded)))):
        messages = [Message.model_validate(message) for message in row["messages"]]
        example = chat.example(tokenizer, messages, student.think, eos)
        if len(example.ids) <= job.config.max_length:
            labels = [token if learn else -100 for token, learn in zip(example.ids, example.mask, strict=True)]
            built.append({"input_ids": list(example.ids), "labels": labels})
    dropped = min(limit or len(loaded), len(loaded)) - len(built)
    if not built:
        raise RunError(
            f"all {dropped:,} rows are longer than {job.config.max_length:,} tokens",
            where=str(_set(job)),
            fix="raise sft.max_length",
        )
    return datasets.Dataset.from_list(built), dropped, tokenizer


def _trainer(job: Job[Config], rows: Dataset, tokenizer: Tokenizer) -> tuple[Any, Path]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    config, student = job.config, job.student
    partial = job.run.student.with_name("student.partial")
    shutil.rmtree(partial, ignore_errors=True)
    cuda = torch.cuda.is_available()
    if not cuda:
        hardware.keep_freed_memory()
    devices = int(os.environ.get("WORLD_SIZE", "1"))
    arguments = SFTConfig(
        output_dir=str(partial),
        num_train_epochs=_given(config.epochs, student.epochs, "epochs", student),
        learning_rate=_given(config.learning_rate, student.learning_rate, "learning_rate", student),
        per_device_train_batch_size=config.device_batch_size,
        gradient_accumulation_steps=max(1, config.batch_size // (config.device_batch_size * devices)),
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,  # below 1: a share of all steps
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        # rows that do not fit are gone already; without packing nothing may cut the others
        max_length=config.max_length if config.packing else None,
        packing=config.packing,
        # without packing, rows of like length in a batch save most of the padding
        train_sampling_strategy="random" if config.packing else "group_by_length",
        gradient_checkpointing=config.gradient_checkpointing,
        bf16=True,
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        eos_token=student.eos,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
    )
    slow = AutoTokenizer.from_pretrained(student.model, revision=student.revision)
    slow.chat_template = tokenizer.template
    # full precision weights under bf16 autocast: small updates vanish in bf16 weights
    model = AutoModelForCausalLM.from_pretrained(
        student.model, revision=student.revision, dtype=torch.float32, attn_implementation=config.attention
    )
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=slow)
    _report(trainer, job.run, job.progress)
    return trainer, partial


def _given(recipe: float | None, preset: float | None, name: str, student: Student) -> float:
    value = recipe if recipe is not None else preset
    if value is None:
        raise InputError(
            f"neither the recipe nor the student {student.name} gives it",
            where=f"sft.{name}",
            fix=f"--set sft.{name}=…",
        )
    return value


def _report(trainer: Any, run: Run, progress: Progress) -> None:
    """Send the trainer's log to progress and metrics.jsonl instead of its own printer."""
    from transformers import PrinterCallback, TrainerCallback

    class Report(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress.start("sft", state.max_steps, unit="steps")

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if logs and "loss" in logs:
                run.add_metrics([{"stage": "sft", "step": state.global_step, **logs}])
                progress.advance(note=f"loss {logs['loss']:.3f}")

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress.stop()

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Report())


def _save(trainer: Any, partial: Path, student: Path) -> None:
    """Save in the base's precision with what serving needs, then swap the finished folder in."""
    import torch
    from transformers import AutoConfig

    model, tokenizer = trainer.model, trainer.processing_class
    source = AutoConfig.from_pretrained(model.config._name_or_path)
    model.to(getattr(source, "dtype", None) or torch.bfloat16)
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = True
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    if student.exists():
        shutil.rmtree(student)
    os.replace(partial, student)
