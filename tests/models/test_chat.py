"""Rendering, splitting and loss masks, against transformers and on open-ended input."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill import resources
from distill.answers import marked
from distill.errors import InputError
from distill.models import chat, presets
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags, split
from distill.types import Message

TAGS = Tags()
TURNS = [
    Message(role="user", content="Hi <b>&amp;</b> \n\n there"),
    Message(role="assistant", content="<think>\nolder\n</think>\n\nHello"),
    Message(role="user", content="And 2+2?"),
]


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return Tokenizer(str(tiny / "teacher"))


REAL = "qwen2_5 qwen3 qwen3_training llama3 llama3_1 llama3_2 deepseek_r1_distill deepseekv3 phi3 glm4moe gptoss lfm2"


@pytest.mark.slow
def test_rendering_equals_transformers(tiny: Path, tmp_path: Path) -> None:
    """Also on the real templates of Qwen, Llama, DeepSeek and others, which the installed TRL ships."""
    import trl
    from transformers import AutoTokenizer

    model = shutil.copytree(tiny / "teacher", tmp_path / "model")
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "bos_token": "<|endoftext|>"}))
    theirs = AutoTokenizer.from_pretrained(model)
    folder = Path(trl.__file__).parent / "chat_templates"
    ours = (resources.folder("recipes") / "templates" / "think-chatml.jinja").read_text()
    for template in [None, ours, *((folder / f"{name}.jinja").read_text() for name in REAL.split())]:
        tokenizer = Tokenizer(str(model), template=template)
        for messages in (TURNS[:1], TURNS):
            plain = [message.model_dump(exclude_none=True) for message in messages]
            expected = theirs.apply_chat_template(
                plain, chat_template=template, add_generation_prompt=True, tokenize=False
            )
            assert tokenizer.apply(messages, generation_prompt=True) == expected
            assert list(tokenizer.prompt(messages, TAGS).ids) == theirs(expected, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("template", ["own", "think-chatml"])
def test_history_loses_its_reasoning_and_the_reply_begins_with_think(tiny: Path, template: str) -> None:
    text = None if template == "own" else (resources.folder("recipes") / "templates" / f"{template}.jinja").read_text()
    tokenizer = Tokenizer(str(tiny / "teacher"), template=text)
    prompt = tokenizer.prompt(TURNS, TAGS)
    assert "older" not in prompt.text
    assert "Hello" in prompt.text
    assert prompt.prefill == "<think>\n"
    newest = tokenizer.apply(TURNS[:2], generation_prompt=False)
    assert "<think>\nolder\n</think>\n\nHello" in newest


@given(text=st.text(max_size=300))
def test_any_text_survives_the_tiny_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    if "<|" not in text:
        assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text), "Qwen2 normalises"


def test_think_and_answer_tags_are_ordinary_tokens(tokenizer: Tokenizer) -> None:
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        ids = tokenizer.encode(tag)
        assert len(ids) == 1
        assert tokenizer.decode(ids) == tag, "a special token would vanish from what rewards see"


@pytest.mark.parametrize(
    ("completion", "prefill", "reasoning", "answer"),
    [
        ("a b</think>\n\nc", "<think>\n", "a b", "\n\nc"),
        ("a b", "<think>\n", "a b", None),
        ("\n<think>a</think>c", "", "a", "c"),
        ("c", "", None, "c"),
        ("a</think>c", "", None, None),
        ("<think>a", "", "a", None),
        ("a</think>b</think>c", "<think>", "a", "b</think>c"),
        ("", "<think>\n", "", None),
    ],
)
def test_split(completion: str, prefill: str, reasoning: str | None, answer: str | None) -> None:
    found = split(completion, prefill, TAGS)
    assert (completion[slice(*found.reasoning)] if found.reasoning else None) == reasoning
    assert (completion[slice(*found.answer)] if found.answer else None) == answer


@given(st.text(alphabet="ab<think>/\n", max_size=60), st.booleans())
def test_split_never_overlaps_and_loses_only_tags(completion: str, prefilled: bool) -> None:
    found = split(completion, "<think>\n" if prefilled else "", TAGS)
    if found.reasoning and found.answer:
        assert completion[found.reasoning[1] : found.answer[0]] == "</think>"
        assert found.answer[1] == len(completion)
    if prefilled:
        assert found.reasoning is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{1} or \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{unclosed \boxed{3}", "3"),
        (r"\boxed{unclosed", None),
        (r"\boxed{a\}b}", r"a\}b"),
        ("none", None),
        ("<answer> 1 </answer> <answer>2</answer>", "2"),
        ("<answer>1", None),
        (r"<answer>7</answer> \boxed{8}", "7"),
    ],
)
def test_final_answer(text: str, expected: str | None) -> None:
    assert marked.final_answer(text) == expected


def test_training_prompt_is_the_inference_prompt_and_eos_is_learnt(tokenizer: Tokenizer) -> None:
    turns = [*TURNS, Message(role="assistant", content="<think>\n2+2=4\n</think>\n\n4")]
    example = chat.example(tokenizer, turns, TAGS, "<|im_end|>")
    prompt = tokenizer.prompt(TURNS, TAGS)
    assert example.ids[: len(prompt.ids)] == prompt.ids
    assert sum(example.mask) == len(example.ids) - len(prompt.ids)
    learnt = [token for token, learn in zip(example.ids, example.mask, strict=True) if learn]
    assert learnt[-1:] == tokenizer.encode("<|im_end|>")
    assert tokenizer.decode(learnt) == "2+2=4\n</think>\n\n4"


def test_a_reply_without_its_think_tag_is_refused_not_trained(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="does not begin with it"):
        chat.example(tokenizer, [TURNS[0], Message(role="assistant", content="4")], TAGS, "<|im_end|>")


def test_a_folder_without_tokenizer_or_template_is_named(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        Tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_bytes((tiny / "base" / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="no chat template"):
        Tokenizer(str(tmp_path))


def test_preset_template_is_found_or_refused() -> None:
    student = presets.student("qwen2.5-7b")
    assert "im_start" in (presets.template(student) or "")
    with pytest.raises(InputError, match="no chat template"):
        presets.template(student.model_copy(update={"template": "nope"}))
