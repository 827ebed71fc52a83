"""What a probe finds, through the real clients, at small servers on 127.0.0.1; the tokenizer is the tiny teacher's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from distill.backends import ChosenBackend
from distill.models.chat import Tokenizer
from distill.models.model import Model
from distill.models.reasoning import Tags
from distill.sampling.preflight import PreflightFinding, preflight
from distill.types import Message, Problem, Sampling
from tests.backends.fake import Answer, Fake, reply, status
from tests.conftest import make_problem

ADVICE = Sampling(temperature=0.6, top_p=0.95, max_tokens=480)
OPENS = "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n"


@pytest.fixture
def teacher(tiny: Path) -> Model:
    return Model(name="tiny", path=str(tiny / "teacher"), context=2048, sampling=ADVICE, template=OPENS)


def look(fake: Fake, model: Model, sampling: Sampling = ADVICE, problem: Problem | None = None, **kind: Any) -> Any:
    """The findings; `kind` is the backend's settings."""
    system_prompt = kind.pop("system_prompt", None)

    async def go() -> list[PreflightFinding]:
        fake.context = model.context
        async with fake.running() as url, asyncio.timeout(20):
            at = {"base_url": f"{url}/v1"} if kind.get("kind") == "chat" else {"endpoints": [url]}
            backend = ChosenBackend.of({"kind": "vllm", **at, **kind}).build(model, Path("unused"))
            await backend.open()
            tokenizer = Tokenizer(model.path, template=model.template)
            try:
                return await preflight(
                    backend, model, sampling, tokenizer, problem or make_problem(), system_prompt=system_prompt
                )
            finally:
                await backend.close()

    return asyncio.run(go())


def engine(model: Model, text: str = "Try 3 * 7 = 21, 21", finish: str = "length", **more: Any) -> Fake:
    """A vLLM that says `text`, with its ids by the teacher's tokenizer."""
    ids = Tokenizer(model.path).encode(text)

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        fields = {"token_ids": ids, "prompt_token_ids": body["prompt"], **more}
        return await reply(text, finish, len(fields["token_ids"] or ids), **fields)(request, body)

    return Fake(answer)


def only(found: list[PreflightFinding], severity: str, what: str, fix: str) -> None:
    assert len(found) == 1, found
    assert found[0].severity == severity
    assert what in found[0].message
    assert fix in found[0].fix


def test_all_is_well_after_one_tiny_request(teacher: Model) -> None:
    fake = engine(teacher)
    assert look(fake, teacher) == []
    assert [body["max_tokens"] for body in fake.bodies] == [16]


def test_what_the_authors_advise(teacher: Model) -> None:
    assert look(engine(teacher), teacher, ADVICE.model_copy(update={"temperature": 0.7})) == []
    hot = look(engine(teacher), teacher, ADVICE.model_copy(update={"temperature": 1.0}))
    only(hot, "warning", "temperature is 1, and 0.6 is advised for tiny", "sampling.temperature: 0.6")
    greedy = look(engine(teacher), teacher, ADVICE.model_copy(update={"temperature": 0.0}))
    only(greedy, "warning", "greedy decoding", "sampling.temperature: 0.6")
    wide = look(engine(teacher), teacher, ADVICE.model_copy(update={"top_p": 1.0, "top_k": 20}))
    assert [finding.fix for finding in wide] == ["sampling.top_p: 0.95", "sampling.top_k: null"]


def test_a_system_prompt_against_advice(teacher: Model) -> None:
    problem = Problem.make((Message(role="system", content="Be brief."), Message(role="user", content="2+2?")))
    found = look(engine(teacher), teacher, problem=problem, system_prompt=False)
    only(found, "warning", "advise to use none", "the user's turn")
    assert look(engine(teacher), teacher, problem=problem, system_prompt=None) == []
    assert look(engine(teacher), teacher, system_prompt=False) == []


def test_budget_context_and_timeout(teacher: Model) -> None:
    big = ADVICE.model_copy(update={"max_tokens": 32768})
    only(
        look(engine(teacher), teacher, big),
        "warning",
        "in a context of 2,048: the rest is never",
        "sampling.max_tokens: ",
    )
    long = teacher.model_copy(update={"context": 40960})
    assert look(engine(teacher), long, big) == []
    only(look(engine(teacher), long, big, timeout=600), "error", "600 s, and the budget takes 1,311 s", "timeout: 2621")


@pytest.mark.parametrize(
    ("template", "what", "fix"),
    [
        (
            OPENS.replace("<think>", "<thinking>"),
            "opens the reasoning with <thinking>, and the preset says",
            "both tags",
        ),
        (OPENS + "\n</think>\n\n", "thinking is switched off", "template"),
    ],
)
def test_a_template_that_does_not_fit(teacher: Model, template: str, what: str, fix: str) -> None:
    model = teacher.model_copy(update={"template": template})
    only(look(engine(model, "<think>\nTry 3"), model), "error", what, fix)


