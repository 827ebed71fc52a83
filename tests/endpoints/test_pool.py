"""Many endpoints, of which some are slow, full, hung, dead, back again, or gone, over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from distill.backends import ChosenBackend
from distill.endpoints.addresses import AddressList
from distill.endpoints.failures import retry_after
from distill.endpoints.window import START_SIZE, Gauge, Window
from distill.errors import BackendError
from distill.models.request import Completion, Refused
from distill.serving.server_process import claim_port
from tests.backends.fake import MODEL, Fake, after, never, reply, request, status

pytestmark = pytest.mark.slow  # it waits for processes, servers and disks


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.endpoints.health._POLL_INTERVAL", 0.1)
    monkeypatch.setattr("distill.endpoints.health._FIRST_RETRY", 0.05)
    monkeypatch.setattr("distill.backends.vllm._REREAD_INTERVAL", 0.1)


@asynccontextmanager
async def pool(*urls: str, **options: Any) -> AsyncIterator[Any]:
    made = ChosenBackend.of({"kind": "vllm", "endpoints": urls, **options}).build(MODEL, Path("unused"))
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def ask(made: Any, count: int, **fields: Any) -> list[Completion]:
    return await asyncio.gather(*(made.complete(request(str(i)).model_copy(update=fields)) for i in range(count)))


async def until(true: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "never"
        await asyncio.sleep(0.02)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


@pytest.mark.slow
def test_2048_requests_in_flight() -> None:
    async def full(web_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if fake.now == 2048:
            arrived.set()
        await arrived.wait()
        return await reply()(web_request, body)

    async def go() -> None:
        async with fake.running() as url, pool(url, concurrency=2048) as made:
            assert len(await ask(made, 2100)) == 2100
        assert fake.most == 2048

    fake, arrived = Fake(full), asyncio.Event()
    run(go)


def test_no_more_in_flight_than_told() -> None:
    async def go() -> None:
        one, two = Fake(after(0.05)), Fake(after(0.05))
        async with one.running() as first, two.running() as second, pool(first, second, concurrency=6) as made:
            asked = asyncio.ensure_future(ask(made, 30))
            await until(lambda: made.status()["waiting"])
            assert (made.limit, made.status()["in_flight"]) == (6, 6)
            await asked
            assert made.status()["waiting"] == made.status()["in_flight"] == 0
        assert one.most == two.most == 3
        assert len(one.bodies) + len(two.bodies) == 30

    run(go)


def test_requests_go_where_the_engine_says_there_is_room() -> None:
    """The first one is busy with others' requests, and then with a full cache."""

    async def go() -> None:
        busy, idle = Fake(after(0.2)), Fake(after(0.2))
        busy.slots = idle.slots = 64
        async with busy.running() as first, idle.running() as second:
            busy.now = 30
            async with pool(first, second) as made:
                done = await ask(made, 20)
                assert {completion.endpoint for completion in done} == {second}
                busy.now, busy.cache = 0, 0.9
                await until(lambda: made.status()["each"][0]["running"] == 0)
                done = await ask(made, 20)
                assert {completion.endpoint for completion in done} == {second}
                busy.cache = 0.0
                await until(lambda: made.status()["each"][0]["cache"] == 0)
                done = await ask(made, 20)
                assert [completion.endpoint for completion in done].count(first) == 10

    run(go)


def test_a_continued_trace_goes_back_to_its_endpoint_unless_that_is_loaded() -> None:
    async def go() -> None:
        one, two = Fake(after(0.1)), Fake(after(0.1))
        async with one.running() as first, two.running() as second, pool(first, second, concurrency=40) as made:
            done = await ask(made, 8, affinity=second)
            assert {completion.endpoint for completion in done} == {second}
            done = await ask(made, 40, affinity=second)
            share = [completion.endpoint for completion in done].count(second)
            assert 20 < share < 30  # a quarter of its window more than the other one, not all
            done = await ask(made, 8, affinity="http://long.gone:1")
            assert {completion.endpoint for completion in done} == {first, second}

    run(go)


def test_an_endpoint_that_dies_gets_nothing_and_is_used_again_when_it_is_back() -> None:
    async def go() -> None:
        port = claim_port(None)
        async with AsyncExitStack() as steady:
            first = await steady.enter_async_context(Fake(after(0.02)).running())
            async with AsyncExitStack() as mortal:
                second = await mortal.enter_async_context(Fake(after(0.02)).running(port))
                made = await steady.enter_async_context(pool(first, second))
                assert {completion.endpoint for completion in await ask(made, 10)} == {first, second}
            assert {completion.endpoint for completion in await ask(made, 10)} == {first}
            await until(lambda: made.status()["ejected"] == 1)
            assert "cannot be reached" in made.status()["each"][1]["reason"]
            second = await steady.enter_async_context(Fake(after(0.02)).running(port))
            await until(lambda: made.status()["up"] == 2)
            assert {completion.endpoint for completion in await ask(made, 10)} == {first, second}

    run(go)


