"""The client against a small server that speaks vLLM's protocol; the real one is in tests/integration."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from distill.backends import Backend, ChosenBackend
from distill.backends.vllm import Config
from distill.errors import BackendError, InputError
from distill.models.model import Model
from distill.models.request import Completion, Refused, Request
from distill.serving.server_process import Server, claim_port, vllm_command
from tests.backends.fake import MODEL, Answer, Fake, after, half, never, raw, reply, request, status


def client(*urls: str, model: Model = MODEL, **options: Any) -> Backend:
    settings = {"kind": "vllm", "endpoints": urls, **options}
    made: Backend = ChosenBackend.of(settings).build(model, Path("unused"))
    return made


def sample(fake: Fake, *requests: Request, **options: Any) -> list[Completion]:
    async def go() -> list[Completion]:
        async with fake.running() as url:
            made = client(url, **options)
            await made.open()
            assert made.engine == "vllm 9.9"
            try:
                return await asyncio.gather(*(made.complete(r) for r in requests))
            finally:
                await made.close()

    return asyncio.run(go())


def test_a_completion() -> None:
    fake = Fake(reply())
    (done,) = sample(fake, request(temperature=0.6, top_p=0.9, max_tokens=10))
    assert (done.text, done.finish, done.seed) == ("hello", "stop", 7)
    assert done.tokens == 5  # without the EOS
    assert done.endpoint.startswith("http://127.0.0.1:")
    (body,) = fake.bodies
    assert body["model"] == "tiny"
    assert body["prompt"] == [0, 1, 2, 3, 4]
    assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (0.6, 0.9, -1, 10)
    assert body["seed"] == 7
    assert body["add_special_tokens"] is False


def test_token_ids() -> None:
    """As vLLM gives them: the EOS is listed and counted, but no part of the text."""
    stopped = reply(token_ids=[9, 8, 7, 6, 5, 1], prompt_token_ids=[0, 1, 2, 3, 4])
    cut = reply(finish="length", token_ids=[9, 8, 7, 6, 5, 4])
    loop = reply(finish="repetition", token_ids=[9, 8] * 3)
    fake = Fake(stopped, cut, loop, reply())
    done = [sample(fake, request())[0] for _ in range(4)]
    assert [completion.ids for completion in done] == [[9, 8, 7, 6, 5], [9, 8, 7, 6, 5, 4], [9, 8] * 3, None]
    assert [completion.tokens for completion in done] == [5, 6, 6, 5]
    assert [completion.finish for completion in done] == ["stop", "length", "repetition", "stop"]
    assert all(body["return_token_ids"] is True for body in fake.bodies)


@pytest.mark.parametrize("ids", [[1, 2], ["a"] * 6, 5, [1, 2, 3, 4, 5, None]], ids=["few", "text", "number", "null"])
def test_strange_token_ids_are_another_try(ids: Any) -> None:
    fake = Fake(reply(finish="length", token_ids=ids), reply("at last"))
    assert sample(fake, request())[0].text == "at last"


def test_a_prompt_that_arrives_changed_ends_the_run() -> None:
    with pytest.raises(BackendError, match=r"(?s)a prompt of 6 tokens, not the 5.*truncate or rewrite"):
        sample(Fake(reply(prompt_token_ids=[99, 0, 1, 2, 3, 4])), request())


def test_loops_are_ended_by_the_engine_when_asked_for() -> None:
    fake = Fake(reply())
    sample(fake, request())
    sample(fake, request(), repetition={"max_pattern_size": 40, "min_count": 8})
    assert "repetition_detection" not in fake.bodies[0]
    asked = {"max_pattern_size": 40, "min_pattern_size": 1, "min_count": 8}
    assert fake.bodies[1]["repetition_detection"] == asked


def test_replies_are_kept_before_they_are_read() -> None:
    kept: list[tuple[str, bytes]] = []

    async def go() -> None:
        async with Fake(raw("not json"), reply()).running() as url:
            made: Any = client(url)
            made.journal = lambda asked, reply: kept.append((asked.id, reply))
            await made.open()
            await made.complete(request("r1"))
            await made.close()

    asyncio.run(go())
    assert [name for name, _ in kept] == ["r1", "r1"]
    assert kept[0][1] == b"not json"
    assert b"hello" in kept[1][1]


def test_max_tokens_is_capped_to_the_context() -> None:
    fake = Fake(reply(finish="length"))
    (done,) = sample(fake, request(prompt=60, max_tokens=1000, top_k=20))
    assert (done.tokens, done.finish) == (6, "length")
    assert (fake.bodies[0]["max_tokens"], fake.bodies[0]["top_k"]) == (4, 20)


def test_a_prompt_without_room_is_refused_unsent() -> None:
    fake = Fake(reply())
    with pytest.raises(Refused, match="64 tokens and leaves no room"):
        sample(fake, request(prompt=64))
    assert not fake.bodies


@pytest.mark.parametrize(
    "bad",
    [
        status(500),
        status(429),
        status(503),
        half,
        raw("not json"),
        raw('{"choices": []}'),
        raw("[]"),
        reply(finish="abort"),
    ],
    ids=["500", "429", "503", "half", "not json", "no choice", "list", "abort"],
)
def test_tries_again(bad: Answer) -> None:
    fake = Fake(bad, reply("at last"))
    assert sample(fake, request())[0].text == "at last"
    assert fake.bodies[0] == fake.bodies[1]


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_bad_request_is_refused(code: int) -> None:
    fake = Fake(status(code, "top_p is strange"))
    with pytest.raises(Refused, match=f"{code}: top_p is strange"):
        sample(fake, request())
    assert len(fake.bodies) == 1


def test_a_lost_model_ends_the_run() -> None:
    with pytest.raises(BackendError, match="404: the model `tiny` does not exist"):
        sample(Fake(status(404, "the model `tiny` does not exist")), request())


def test_patience_ends() -> None:
    async def dying(web_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        fake.health = 503
        return await status(502, "bad gateway")(web_request, body)

    fake = Fake(dying)
    with pytest.raises(BackendError, match=r"(?s)127.0.0.1:\d+: no endpoint has worked .* 502: bad gateway.*saved"):
        sample(fake, request(), patience=0.3)


def test_a_slow_healthy_server_is_waited_for() -> None:
    fake = Fake(status(429), status(429), reply())
    assert sample(fake, request(), patience=0.1)[0].text == "hello"


def test_a_request_that_always_fails_is_refused_while_others_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.endpoints.pool._MAX_FAILURES", 2)

    async def poisoned(web_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (status(500, "poison") if len(body["prompt"]) == 6 else reply())(web_request, body)

    async def go() -> None:
        async with Fake(poisoned).running() as url:
            made = client(url)
            await made.open()
            bad = asyncio.create_task(made.complete(request(prompt=6)))
            await asyncio.sleep(0.1)
            await made.complete(request())
            with pytest.raises(Refused, match=r"2 times .* poison"):
                await bad
            await made.close()

    asyncio.run(go())


def test_load_is_spread_and_a_dead_endpoint_avoided() -> None:
    async def go() -> None:
        one, two = Fake(after(0.05)), Fake(after(0.05))
        async with one.running() as first:
            async with two.running() as second:
                made = client(first, second + "/v1")
                await made.open()
                await asyncio.gather(*(made.complete(request(str(i))) for i in range(20)))
                assert len(one.bodies) == len(two.bodies) == 10
            done = await asyncio.gather(*(made.complete(request(str(i))) for i in range(20)))
            assert {completion.endpoint for completion in done} == {first}
            await made.close()

    asyncio.run(go())


def test_cancelling_aborts_the_request() -> None:
    async def go() -> None:
        fake = Fake(never)
        async with fake.running() as url:
            made = client(url)
            await made.open()
            task = asyncio.create_task(made.complete(request()))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0.1)
            assert fake.cancelled == 1
            await made.close()

    asyncio.run(go())


def test_many_at_once() -> None:
    start = time.monotonic()
    done = sample(Fake(reply()), *(request(str(i)) for i in range(500)))
    assert len(done) == 500
    assert time.monotonic() - start < 10


def test_another_model_is_wrong_input() -> None:
    with pytest.raises(InputError, match=r"(?s)serves other, not tiny.*--served-model-name tiny"):
        sample(Fake(reply(), model="other"), request())
    assert sample(Fake(reply(), model="some/where"), request())  # vLLM's default name is the path


def test_too_short_a_context_is_wrong_input() -> None:
    with pytest.raises(InputError, match=r"(?s)context of 32 tokens, 64 are needed.*--max-model-len 64"):
        sample(Fake(reply(), context=32), request())
    assert sample(Fake(reply(), context=None), request())


def test_nothing_listens() -> None:
    async def go() -> None:
        made = client(f"http://127.0.0.1:{claim_port(None)}")
        with pytest.raises(BackendError, match=r"(?s)127.0.0.1:\d+: cannot be reached.*is it running"):
            await made.open()

    asyncio.run(go())


def test_something_else_listens() -> None:
    async def go() -> None:
        app = web.Application()
        async with TestServer(app, host="127.0.0.1") as server:
            with pytest.raises(BackendError, match="404"):
                await client(f"http://127.0.0.1:{server.port}").open()

    asyncio.run(go())


def test_api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    assert sample(Fake(reply(), key="s3cret"), request(), api_key_env="SOME_KEY")
    with pytest.raises(BackendError, match=r"(?s)401.*api_key_env") as caught:
        sample(Fake(reply(), key="other"), request(), api_key_env="SOME_KEY")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(InputError, match="NO_KEY is not set"):
        sample(Fake(reply()), request(), api_key_env="NO_KEY")


def test_headers_of_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE", "open sesame")
    seen: list[str | None] = []

    async def look(web_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.append(web_request.headers.get("X-Gate"))
        return await reply()(web_request, body)

    sample(Fake(look), request(), headers={"X-Gate": "$GATE"})
    assert seen == ["open sesame"]
    with pytest.raises(InputError, match=r"(?s)headers.X-Gate.*NOWHERE is not set"):
        sample(Fake(reply()), request(), headers={"X-Gate": "$NOWHERE"})


def test_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint does not exist: the proxy, which sees the whole address, answers for it."""

    async def go(**options: Any) -> str:
        async with Fake(reply("by proxy")).running() as proxy:
            monkeypatch.setenv("http_proxy", proxy)
            made = client("http://not.a.host.example:1", **options)
            await made.open()
            done = await made.complete(request())
            await made.close()
            return done.text

    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert asyncio.run(go(proxy="env")) == asyncio.run(go(proxy="$http_proxy")) == "by proxy"
    monkeypatch.setenv("no_proxy", "host.example")
    with pytest.raises(BackendError, match="cannot be reached"):
        asyncio.run(go(proxy="env"))