def test_double_bos(teacher: Model, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((Path(teacher.path) / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<|im_start|>", "chat_template": "-"}')
    twice = teacher.model_copy(update={"path": str(tmp_path), "template": "{{ bos_token }}{{ bos_token }}" + OPENS})
    once = twice.model_copy(update={"template": "{{ bos_token }}" + OPENS})
    begin = Tokenizer(str(tmp_path)).encode("<|im_start|>")
    assert len(begin) == 1
    only(look(engine(twice), twice), "error", "begins with <|im_start|> twice", "template")
    assert look(engine(once), once) == []


def test_a_prompt_that_the_engine_changes(teacher: Model) -> None:
    only(look(engine(teacher, prompt_token_ids=[1, 1, 2]), teacher), "error", "a prompt of 3 tokens", "rewrite prompts")


def test_a_tag_opened_twice_or_never(teacher: Model) -> None:
    only(look(engine(teacher, "<think>\nTry"), teacher), "error", "the model opens it again", "template")
    bare = teacher.model_copy(update={"template": OPENS.replace("<think>\n", "")})
    assert look(engine(bare, "<think>\nTry"), bare) == []
    only(look(engine(bare, "Try 3"), bare), "warning", "neither the template nor the model opens <think>", "template")
    other = teacher.model_copy(update={"template": bare.template, "tags": Tags(open="[THINK]", close="[/THINK]")})
    only(look(engine(other, "<think>\nTry"), other), "warning", "opens [THINK]", "its real tags")


def test_another_tokenizer_behind_the_engine(teacher: Model) -> None:
    ids = Tokenizer(teacher.path).encode("quite another thing")
    only(
        look(engine(teacher, token_ids=ids), teacher), "error", "'quite another thing' here and 'Try 3", "tokenizer of"
    )
    only(look(engine(teacher, token_ids=None), teacher), "warning", "gives no token ids", "return_token_ids")


@pytest.mark.parametrize("text", ["Try ", "Try \ufffd"])
def test_a_letter_that_the_budget_cut_is_no_difference(teacher: Model, text: str) -> None:
    ids = Tokenizer(teacher.path).encode("Try é")[:-1]
    assert look(engine(teacher, text, token_ids=ids), teacher) == []


def test_a_reply_that_ends_at_once(teacher: Model) -> None:
    fake = engine(teacher, "ok", "stop", token_ids=[*Tokenizer(teacher.path).encode("ok"), 0])
    only(look(fake, teacher), "warning", "ended it by itself (stop): 'ok'", "EOS")


def test_an_engine_that_refuses(teacher: Model) -> None:
    only(look(Fake(status(400, "seed is not supported")), teacher), "error", "400: seed is not supported", "settings")
    only(look(Fake(status(404, "gone")), teacher), "error", "404: gone", "still serve the model")


def chat(message: dict[str, Any], finish: str = "length", prompt: int = 30, reasoning: int | None = None) -> Answer:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        usage = {"prompt_tokens": prompt, "completion_tokens": 16}
        usage |= {"completion_tokens_details": {"reasoning_tokens": reasoning}} if reasoning is not None else {}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return web.json_response({"choices": [choice], "usage": usage})

    return answer


def test_a_chat_api_with_reasoning(teacher: Model) -> None:
    for field in ("reasoning", "reasoning_content"):
        fake = Fake(chat({field: "Try 3", "content": None}))
        assert look(fake, teacher, kind="chat") == []
        assert len(fake.bodies) == 1
    assert look(Fake(chat({"content": "<think>\nTry"})), teacher, kind="chat") == []


def test_a_chat_api_that_loses_the_reasoning(teacher: Model) -> None:
    fake = Fake(chat({"content": ""}, reasoning=16))
    only(look(fake, teacher, kind="chat"), "error", "16 tokens of it are billed", "extra")
    assert len(fake.bodies) == 1
    fake = Fake(chat({"content": "Sure"}), chat({"content": "Hello!"}, "stop"))
    only(look(fake, teacher, kind="chat"), "error", "no field and no tag has it", "--reasoning-parser")
    assert fake.bodies[1]["messages"] == [{"role": "user", "content": "Say hello."}]
    fake = Fake(chat({"content": "Try 3"}), chat({"content": "They greet.\n</think>\n\nHello!"}, "stop"))
    only(look(fake, teacher, kind="chat"), "warning", "within the content, without <think>", "--reasoning-parser")


def test_a_chat_api_that_adds_a_prompt(teacher: Model) -> None:
    only(
        look(Fake(chat({"reasoning": "Try", "content": None}, prompt=500)), teacher, kind="chat"),
        "warning",
        "the API counts 500 prompt tokens",
        "system prompt",
    )
