"""The process that loads a publication: `python -m distill.publishing.loader KIND FOLDER ASKED TOLD`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TypedDict

from distill.machine import children


class LoadingQuestion(TypedDict, total=False):
    """What is asked of a folder; of a set of traces nothing more."""

    starts: list[tuple[list[int], int]]
    """Each the token ids that a reply begins with and the tokens that it may take from there."""


class LoadingAnswer(TypedDict, total=False):
    """What loading a model (`replies`, of which `ended`) or a set of traces (`rows`, `columns`) came to."""

    replies: int
    ended: int
    rows: int
    columns: list[str]


def model(folder: str, question: LoadingQuestion) -> LoadingAnswer:
    """Load a model and let it write; no code of the folder is run, for transformers is not told to trust any.

    Args:
        question: `starts`, each the token ids that a reply begins with and the tokens that it may take from there.

    Returns: how many `replies` were asked for, and how many of them `ended`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    AutoTokenizer.from_pretrained(folder)
    dtype = torch.float32
    device_map = None
    if torch.cuda.is_available():
        dtype = torch.bfloat16
        device_map = "auto"
    if (Path(folder) / "adapter_config.json").is_file():
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=device_map)
    else:
        AutoConfig.from_pretrained(folder)
        network, loading_info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, device_map=device_map, output_loading_info=True
        )
        for key_kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if loading_info.get(key_kind):
                raise SystemExit(f"{key_kind.replace('_', ' ')}: {sorted(map(str, loading_info[key_kind]))[:3]}")
    eos_token_ids = network.generation_config.eos_token_id
    if (Path(folder) / "generation_config.json").is_file():
        eos_token_ids = GenerationConfig.from_pretrained(folder).eos_token_id
    end_ids = {eos_token_ids} if isinstance(eos_token_ids, int) else set(eos_token_ids or ())
    ended = 0
    for start, max_new_tokens in question["starts"]:
        ids = torch.tensor([start], device=network.device)
        with torch.inference_mode():
            token_ids = network.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False,
                temperature=None, top_p=None, top_k=None, eos_token_id=sorted(end_ids) or None,
            )  # fmt: skip
        ended += int(token_ids[0, -1]) in end_ids
    return {"replies": len(question["starts"]), "ended": ended}


def dataset(folder: str) -> LoadingAnswer:
    """Load a set of traces; a cache of its own keeps an earlier one out.

    The folder's card says which files belong to which split.
    """
    from datasets import load_dataset

    with tempfile.TemporaryDirectory(prefix="distill-") as cache:
        rows = load_dataset(folder, split="train", cache_dir=cache)
        return {"rows": len(rows), "columns": list(rows.column_names)}


def main(kind: str, folder: str, question_path: str, answer_path: str) -> None:
    question = json.loads(Path(question_path).read_text())
    answer = dataset(folder) if kind == "dataset" else model(folder, question)
    Path(answer_path).write_text(json.dumps(answer))


if __name__ == "__main__":
    children.end_with_parent()
    main(*sys.argv[1:])