def test_a_certificate_authority_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(InputError, match=r"ca.pem"):
        sample(Fake(reply()), request(), ca=tmp_path / "ca.pem")


def test_more_requests_than_open_files_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 100_000)]
    monkeypatch.setattr("resource.getrlimit", lambda _: limits[-1])
    monkeypatch.setattr("resource.setrlimit", lambda _, wanted: limits.append(wanted))
    sample(Fake(reply()), request(), concurrency=2048)
    assert limits[-1] == (2304, 100_000)
    limits.append((1024, 1024))
    with pytest.raises(InputError, match=r"(?s)concurrency: 2048 needs more open files than the 1024.*lower it to 768"):
        sample(Fake(reply()), request(), concurrency=2048)


def test_an_address_needs_a_scheme_and_no_password() -> None:
    with pytest.raises(InputError, match="http://host:port"):
        client("localhost:8000")
    with pytest.raises(InputError, match="no password in a's address"):
        client("http://me:secret@a:1")
    assert Config(endpoints=("http://a:1/v1/",)).endpoints == ("http://a:1",)


def test_command() -> None:
    serve = {
        "tensor-parallel-size": 8,
        "trust-remote-code": True,
        "enable-prefix-caching": False,
        "a": None,
        "b": {"c": 1},
    }
    model = Model(name="r1", path="deepseek-ai/r1", revision="abc", context=8192, serve=serve)
    line = " ".join(vllm_command(model, 8000, cpu=False))
    assert line.startswith(f"{sys.executable} -m vllm.entrypoints.openai.api_server")
    assert "--revision abc --model" in line
    assert "--tensor-parallel-size 8 --trust-remote-code --no-enable-prefix-caching --b" in line
    assert "--model deepseek-ai/r1 --served-model-name r1 --max-model-len 8192" in line
    assert line.endswith("--host 127.0.0.1 --port 8000")
    assert "--enforce-eager" not in line
    assert "--no-enable-chunked-prefill --max-num-batched-tokens 8192" in " ".join(vllm_command(model, 1, cpu=True))


