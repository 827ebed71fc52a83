"""The chat templates that students are trained with: what they keep, what they drop, and who else can read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill import resources
from distill.machine.hardware import installed
from distill.models import chat, presets
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.types import Message

TAGS = Tags()
TAGS_TEXT = {TAGS.open, TAGS.close}
NAMES = resources.names("recipes/templates", "think-*.jinja")
EOS = {"think-chatml": "<|im_end|>\n", "think-llama3": "<|eot_id|>"}
OPENING = {
    "think-chatml": "<|im_start|>assistant\n<think>\n",
    "think-llama3": "<|start_header_id|>assistant<|end_header_id|>\n\n<think>\n",
}
SYSTEM = Message(role="system", content="Be brief.")
ASKED = Message(role="user", content=" What is 2+2? \n")
OLDER = Message(role="assistant", content="<think>\nolder\n</think>\n\nHello")
REPLY = Message(role="assistant", content="<think>\n2+2=4\n</think>\n\n4")
CALL = Message(role="assistant", content="<think>\nI call it\n</think>\n\ncall")
RESULT = Message(role="tool", content="4")


def text(name: str) -> str:
    return (resources.folder("recipes") / "templates" / f"{name}.jinja").read_text()


@pytest.fixture(scope="module")
def with_bos(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, whose tokenizer names a BOS token."""
    model = shutil.copytree(tiny / "base", tmp_path_factory.mktemp("bos") / "model")
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "bos_token": "<|endoftext|>"}))
    return model


@pytest.fixture(scope="module", params=NAMES)
def named(request: pytest.FixtureRequest, with_bos: Path) -> tuple[str, Tokenizer]:
    return request.param, Tokenizer(str(with_bos), template=text(request.param))


def test_each_template_is_used_and_checked() -> None:
    used = {presets.student(name).template for name in presets.names("student")} - {None}
    assert used == set(NAMES) == set(EOS)


def test_the_layout_is_the_models_own(named: tuple[str, Tokenizer]) -> None:
    name, tokenizer = named
    rendered = tokenizer.apply([SYSTEM, ASKED], generation_prompt=True)
    assert (
        rendered
        == {
            "think-chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n What is 2+2? \n<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n",
            "think-llama3": "<|endoftext|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n What is 2+2? \n<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n<think>\n",
        }[name]
    )


def test_the_prompt_is_an_exact_prefix_and_the_turn_ends_in_eos(named: tuple[str, Tokenizer]) -> None:
    name, tokenizer = named
    prompt = tokenizer.prompt([SYSTEM, ASKED], TAGS)
    assert prompt.prefill == "<think>\n"
    assert prompt.text.endswith(OPENING[name])
    trained = tokenizer.apply([SYSTEM, ASKED, REPLY], generation_prompt=False)
    assert trained == prompt.text + "2+2=4\n</think>\n\n4" + EOS[name]


def test_a_reply_keeps_its_reasoning_until_the_user_speaks_again(named: tuple[str, Tokenizer]) -> None:
    _, tokenizer = named
    again = tokenizer.apply([ASKED, OLDER, ASKED, REPLY], generation_prompt=False)
    assert "older" not in again
    assert "Hello" in again
    assert "2+2=4" in again
    acting = tokenizer.apply([ASKED, OLDER, ASKED, CALL, RESULT], generation_prompt=True)
    assert "older" not in acting
    assert "I call it" in acting, "a tool's result is no new question"
    assert "call it" not in tokenizer.apply([ASKED, CALL, RESULT, REPLY, ASKED], generation_prompt=True)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("<think>\na\n</think>\n\nb", "b"),
        ("a\n</think>\n\nb", "b"),  # a client that sends back what it was sent: the prompt held the opening tag
        ("b", "b"),
        ("a</think>b </think> c", "b </think> c"),  # the first closing tag ends the reasoning, as everywhere
        ("\n<think>cut off", ""),
    ],
)
def test_history_is_the_answer_alone(named: tuple[str, Tokenizer], sent: str, shown: str) -> None:
    _, tokenizer = named
    plain = tokenizer.apply([ASKED, Message(role="assistant", content="ANSWER"), ASKED], generation_prompt=True)
    told = tokenizer.apply([ASKED, Message(role="assistant", content=sent), ASKED], generation_prompt=True)
    assert told == plain.replace("ANSWER", shown)


