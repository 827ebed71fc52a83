"""One training process: TRL's SFTTrainer made from a job, run to its end, its weights saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import RunError
from distill.machine import hardware
from distill.run import write_json
from distill.training import callbacks
from distill.training.job import Lora, TrainingJob
from distill.training.sft import audit
from distill.training.sft.order import Order

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTConfig


def train(job: TrainingJob) -> None:
    """Train from the newest whole checkpoint, or from the start, and leave weights and outcome in the job's folder.

    Every rank calls it. `outcome.json` says `done`, or `stopped` after a request to stop.

    Raises:
        RunError: the loss is not finite, or the first batch would not train what the rows say.
    """
    files = callbacks.JobFiles(Path(job.folder))
    trainer = build(job)
    audit.check_batch(**_first_batch(trainer), rows_path=Path(job.rows))
    reporter = callbacks.progress_reporter(job, "sft")
    trainer.add_callback(reporter)
    checkpoint = callbacks.newest_checkpoint(job.checkpoint_folder)
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if not losses or not all(map(math.isfinite, losses)):
        bad_steps = [entry["step"] for entry in trainer.state.log_history if not math.isfinite(entry.get("loss", 0))]
        location = f"step {bad_steps[0]}" if bad_steps else "no step at all"
        raise RunError(f"the loss is not finite at {location}", fix="lower sft.learning_rate, or raise sft.warmup")
    stopped = reporter.stopped and trainer.state.global_step < trainer.state.max_steps
    outcome = {
        "status": "stopped" if stopped else "done",
        "steps": trainer.state.global_step,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "train_seconds": round(result.metrics["train_runtime"], 1),
        "resumed_at": callbacks.step_of(checkpoint) if checkpoint else 0,
    }
    if not stopped:
        save(trainer, job)
    if trainer.is_world_process_zero():
        write_json(files.outcome, outcome)


def build(job: TrainingJob) -> Any:
    """The trainer, ready to train; no callback of ours yet."""
    import datasets
    from transformers import PrinterCallback
    from transformers.utils import logging as transformers_logging
    from trl import SFTTrainer

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    rows = datasets.load_dataset(
        "parquet", data_files=job.rows, split="train", cache_dir=str(Path(job.folder) / "cache")
    )
    arguments = config(job)  # before the model: it is what tells transformers about DeepSpeed
    lengths = rows["length"]
    rows = rows.select_columns(["input_ids", "labels"])
    group = job.setup.micro_batch * job.setup.processes // job.setup.sequence_parallel

    peft_config = None
    if job.setup.method != "full":
        peft_config = lora_config(job.lora, job.lora_targets)

    class OrderedSFTTrainer(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
            if job.batching == "packed":
                return Order([1] * len(self.train_dataset), 1, job.seed)
            return Order(lengths, group, job.seed)

    trainer = OrderedSFTTrainer(
        model=load_model(job),
        args=arguments,
        train_dataset=rows,
        processing_class=load_tokenizer(job),
        peft_config=peft_config,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def config(job: TrainingJob) -> SFTConfig:
    """TRL's arguments."""
    from trl import SFTConfig

    packed = job.batching == "packed"
    sequence_parallel = job.setup.sequence_parallel
    return SFTConfig(
        **arguments(job),
        num_train_epochs=job.schedule.epochs,
        # rows that do not fit are gone already; without packing nothing may cut the others
        max_length=job.setup.max_length if packed else None,
        packing=packed,
        pad_to_multiple_of=sequence_parallel if sequence_parallel > 1 else None,
        eos_token=job.eos,
    )


def arguments(job: TrainingJob) -> dict[str, Any]:
    """The arguments that all of TRL's trainers are given alike."""
    import torch

    setup = job.setup
    schedule = job.schedule
    cuda = torch.cuda.is_available() and not setup.cpu
    if not cuda:
        hardware.keep_freed_memory()
    scheduler_kwargs = None
    if schedule.kind == "cosine_with_min_lr":
        scheduler_kwargs = {"min_lr_rate": schedule.least}
    optimizer = _OPTIMIZERS[setup.optimizer]
    if setup.optimizer == "adamw" and not cuda:
        optimizer = "adamw_torch"
    return {
        "output_dir": str(job.checkpoint_folder),
        "learning_rate": schedule.learning_rate,
        "per_device_train_batch_size": setup.micro_batch,
        "gradient_accumulation_steps": setup.accumulation,
        "lr_scheduler_type": schedule.kind,
        "lr_scheduler_kwargs": scheduler_kwargs,
        "warmup_steps": schedule.warmup,  # below 1: a share of all steps
        "weight_decay": schedule.weight_decay,
        "adam_beta2": schedule.adam_beta2,
        "optim": optimizer,
        "gradient_checkpointing": setup.checkpointing,
        "bf16": True,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "save_strategy": "steps" if job.checkpoints else "no",
        "save_steps": 1 / job.checkpoints if job.checkpoints > 1 else 0.5,
        "save_total_limit": 2,
        "logging_steps": 1,
        "report_to": list(job.trackers) or "none",
        "run_name": job.name,
        "disable_tqdm": True,
        "seed": job.seed,
        "ddp_timeout": 7200,  # a checkpoint of 70B parameters on a slow disk takes longer than torch's half an hour
    }


