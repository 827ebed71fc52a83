"""From trained weights to a student: adapters merged, a check that it stops, and the finished folder swapped in."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from distill.training.job import Job
from distill.training.sft.trainer import model_config
from distill.types import Record

LOG = logging.getLogger("distill")


class Stops(Record):
    """Whether the student ends its turn where it should: given a trace's reasoning, it writes an answer and stops."""

    asked: int
    ended: int
    """Replies that ended in EOS within the room given."""


def merge(job: Job) -> None:
    """Put the adapters into the base's weights: `job.trained` becomes a plain model with `adapter/` beside it.

    The base is loaded as published: adapters that were trained over 4-bit weights go into the full ones.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, GenerationConfig

    trained, whole = job.trained, job.trained.with_name("merged")
    shutil.rmtree(whole, ignore_errors=True)
    changed = model_config(job)
    base = AutoModelForCausalLM.from_pretrained(
        job.model, revision=job.revision, config=changed, dtype=getattr(changed, "dtype", None) or torch.bfloat16
    )
    model = PeftModel.from_pretrained(base, str(trained)).merge_and_unload()
    model.generation_config = GenerationConfig.from_pretrained(trained)
    model.config.eos_token_id = model.generation_config.eos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id
    model.save_pretrained(whole)
    for path in trained.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special_tokens", "vocab", "merges", "added_tokens")):
            shutil.copy2(path, whole / path.name)
    os.replace(trained, whole / "adapter")
    os.replace(whole, trained)


def stops(folder: Path, starts: Sequence[Sequence[int]], room: int) -> Stops:
    """Let the finished model go on from `starts`, token ids up to a closing think tag, for at most `room` tokens each.

    The published failure of distilled bases is a turn that never ends: a tokenizer, a config and a generation config
    that name different EOS tokens. So everything is read back from the folder as a server would.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers import logging as told

    told.disable_progress_bar()
    cuda = torch.cuda.is_available()
    model = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.bfloat16 if cuda else torch.float32, device_map="auto" if cuda else None
    )
    model.eval()
    ends = model.generation_config.eos_token_id
    ends = {ends} if isinstance(ends, int) else set(ends or ())
    ended = 0
    for start in starts:
        ids = torch.tensor([list(start)], device=model.device)
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=room, do_sample=False,
                temperature=None, top_p=None,
            )  # fmt: skip
        ended += int(written[0, -1]) in ends
    return Stops(asked=len(starts), ended=ended)


def swap(job: Job, student: Path) -> None:
    """Make the trained folder the student; its checkpoints are not needed any more."""
    if student.exists():
        shutil.rmtree(student)
    os.replace(job.trained, student)
    for folder in (job.checkpoint_folder, Path(job.folder) / "cache"):
        shutil.rmtree(folder, ignore_errors=True)
