"""A hosted chat API, as DeepSeek, OpenRouter or vLLM speak it, over real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from distill.backends import ChosenBackend
from distill.backends.chat import Config
from distill.endpoints.rate_limit import RateLimit
from distill.errors import BackendError, InputError
from distill.models.model import Model
from distill.models.reasoning import split
from distill.models.request import Completion, Refused, Request
from distill.types import Message, Sampling
from tests.backends.fake import Answer, Fake, never, raw, status

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 4}}


def whole(message: dict[str, Any], finish: str | None = "stop", usage: Any = USAGE, **headers: str) -> Answer:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        reply = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}
        return web.json_response(reply, headers=headers)

    return answer


def stream(*deltas: dict[str, Any], finish: str | None = "stop", usage: Any = USAGE, pause: float = 0) -> Answer:
    """Server-sent events with comments in between, as kept-alive streams have them."""
    events: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        events.append({"choices": [], "usage": usage})

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in events:
            await response.write(b": keep-alive\n\n")
            await asyncio.sleep(pause)
            await response.write(b"data: " + orjson.dumps(event) + b"\r\n\r\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    return answer


async def cut_off(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A stream of which the connection is lost before the end."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for word in ("so ", "many ", "words"):
        await response.write(b"data: " + orjson.dumps({"choices": [{"delta": {"reasoning": word}}]}) + b"\n\n")
    await asyncio.sleep(0.05)
    assert request.transport
    request.transport.abort()
    return response


def request(**sampling: Any) -> Request:
    messages = (Message(role="user", content="2+2?"),)
    return Request(id="r", ids=(1, 2, 3), messages=messages, sampling=Sampling(**sampling), seed=7)


def ask(fake: Fake, *requests: Request, path: str = "some/where", **options: Any) -> tuple[list[Completion], Any]:
    """The completions, and the closed backend."""

    async def go() -> tuple[list[Completion], Any]:
        async with fake.running() as url, asyncio.timeout(20):
            settings = {"kind": "chat", "base_url": f"{url}/v1/", **options}
            model = Model(name="tiny", path=path, context=64)
            made = ChosenBackend.of(settings).build(model, Path("unused"))
            await made.open()
            try:
                return [await made.complete(asked) for asked in requests or (request(),)], made
            finally:
                made.last = made.status()
                await made.close()

    return asyncio.run(go())


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("streamed", [True, False])
def test_reasoning_comes_back_between_its_tags(field: str, streamed: bool) -> None:
    pieces = [{"role": "assistant", field: "Two and "}, {field: "two."}, {"content": "It is "}, {"content": "4."}]
    if streamed:
        fake = Fake(stream(*pieces))
    else:
        fake = Fake(whole({"role": "assistant", field: "Two and two.", "content": "It is 4."}))
    (done,), made = ask(fake, stream=streamed)
    assert done.text == "<think>Two and two.</think>It is 4."
    assert (done.tokens, done.finish, done.seed, done.ids) == (7, "stop", 7, None)
    assert (done.prompt_tokens, done.reasoning_tokens) == (11, 4)
    spans = split(done.text, "", made.model.tags)
    assert spans.reasoning
    assert spans.answer
    assert done.text[slice(*spans.reasoning)] == "Two and two."
    assert done.text[slice(*spans.answer)] == "It is 4."
    assert not made.takes_ids
    assert made.last["prompt_tokens"] == 11
    assert made.last["each"][0]["tokens"] == 7


@pytest.mark.parametrize(
    ("message", "finish", "text"),
    [
        ({"content": "<think>\nhm\n</think>\n\n4"}, "stop", "<think>\nhm\n</think>\n\n4"),
        ({"content": "hm\n</think>\n\n4"}, "stop", "<think>hm\n</think>\n\n4"),
        ({"content": "4"}, "stop", "4"),
        ({"reasoning": "hm, and", "content": None}, "length", "<think>hm, and"),
        ({"reasoning": None, "content": "4"}, "stop", "4"),
        ({"reasoning": "hm", "content": ""}, "stop", "<think>hm"),
        ({"reasoning_content": "a", "reasoning": "a", "content": "b"}, "repetition", "<think>a</think>b"),
    ],
)
def test_every_way_to_tell_reasoning(message: dict[str, Any], finish: str, text: str) -> None:
    (done,), _ = ask(Fake(whole(message, finish)), stream=False)
    assert (done.text, done.finish) == (text, finish)


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    fake = Fake(stream({"content": "4"}), key="s3cret", model="big-model")
    asked = request(temperature=0.6, top_p=0.95, max_tokens=20)
    options = {"api_key_env": "KEY", "model": "big-model", "budget_field": "max_completion_tokens"}
    (done,), made = ask(fake, asked, **options, extra={"reasoning": {"effort": "high"}, "seed": None})
    assert fake.bodies == [
        {
            "model": "big-model",
            "messages": [{"role": "user", "content": "2+2?"}],
            "temperature": 0.6,
            "top_p": 0.95,
            "max_completion_tokens": 20,
            "stream": True,
            "stream_options": {"include_usage": True},
            "reasoning": {"effort": "high"},
        }
    ]
    assert done.seed is None  # it was left out
    assert made.engine.startswith("chat 127.0.0.1:")
    assert made.last["prompt_tokens"] == 11


def test_a_wrong_key_or_model_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    with pytest.raises(BackendError, match=r"(?s)401.*api_key_env") as caught:
        ask(Fake(never, key="other"), api_key_env="KEY")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(InputError, match=r"(?s)serves other, not tiny.*one of them in `model`"):
        ask(Fake(never, model="other"))
    with pytest.raises(InputError, match="KEYLESS is not set"):
        ask(Fake(never), api_key_env="KEYLESS")
    with pytest.raises(BackendError, match=r"(?s)402.*pay there"):
        ask(Fake(status(402, "no balance")))
    with pytest.raises(InputError, match="api_key_env"):
        ChosenBackend.of({"kind": "chat", "base_url": "https://me:s3cret@host/v1"})


def test_usage_that_is_missing_is_counted(tokenizer_folder: Path) -> None:
    (done,), _ = ask(Fake(stream({"content": "four"}, usage=None)), path=str(tokenizer_folder))
    assert (done.tokens, done.prompt_tokens, done.reasoning_tokens) == (4, None, None)


@pytest.mark.parametrize(
    "bad",
    [
        status(500),
        status(429),
        raw("not json"),
        raw('{"error": {"message": "upstream is down"}}'),
        whole({"content": "x"}, None),
        whole({"content": "x"}, "error"),
        whole({"content": "x"}, "insufficient_system_resource"),
        whole({"content": 5}),
        whole({"content": "x"}, usage={"completion_tokens": "many"}),
        whole({"content": "x"}, usage=[1]),
        stream({"content": "x"}, finish=None),
        cut_off,
    ],
    ids=["500", "429", "not json", "error", "open", "gave up", "full", "number", "usage", "list", "no end", "cut off"],
)
def test_tries_again(bad: Answer) -> None:
    fake = Fake(bad, stream({"content": "at last"}))
    (done,), _ = ask(fake)
    assert done.text == "at last"
    assert len(fake.bodies) == 2


def test_lost_pieces_are_counted_as_waste() -> None:
    _, made = ask(Fake(cut_off, stream({"content": "at last"})))
    assert (made.last["wasted_tokens"], made.last["retries"]) == (3, 1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(400, "top_p is strange"), "400: top_p is strange"),
        (whole({"content": ""}, "content_filter"), "content filter"),
        (whole({"content": "", "tool_calls": [{"id": "1"}]}, "tool_calls"), "tool"),
    ],
)
def test_what_will_never_work_is_refused(answer: Answer, said: str) -> None:
    with pytest.raises(Refused, match=said):
        ask(Fake(answer))


def test_a_403_after_success_is_about_the_question() -> None:
    fake = Fake(stream({"content": "4"}), status(403, "input was flagged"))
    with pytest.raises(Refused, match="403: input was flagged"):
        ask(fake, request(), request())
    with pytest.raises(BackendError, match="403"):
        ask(Fake(status(403)))


def test_comments_keep_a_slow_stream_alive_and_silence_ends_it() -> None:
    words = [{"content": "a"}] * 5
    (done,), _ = ask(Fake(stream(*words, pause=0.1)), silence=0.3)
    assert (done.text, done.seconds > 0.5) == ("aaaaa", True)

    async def silent(web_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(web_request)
        return await never(web_request, body)

    (done,), _ = ask(Fake(silent, stream({"content": "at last"})), silence=0.2)
    assert done.text == "at last"


def test_empty_lines_before_a_whole_reply_are_passed_over() -> None:
    """As DeepSeek sends them while a request waits."""
    reply = orjson.dumps({"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}], "usage": USAGE})
    (done,), _ = ask(Fake(raw("\n\n\n" + reply.decode())), stream=False)
    assert done.text == "4"


def test_replies_are_kept() -> None:
    kept: list[bytes] = []

    async def go() -> None:
        fake = Fake(stream({"reasoning": "hm"}, {"content": "4"}), whole({"content": "5"}))
        async with fake.running() as url:
            made = ChosenBackend.of({"kind": "chat", "base_url": f"{url}/v1"}).build(
                Model(name="tiny", path="p", context=64), Path("unused")
            )
            made.journal = lambda asked, reply: kept.append(reply)
            await made.open()
            await made.complete(request())
            await made.complete(request())
            await made.close()

    asyncio.run(go())
    put_together, as_sent = (orjson.loads(reply) for reply in kept)
    assert put_together["message"] == {"reasoning": "hm", "content": "4"}
    assert as_sent["choices"][0]["message"]["content"] == "5"


def test_retry_after_of_a_hosted_api() -> None:
    start = time.monotonic()
    fake = Fake(
        status(429, x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="300ms"), stream({"content": "4"})
    )
    ask(fake)
    assert time.monotonic() - start > 0.3


def test_requests_are_spread_over_the_minute() -> None:
    async def go() -> float:
        rate = RateLimit(600)
        start = time.monotonic()
        await asyncio.gather(*(rate.spend(1) for _ in range(5)))
        return time.monotonic() - start

    assert 0.4 <= asyncio.run(go()) < 1


def test_tokens_are_settled_when_they_are_known_and_given_back_when_cancelled() -> None:
    async def go() -> None:
        rate = RateLimit(60_000)
        await rate.spend(10_000)  # expected: ten seconds' worth
        rate.correct(-9_800)
        start = time.monotonic()
        given_up = asyncio.ensure_future(rate.spend(100_000))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        await rate.spend(1)
        assert 0.1 < time.monotonic() - start < 1

    asyncio.run(go())


def test_no_limit() -> None:
    async def go() -> None:
        rate = RateLimit(None)
        await asyncio.gather(*(rate.spend(10**9) for _ in range(100)))

    asyncio.run(go())


def test_a_minute_shared_by_requests() -> None:
    fake = Fake(stream({"content": "4"}))
    start = time.monotonic()
    ask(fake, *[request()] * 3, requests_per_minute=300)
    assert time.monotonic() - start >= 0.4


def test_addresses() -> None:
    assert Config(base_url="https://host/api/v1/").base_url == "https://host/api/v1"
    assert Config(base_url="https://host/v1/chat/completions").base_url == "https://host/v1"


def test_an_api_that_turns_everything_away_is_not_waited_for_beyond_its_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("distill.endpoints.state._MAX_PAUSE", 0.02)
    with pytest.raises(BackendError, match=r"no request has worked for .* s; this one answered 429"):
        ask(Fake(status(429)), patience=0.1)