def test_a_port_in_use_is_wrong_input() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"(?s)port {port} is in use.*endpoints: \[http://127.0.0.1:{port}\]"):
            claim_port(port)


def server(tmp_path: Path, code: str) -> Server:
    return Server([sys.executable, "-c", code], {}, tmp_path / "log" / "vllm.log")


def test_last_words(tmp_path: Path) -> None:
    log = [
        "(APIServer pid=1) INFO 11-21 23:00:00 [api_server.py:1] hello",
        "(EngineCore pid=2) ERROR 11-21 23:00:00 [core.py:7] Traceback (most recent call last):",
        "(EngineCore pid=2) ERROR 11-21 23:00:00 [core.py:7] ValueError: No available memory for the cache blocks.",
        "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.",
        "(APIServer pid=1) bye",
    ]
    made = server(tmp_path, f"print({chr(10).join(log)!r})")
    while made.alive:
        time.sleep(0.02)
    said = made.last_words()
    assert said == f"ValueError: No available memory for the cache blocks. (log: {tmp_path / 'log' / 'vllm.log'})"
    made.stop()


def test_a_stubborn_server_and_its_children_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.machine.guarded._GRACE", -1.5)
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); "
        f"open({str(tmp_path / 'pid')!r} + str(os.getpid()), 'w').close(); time.sleep(60)"
    )
    made = server(tmp_path, code)
    while len(pids := list(tmp_path.glob("pid*"))) < 2:
        time.sleep(0.02)
    made.stop()
    until = time.monotonic() + 5
    while any(_runs(int(path.name.removeprefix("pid"))) for path in pids):
        assert time.monotonic() < until, "one still runs"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
