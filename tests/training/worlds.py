"""Tokenizers that speak other families' chat formats: the tiny one with their special tokens and real templates."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Fast

from distill import resources
from distill.filtering import training
from distill.models.chat import Tokenizer
from distill.types import TrainingRow

SPECIALS = {
    "chatml": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    "llama3": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"],
    "deepseek": ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"],
}
BOS = {"llama3": "<|begin_of_text|>", "deepseek": "<｜begin▁of▁sentence｜>"}
EOS = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "deepseek": "<｜end▁of▁sentence｜>"}


def family(template: str) -> str:
    return "deepseek" if "deepseek" in template else "llama3" if "llama3" in template else "chatml"


def template_text(name: str) -> str:
    """A template of ours, or one of those that the installed TRL ships."""
    ours = resources.folder("recipes") / "templates" / f"{name}.jinja"
    if ours.is_file():
        return ours.read_text(encoding="utf-8")
    found = importlib.util.find_spec("trl")  # importing it would load torch
    assert found is not None
    assert found.submodule_search_locations
    return (Path(found.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def model(folder: Path, tiny: Path, name: str = "chatml", **config: Any) -> Path:
    """A model folder with the tiny tokenizer and a family's special tokens; `config` changes tokenizer_config.json."""
    if not folder.is_dir():
        shutil.copytree(tiny / "base", folder, ignore=shutil.ignore_patterns("model.safetensors"))
        fast = Fast.from_file(str(folder / "tokenizer.json"))
        fast.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIALS[name]])
        fast.save(str(folder / "tokenizer.json"))
        told = json.loads((folder / "tokenizer_config.json").read_text())
        told |= {"bos_token": BOS.get(name), "eos_token": EOS[name], **config}
        (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return folder


@cache
def tokenizer(folder: Path, tiny: Path, template: str) -> Tokenizer:
    """The tokenizer of a real template's family, with that template; made once per folder.

    Of `spelt TEMPLATE` the think tags are no tokens, as in Qwen2.5 and Llama 3.
    """
    spelt, name = template.startswith("spelt "), family(template)
    path = model(folder / (name + "-spelt" * spelt), tiny, name)
    if spelt:
        kept = json.loads((path / "tokenizer.json").read_text())
        kept["added_tokens"] = [token for token in kept["added_tokens"] if "think" not in token["content"]]
        (path / "tokenizer.json").write_text(json.dumps(kept))
    return Tokenizer(str(path), template=template_text(template.removeprefix("spelt ")))


def write_set(path: Path, rows: Sequence[tuple[str, str]], set: str = "math") -> Path:
    """An SFT set of (question, reply) pairs, as the filter stage writes it; ids are r0, r1, …"""

    def placed() -> Iterator[training.OrderedRow]:
        for number, (question, reply) in enumerate(rows):
            messages = ({"role": "user", "content": question}, {"role": "assistant", "content": reply})
            yield (
                number.to_bytes(12, "big"),
                TrainingRow(
                    messages=messages,
                    trace_id=f"r{number}",
                    problem_id=f"p{number}",
                    set=set if number % 2 else "code",
                    language="en",
                    licence=None,
                    source=None,
                    tokens=len(reply),
                ),
            )

    training.write(path, placed(), sum(len(reply) for _, reply in rows))
    return path


def reply(thought: str = "6 * 7 = 42", answer: str = "42") -> str:
    return f"<think>\n{thought}\n</think>\n\n{answer}"