_OPTIMIZERS = {"adamw": "adamw_torch_fused", "paged_adamw_8bit": "paged_adamw_8bit"}


def model_config(job: TrainingJob) -> Any:
    """The base's config, with its positions stretched as the job says."""
    from transformers import AutoConfig

    base_config = AutoConfig.from_pretrained(job.model, revision=job.revision)
    if job.rope is not None:
        base_config.rope_parameters = {**(base_config.rope_parameters or {}), "rope_theta": job.rope.theta}
        base_config.max_position_embeddings = job.rope.context
    return base_config


def load_model(job: TrainingJob) -> Any:
    """The base model as it is trained: in full precision, in bf16, or in 4 bits."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

    setup = job.setup
    # full precision weights under bf16 autocast: small updates vanish in bf16 weights. DeepSpeed keeps its own
    # full precision copy, and frozen weights need none.
    full_precision = setup.method == "full" and not setup.zero
    quantization = {}
    if setup.method == "qlora":
        quantization["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_quant_storage=torch.bfloat16,  # what ZeRO-3 can split
        )
    model = AutoModelForCausalLM.from_pretrained(
        job.model,
        revision=job.revision,
        config=model_config(job),
        dtype=torch.float32 if full_precision else torch.bfloat16,
        attn_implementation=job.attention,
        **quantization,
    )
    # the base's own file may cap the length or ask for greedy decoding; these are the settings that R1 is used with
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.95)
    model.config.use_cache = False
    return model


def load_tokenizer(job: TrainingJob) -> Any:
    """The base's tokenizer with the job's template, EOS, padding and length."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.model, revision=job.revision)
    tokenizer.chat_template = job.template
    tokenizer.eos_token = job.eos
    if job.pad is not None:
        tokenizer.pad_token = job.pad
    if job.rope is not None:
        tokenizer.model_max_length = job.rope.context
    return tokenizer


def lora_config(lora: Lora, targets: tuple[str, ...]) -> Any:
    """PEFT's configuration of the adapters."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets) or "all-linear",
        task_type="CAUSAL_LM",
    )


def _first_batch(trainer: Any) -> dict[str, list[list[int]]]:
    """Token ids, labels and, when packed, positions of one micro batch as the model will get it."""
    sampler = iter(trainer._get_train_sampler())
    chosen = [next(sampler) for _ in range(min(trainer.args.per_device_train_batch_size, len(trainer.train_dataset)))]
    batch = trainer.data_collator([trainer.train_dataset[index] for index in chosen])
    return {name: batch[name].tolist() for name in ("input_ids", "labels", "position_ids") if name in batch}


def save(trainer: Any, job: TrainingJob) -> None:
    """Save weights (or adapters), tokenizer, template and generation config into `job.trained`.

    Every rank takes part.
    """
    import torch
    from transformers import AutoConfig

    tokenizer = trainer.processing_class
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    for part in (unwrapped.config, unwrapped.generation_config):
        part.eos_token_id = tokenizer.eos_token_id
        part.pad_token_id = tokenizer.pad_token_id
    unwrapped.config.use_cache = True
    if job.setup.method == "full" and not job.setup.zero:
        source = AutoConfig.from_pretrained(job.model, revision=job.revision)
        unwrapped.to(getattr(source, "dtype", None) or torch.bfloat16)
    trainer.save_model(str(job.trained))  # gathers what ZeRO-3 split; the main process writes
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(job.trained)
        unwrapped.generation_config.save_pretrained(job.trained)
        # a pickle of this machine's paths, which nobody who gets the student has a use for
        (job.trained / "training_args.bin").unlink(missing_ok=True)