@given(
    lead=st.sampled_from(["<think>", "\n <think>\n", "<think>\n\n"]),
    reasoning=st.text(st.characters(codec="utf-8"), max_size=60),
    answer=st.text(st.characters(codec="utf-8"), max_size=60),
)
def test_the_template_renders_what_is_trained(
    named: tuple[str, Tokenizer], lead: str, reasoning: str, answer: str
) -> None:
    """Other trainers render whole conversations; they see the tokens' text that ours learns."""
    name, tokenizer = named
    reply = Message(role="assistant", content=f"{lead}{reasoning}</think>{answer}")
    eos = EOS[name].rstrip()
    rendered = tokenizer.apply([ASKED, reply], generation_prompt=False)
    prompt = tokenizer.prompt([ASKED], TAGS)
    example = chat.example(tokenizer, [ASKED, reply], TAGS, eos)
    learnt = reply.content.lstrip()[len("<think>") :].removeprefix("\n") + eos
    assert rendered == prompt.text + learnt + EOS[name][len(eos) :]
    assert example.ids == (*prompt.ids, *tokenizer.encode(learnt))


@pytest.mark.slow
def test_transformers_renders_the_same(with_bos: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(with_bos)
    for name in NAMES:
        ours = Tokenizer(str(with_bos), template=text(name))
        for messages in (
            [ASKED],
            [SYSTEM, ASKED, OLDER, ASKED],
            [ASKED, CALL, RESULT, REPLY],
            [ASKED, OLDER, ASKED, REPLY],
        ):
            for generate in (True, False):
                plain = [message.model_dump(exclude_none=True) for message in messages]
                expected = theirs.apply_chat_template(
                    plain, chat_template=text(name), add_generation_prompt=generate, tokenize=False
                )
                assert ours.apply(messages, generation_prompt=generate) == expected


@pytest.mark.slow
def test_a_trainer_that_renders_conversations_gets_the_same_text(with_bos: Path) -> None:
    """TRL's own preparation of a prompt and a completion."""
    from transformers import AutoTokenizer
    from trl import apply_chat_template

    for name in NAMES:
        theirs = AutoTokenizer.from_pretrained(with_bos)
        theirs.chat_template = text(name)
        row = {"prompt": [ASKED.model_dump(exclude_none=True)], "completion": [REPLY.model_dump(exclude_none=True)]}
        prepared = apply_chat_template(row, theirs)
        assert prepared["prompt"].endswith(OPENING[name])
        assert prepared["completion"] == "2+2=4\n</think>\n\n4" + EOS[name]


def without_tags(model: Path, folder: Path) -> Path:
    """The model with a tokenizer that spells the think tags, as those of Qwen2.5 and Llama 3 do."""
    copied = shutil.copytree(model, folder / "spelt")
    file = copied / "tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in TAGS_TEXT]
    content["model"]["vocab"] = {
        word: number for word, number in content["model"]["vocab"].items() if word not in TAGS_TEXT
    }
    file.write_text(json.dumps(content))
    return copied


@pytest.mark.vllm
@pytest.mark.skipif(not installed("vllm"), reason="vLLM is not installed")
def test_vllms_reasoning_parsers_split_the_reply(with_bos: Path, tmp_path: Path) -> None:
    """The prompt opens the reasoning, so that a reply holds the closing tag only, or none when it was cut.

    Where the tags are no tokens, vLLM's qwen3 parser works and its deepseek_r1 parser refuses.
    """
    from transformers import AutoTokenizer
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.reasoning import ReasoningParserManager

    request = ChatCompletionRequest(messages=[ASKED.model_dump(exclude_none=True)], model="m")
    spelt = without_tags(with_bos, tmp_path)
    for parser, model in (("deepseek_r1", with_bos), ("qwen3", with_bos), ("qwen3", spelt)):
        made = ReasoningParserManager.get_reasoning_parser(parser)(AutoTokenizer.from_pretrained(model))
        reasoning, answer = made.extract_reasoning("2+2=4\n</think>\n\n4", request)
        assert (reasoning or "").strip() == "2+2=4"
        assert (answer or "").strip() == "4"
        assert made.extract_reasoning("2+2", request) == ("2+2", None)
    with pytest.raises(RuntimeError, match="could not locate think start/end tokens"):
        ReasoningParserManager.get_reasoning_parser("deepseek_r1")(AutoTokenizer.from_pretrained(spelt))
