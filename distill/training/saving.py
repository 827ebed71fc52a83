"""From trained weights to a student: adapters merged, a check that it stops, and the finished folder swapped in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.store.replacing import replace_folder
from distill.training.job import TrainingJob
from distill.training.model import model_config
from distill.types import Record

if TYPE_CHECKING:
    from transformers import Trainer


class StopCheck(Record):
    """Whether the student ends its turn where it should: given a trace's reasoning, it writes an answer and stops."""

    asked: int
    """Replies that were asked for."""
    ended: int
    """Replies that ended in EOS within the tokens allowed."""


def merge(job: TrainingJob) -> None:
    """Put the adapters into the base's weights: `job.trained` becomes a plain model with `adapter/` beside it.

    The base is loaded as published: adapters that were trained over 4-bit weights go into the full ones.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, GenerationConfig

    trained = job.trained
    merged = trained.with_name("merged")
    shutil.rmtree(merged, ignore_errors=True)
    base_config = model_config(job)
    base = AutoModelForCausalLM.from_pretrained(
        job.model,
        revision=job.revision,
        config=base_config,
        dtype=getattr(base_config, "dtype", None) or torch.bfloat16,
    )
    model = PeftModel.from_pretrained(base, str(trained)).merge_and_unload()
    model.generation_config = GenerationConfig.from_pretrained(trained)
    model.config.eos_token_id = model.generation_config.eos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id
    model.save_pretrained(merged)
    for path in trained.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special_tokens", "vocab", "merges", "added_tokens")):
            shutil.copy2(path, merged / path.name)
    os.replace(trained, merged / "adapter")
    os.replace(merged, trained)


def check_stops(folder: Path, beginnings: Sequence[Sequence[int]], max_new_tokens: int) -> StopCheck:
    """Let the finished model go on from each of `beginnings` for at most `max_new_tokens` tokens.

    A beginning is the token ids of a row up to its closing think tag.

    The published failure of distilled bases is a turn that never ends: a tokenizer, a config and a generation config
    that name different EOS tokens. So everything is read back from the folder as a server would.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    cuda = torch.cuda.is_available()
    placement = {"dtype": torch.bfloat16, "device_map": "auto"} if cuda else {"dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(str(folder), **placement)
    model.eval()
    eos_ids = model.generation_config.eos_token_id
    eos_ids = {eos_ids} if isinstance(eos_ids, int) else set(eos_ids or ())
    stopped = 0
    for beginning in beginnings:
        ids = torch.tensor([list(beginning)], device=model.device)
        with torch.inference_mode():
            sequence = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False,
                temperature=None, top_p=None,
            )  # fmt: skip
        stopped += int(sequence[0, -1]) in eos_ids
    return StopCheck(asked=len(beginnings), ended=stopped)


def swap(job: TrainingJob, student: Path) -> None:
    """Make the trained folder the student; its checkpoints are not needed any more."""
    replace_folder(job.trained, student)
    for folder in (job.checkpoint_folder, Path(job.folder) / "cache"):
        shutil.rmtree(folder, ignore_errors=True)


def save(trainer: Trainer, job: TrainingJob) -> None:
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
