"""Real vLLM and transformers on the tiny teacher. One server serves all tests that can share it."""

from __future__ import annotations

import asyncio
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from distill import resources
from distill.backends import Backend, ChosenBackend
from distill.errors import BackendError, InputError
from distill.models.chat import Tokenizer
from distill.models.model import Model
from distill.models.reasoning import Tags
from distill.models.request import Completion, Refused, Request
from distill.types import Message, Sampling

TEACHER = resources.folder("data") / "tiny" / "teacher"
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]
MODEL = Model(name="tiny-teacher", path=str(TEACHER), context=1024)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TEACHER))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Backend]]:
    """A server that the backend started, and the event loop in which it is used."""
    with asyncio.Runner() as runner:
        made = backend("vllm", tmp_path_factory.mktemp("log"))
        runner.run(made.open())
        yield runner, made
        url = runner.run(address(made))
        runner.run(made.close())
        assert not listens(url)


def backend(kind: str, log: Path, model: Model = MODEL, **options: object) -> Backend:
    made: Backend = ChosenBackend.of({"kind": kind, **options}).build(model, log)
    return made


def requests(tokenizer: Tokenizer, n: int, **sampling: object) -> list[Request]:
    settings = Sampling.model_validate({"temperature": 0.6, "top_p": 0.95, "max_tokens": 600, **sampling})
    made = []
    for i in range(n):
        text = (
            f"Using the numbers {i % 9 + 2}, {i % 13 + 5}, {i % 17 + 3}, make {10 + 7 * i % 90}. Use each number "
            "exactly once, with + - * / and parentheses. Put the expression in <answer></answer>."
        )
        prompt = tokenizer.prompt([Message(role="user", content=text)], Tags())
        made.append(Request(id=str(i), ids=prompt.ids, sampling=settings, seed=i))
    return made


async def gather(made: Backend, asked: list[Request]) -> list[Completion]:
    return await asyncio.gather(*(made.complete(request) for request in asked))


async def address(made: Backend) -> str:
    asked = Request(id="one", ids=(1, 2, 3), sampling=Sampling(max_tokens=1), seed=0)
    return (await made.complete(asked)).endpoint


def listens(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def test_seeds_repeat(started: tuple[asyncio.Runner, Backend], tokenizer: Tokenizer) -> None:
    runner, made = started
    assert made.engine.startswith("vllm 0.")
    asked = requests(tokenizer, 50)
    first = runner.run(gather(made, asked))
    again = runner.run(gather(made, asked[::-1]))[::-1]  # in another order, so in other batches
    same = sum(a.text == b.text for a, b in zip(first, again, strict=True))
    assert same >= 40, "rounding in another batch may tip a near-tie, and a long text has many; most must repeat"
    assert len({done.text for done in first}) > 25
    for done in first:
        assert done.text
        assert 0 <= done.tokens <= 600
        assert (done.tokens == 600) == (done.finish == "length")


def test_tokens_are_those_of_the_text(started: tuple[asyncio.Runner, Backend], tokenizer: Tokenizer) -> None:
    """Without the EOS. Some texts can be written in other tokens than were sampled, but most are not."""
    runner, made = started
    done = runner.run(gather(made, requests(tokenizer, 20, temperature=0)))
    assert sum(completion.tokens == len(tokenizer.encode(completion.text)) for completion in done) > 10


def test_a_request_that_cannot_work_is_refused(started: tuple[asyncio.Runner, Backend]) -> None:
    runner, made = started
    with pytest.raises(Refused, match="400"):
        runner.run(made.complete(Request(id="bad", ids=(10**6,), sampling=Sampling(max_tokens=5), seed=0)))
    with pytest.raises(Refused, match="no room"):
        runner.run(made.complete(Request(id="long", ids=(5,) * 1024, sampling=Sampling(), seed=0)))


def test_a_second_backend_joins(started: tuple[asyncio.Runner, Backend], tokenizer: Tokenizer, tmp_path: Path) -> None:
    runner, made = started
    url = runner.run(address(made))

    async def go() -> None:
        joined = backend("vllm", tmp_path, endpoints=[url + "/v1/"])
        await joined.open()
        assert joined.engine == made.engine
        done = await gather(joined, requests(tokenizer, 5))
        await joined.close()
        assert {completion.endpoint for completion in done} == {url}
        longer = MODEL.model_copy(update={"context": 2048})
        with pytest.raises(InputError, match="context of 1024 tokens, 2048 are needed"):
            await backend("vllm", tmp_path, longer, endpoints=[url]).open()
        with pytest.raises(InputError, match="serves tiny-teacher, not r1"):
            await backend("vllm", tmp_path, Model(name="r1", path="r1", context=8), endpoints=[url]).open()
        with pytest.raises(InputError, match="is in use"):
            await backend("vllm", tmp_path, port=int(url.rsplit(":", 1)[1])).open()

    runner.run(go())
    assert listens(url)  # a server that was only joined stays


def test_transformers_agrees(started: tuple[asyncio.Runner, Backend], tokenizer: Tokenizer, tmp_path: Path) -> None:
    runner, made = started
    asked = requests(tokenizer, 96)
    served = runner.run(gather(made, asked))

    async def go() -> list[Completion]:
        embedded = backend("transformers", tmp_path)
        await embedded.open()
        try:
            return await gather(embedded, asked)
        finally:
            await embedded.close()

    own = asyncio.run(go())
    lengths = [statistics.mean(completion.tokens for completion in done) for done in (served, own)]
    spread = statistics.stdev(completion.tokens for completion in served) / len(asked) ** 0.5
    assert abs(lengths[0] - lengths[1]) < 4 * 2**0.5 * spread + 1
    closed = [sum("</think>" in completion.text for completion in done) for done in (served, own)]
    assert abs(closed[0] - closed[1]) < 25


def test_a_model_that_cannot_be_served(tmp_path: Path) -> None:
    made = backend("vllm", tmp_path, MODEL.model_copy(update={"serve": {"no-such-flag": True}}))
    with pytest.raises(BackendError, match=rf"(?s)unrecognized arguments: --no-such-flag.*{tmp_path}.*vllm.log"):
        asyncio.run(made.open())


def test_kill_9_leaves_no_engine_behind(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from distill.backends import ChosenBackend
from distill.models.model import Model
model = Model.model_validate_json(sys.argv[1])
async def main():
    await ChosenBackend.of({{"kind": "vllm"}}).build(model, Path({str(tmp_path)!r})).open()
    print("open", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    command = [sys.executable, "-c", code, MODEL.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "open\n"
        family = descendants(parent.pid)
        assert len(family) >= 3  # guard, API server, engine
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while left := [pid for pid in family if runs(pid)]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.2)


def descendants(pid: int) -> list[int]:
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return children + [grandchild for child in children for grandchild in descendants(child)]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