def test_requests_that_a_dying_server_takes_with_it_are_sent_elsewhere_and_not_to_blame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("distill.endpoints.pool._MAX_FAILURES", 1)

    async def go() -> None:
        port = claim_port(None)

        async def dies(web_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            asyncio.get_running_loop().call_later(0.05, dying.set)
            return await never(web_request, body)

        dying = asyncio.Event()
        async with AsyncExitStack() as stack:
            second = await stack.enter_async_context(Fake(dies).running(port))
            async with Fake(reply()).running() as first, pool(first, second) as made:
                asked = asyncio.ensure_future(ask(made, 20))
                await dying.wait()
                await stack.aclose()
                assert {completion.endpoint for completion in await asked} == {first}
                assert made.status()["retries"] == 10

    run(go)


def test_the_only_server_restarts() -> None:
    async def go() -> None:
        port = claim_port(None)
        async with AsyncExitStack() as stack:
            async with Fake(never).running(port) as url:
                made = await stack.enter_async_context(pool(url))
                asked = asyncio.ensure_future(ask(made, 5))
                await asyncio.sleep(0.1)
            await until(lambda: made.status()["ejected"] == 1)
            await asyncio.sleep(0.2)
            await stack.enter_async_context(Fake(reply()).running(port))
            assert len(await asked) == 5

    run(go)


def test_a_server_that_answers_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts connections and says nothing, as a stopped process does; its requests go elsewhere."""
    monkeypatch.setattr("distill.endpoints.vllm_server._PROBE_TIMEOUT", 0.1)
    monkeypatch.setattr("distill.endpoints.health._MAX_SILENCE", 0.5)

    async def go() -> None:
        hung, good = Fake(after(0.05)), Fake(after(0.05))
        async with hung.running() as first, good.running() as second, pool(first, second) as made:
            await ask(made, 4)
            hung.stuck = True
            done = await ask(made, 10)
            assert {completion.endpoint for completion in done} == {second}
            assert made.status()["each"][0]["state"] == "ejected"
            hung.stuck = False
            await until(lambda: made.status()["up"] == 2)

    run(go)


def test_a_lost_reply_is_asked_for_again() -> None:
    async def go() -> None:
        fake = Fake(never, reply("at last"))
        async with fake.running() as url, pool(url, timeout=0.2) as made:
            assert [completion.text for completion in await ask(made, 1)] == ["at last"]
            assert fake.cancelled == 1

    run(go)


@pytest.mark.parametrize("code", [429, 503])
def test_an_overloaded_server_never_burns_attempts(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr("distill.endpoints.state._MAX_PAUSE", 0.05)

    async def full(web_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (status(code) if fake.now > 4 or len(fake.bodies) < 60 else after(0.02))(web_request, body)

    async def go() -> None:
        async with fake.running() as url, pool(url) as made:
            assert len(await ask(made, 100)) == 100
            assert made.status()["retries"] >= 60
            assert made.limit < 100

    fake = Fake(full)
    run(go)


def test_retry_after_is_honoured() -> None:
    async def go() -> None:
        fake = Fake(status(429, Retry_After="0.4"), reply())
        async with fake.running() as url, pool(url) as made:
            start = time.monotonic()
            asked = asyncio.ensure_future(made.complete(request()))
            await until(lambda: fake.bodies)
            other = await made.complete(request("other"))  # it waits as well
            assert (await asked).text == other.text == "hello"
            assert time.monotonic() - start >= 0.4
            assert len(fake.bodies) == 3

    run(go)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0),
        ({"Retry-After": "Fri, 31 Dec 2099 23:59:59 GMT"}, 3600),
        ({"Retry-After": "99999999"}, 3600),
        ({"Retry-After": "soon"}, 0),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30.5s"}, 90.5),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "1m30.5s"}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "90ms"}, 0.09),
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == pytest.approx(seconds)


def test_a_request_that_kills_every_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.endpoints.pool._MAX_DEATHS", 3)

    async def kills(web_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(body["prompt"]) != 6:
            return await reply()(web_request, body)
        fake.health = 503
        asyncio.get_running_loop().call_later(0.15, setattr, fake, "health", 200)
        assert web_request.transport
        web_request.transport.abort()
        return web.Response()

    async def go() -> None:
        async with fake.running() as url, pool(url) as made:
            with pytest.raises(Refused, match="with 3 servers when they died"):
                await made.complete(request(prompt=6))
            assert (await made.complete(request())).text == "hello"

    fake = Fake(kills)
    run(go)


def test_a_server_that_turns_us_away_is_left_out_while_another_works() -> None:
    async def go() -> None:
        bad, good = Fake(status(404, "no such model")), Fake(reply())
        async with bad.running() as first, good.running() as second, pool(first, second) as made:
            assert {completion.endpoint for completion in await ask(made, 10)} == {second}
            good.script = [status(404, "here neither")]
            bad.model = "another"
            await until(lambda: made.status()["up"] == 1)
            with pytest.raises(BackendError, match="here neither"):
                await made.complete(request())

    run(go)


def test_dead_endpoints_do_not_keep_a_run_from_starting() -> None:
    async def go() -> None:
        async with Fake(reply()).running() as url, pool(f"http://127.0.0.1:{claim_port(None)}", url) as made:
            assert {completion.endpoint for completion in await ask(made, 3)} == {url}
            assert (made.status()["up"], made.status()["ejected"], made.engine) == (1, 1, "vllm 9.9")

    run(go)


def test_servers_join_and_leave_by_a_file(tmp_path: Path) -> None:
    async def go() -> None:
        file = tmp_path / "endpoints.txt"
        one, two = Fake(after(0.3)), Fake(after(0.05))
        async with one.running() as first, two.running() as second:
            asyncio.get_running_loop().call_later(0.2, file.write_text, f"# none yet\n\n{first}/v1  # the first\n")
            async with pool(endpoints_file=file) as made:
                asked = asyncio.ensure_future(ask(made, 6))
                await until(lambda: one.now == 6)
                file.write_text(f"{second}\nnonsense\n")
                await until(lambda: made.status()["up"] == 1 and made.status()["each"][-1]["url"] == second)
                assert made.status()["draining"] == 1
                assert {completion.endpoint for completion in await ask(made, 6)} == {second}
                assert {completion.endpoint for completion in await asked} == {first}  # it finished what it had
                await until(lambda: len(made.status()["each"]) == 1)
                file.write_text(f"{first}\n{second}\n")
                await until(lambda: made.status()["up"] == 2)
                file.unlink()  # as while it is being replaced: nobody leaves
                await asyncio.sleep(0.3)
                assert made.status()["up"] == 2

    run(go)


def test_a_file_without_a_server_is_waited_for_only_so_long(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.txt"

    async def go() -> None:
        with pytest.raises(BackendError, match=r"(?s)endpoints.txt: no server in it.*it is empty.*distill serve"):
            async with pool(endpoints_file=file, patience=0.2):
                pass
        async with Fake(reply(), model="other").running() as url:
            file.write_text(url)
            with pytest.raises(BackendError, match=r"serves other, not tiny"):
                async with pool(endpoints_file=file, patience=0.2):
                    pass

    run(go)


def test_when_all_servers_left_the_run_ends_after_its_patience(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.txt"

    async def go() -> None:
        async with Fake(reply()).running() as url:
            file.write_text(url)
            async with pool(endpoints_file=file, patience=0.3) as made:
                file.write_text("")
                await until(lambda: not made.status()["each"])
                with pytest.raises(BackendError, match="no endpoint has worked"):
                    await made.complete(request())

    run(go)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("http://a:1\nhttp://a:1/\nftp://b\n http://c:2 # c\n")
    roster = AddressList(tmp_path / "list")
    assert roster.read() == ["http://a:1", "http://c:2"]
    (tmp_path / "list").unlink()
    (tmp_path / "list").mkdir()
    assert roster.read() == ["http://a:1", "http://c:2"]


def test_cancelled_requests_leave_no_trace() -> None:
    async def go() -> None:
        fake = Fake(never)
        async with fake.running() as url, pool(url, concurrency=2) as made:
            asked = [asyncio.ensure_future(made.complete(request(str(i)))) for i in range(6)]
            await until(lambda: fake.now == 2)
            for task in asked[:4]:  # two under way, two in line
                task.cancel()
            await until(lambda: len(fake.bodies) == 4)
            assert (made.status()["in_flight"], made.status()["waiting"]) == (2, 0)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            assert made.status()["in_flight"] == 0
            fake.script = [reply()]
            assert len(await ask(made, 5)) == 5

    run(go)


def feed(window: Window, capacity: int, polls: int, leave: float, held: int = 0) -> Iterator[int]:
    """A client with enough to ask, in front of an engine of which `leave` of the running requests end in each poll."""
    for _ in range(polls):
        held = max(window.size, held - int(leave * min(held, capacity)))
        window.learn(Gauge(min(held, capacity), max(0, held - capacity), 0.5), held)
        yield window.size


@pytest.mark.parametrize("leave", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("capacity", [20, 128, 256, 700])
def test_the_window_finds_what_an_engine_runs_at_once(capacity: int, leave: float) -> None:
    window = Window(2048)
    window.learn(Gauge(0, 0, 0.0), 0)
    assert window.size == START_SIZE
    sizes = list(feed(window, capacity, 200, leave))
    assert all(capacity <= size <= capacity + max(16, capacity // 8) for size in sizes[20:])
    sizes = list(feed(window, capacity * 2, 200, leave, sizes[-1]))  # others that it served have left
    assert sizes[-1] >= 2 * capacity


def test_the_window_stays_where_it_does_not_limit_and_where_the_cache_is_full() -> None:
    window = Window(2048)
    for _ in range(5):
        window.learn(Gauge(50, 0, 0.1), 50)
    assert window.size == START_SIZE
    for _ in range(5):
        window.learn(Gauge(START_SIZE, 0, 0.95), START_SIZE)
    assert window.size == START_SIZE
    window.learn(Gauge(START_SIZE, 0, 0.5), START_SIZE)
    assert window.size == 2 * START_SIZE


def test_without_metrics_only_refusals_shrink_the_window() -> None:
    window = Window(1000)
    window.learn(None, 0)
    assert window.size == 1000
    window.refused(600)
    window.refused(600)  # of the same moment
    assert window.size == 420
