"""Sealed logs: the same rows and addresses as a plain file, at every moment of a writer's life and death."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard  # noqa: F401  forked writers then need not import it, nor the lock
from filelock import SoftFileLease  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import InputError, RunError
from distill.run import stamp
from distill.store import jsonl, log_parts, sealed

pytestmark = pytest.mark.slow  # it waits for processes, servers and disks


def line(number: int, size: int = 50) -> bytes:
    """A row with a trace's head, its text unlike any other's."""
    row = {
        "id": f"t{number}",
        "problem_id": f"p{number // 4}",
        "sample": number % 4,
        "finish": "stop",
        "usage": {"prompt": 3, "reasoning": number, "answer": 2},
        "segments": [{}] * (1 + number % 2),
        "text": random.Random(number).randbytes(size // 2).hex(),
    }
    return orjson.dumps(row) + b"\n"


@pytest.fixture(autouse=True)
def _small_frames() -> Iterator[None]:
    before, sealed.FRAME = sealed.FRAME, 1000
    yield
    sealed.FRAME = before


def check(path: Path, expected: list[bytes]) -> None:
    """Everything that reads a log finds these lines, each once, in order, and again by its address."""
    assert [row for _, row in jsonl.rows(path)] == [orjson.loads(text) for text in expected]
    assert b"".join(jsonl.blocks(path)).startswith(b"".join(expected))
    found = list(jsonl.lines(jsonl.Chunk(str(path), 0, jsonl.size(path))))
    assert [text for _, text in found] == expected
    heads = list(jsonl.heads(path))
    assert [(head.offset, head.id) for head in heads] == [(at, orjson.loads(text)["id"]) for at, text in found]
    for at, text in found:
        assert jsonl.line_at(str(path), at) == text
    for size in (70, 5000):
        cut = list(jsonl.chunks(path, size))
        assert [text for chunk in cut for _, text in jsonl.lines(chunk)] == expected
        assert [chunk.start for chunk in cut[1:]] == [chunk.end for chunk in cut[:-1]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_log_is_sealed_as_it_grows_and_reads_the_same(tmp_path: Path) -> None:
    path, plain = tmp_path / "traces.jsonl", tmp_path / "plain.jsonl"
    written = [line(n) for n in range(60)]
    with jsonl.Log(path, seal=3000) as log:
        places = [log.append_bytes(text) for text in written]
    plain.write_bytes(b"".join(written))
    assert names(tmp_path) == [
        "plain.jsonl",
        *(f"traces.{n:05}.{kind}" for n in range(3) for kind in ("index", "jsonl.zst")),
        "traces.jsonl",
    ]
    check(path, written)
    assert [at for at, _ in jsonl.lines(jsonl.Chunk(str(plain), 0, 10**9))] == places
    third = list(jsonl.heads(path))[3]
    assert third == jsonl.Head(str(path), places[3], "t3", "p0", 3, "stop", 5, 2)
    assert (stamp(path) or {})["hash"] == (stamp(plain) or {})["hash"]


@given(
    sizes=st.lists(st.integers(2, 3000), max_size=40),
    seal=st.integers(1, 5000),
    span=st.tuples(st.integers(0, 20_000), st.integers(0, 20_000)),
)
@settings(max_examples=40, deadline=None)
def test_any_range_of_any_log_gives_the_lines_that_begin_in_it(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seal: int, span: tuple[int, int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.jsonl"
    written = [line(n, size) for n, size in enumerate(sizes)]
    with jsonl.Log(path, seal=seal) as log:
        places = [log.append_bytes(text) for text in written]
    check(path, written)
    found = [at for at, _ in jsonl.lines(jsonl.Chunk(str(path), *span))]
    assert found == [at for at in places if span[0] <= at < span[1]]


def test_a_log_of_other_rows_is_sealed_too_and_has_no_heads(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with jsonl.Log(path, seal=100) as log:
        for n in range(50):
            log.append_bytes(b'{"n": %d}\r\n' % n)
    assert [(number, row["n"]) for number, row in jsonl.rows(path)] == [(n + 1, n) for n in range(50)]
    with pytest.raises(InputError, match="the line at byte 0 is no trace"):
        list(jsonl.heads(path))


def test_addresses_outlive_sealing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with jsonl.Log(path) as log:
        places = [log.append_bytes(line(n)) for n in range(30)]
    before = stamp(path)
    chunks = list(jsonl.chunks(path, 500))
    with jsonl.Log(path, seal=100) as log:
        later = log.append_bytes(line(30))
    assert "x.00000.jsonl.zst" in names(tmp_path)
    for n, at in enumerate([*places, later]):
        assert jsonl.line_at(str(path), at) == line(n)
    assert [text for chunk in chunks for _, text in jsonl.lines(chunk)] == [line(n) for n in range(30)]
    assert stamp(path, before) != before, "a row was added"
    log_parts.rotate(path, 1)
    assert jsonl.exists(path)
    assert [head.id for head in jsonl.heads(path)] == [f"t{n}" for n in range(31)]


def test_no_line_at_a_wrong_address(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with jsonl.Log(path, seal=1000) as log:
        places = [log.append_bytes(line(n)) for n in range(30)]
    for at in (places[0] + 1, places[20] - 1, 10**6):
        with pytest.raises(InputError, match=f"no line begins at byte {at}"):
            jsonl.line_at(str(path), at)


def test_lines_at_addresses_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with jsonl.Log(path, seal=1000) as log:
        places = [log.append_bytes(line(n)) for n in range(30)]
    order = [*range(0, 30, 3), 5, 5, 29, 0]
    assert list(jsonl.lines_at((str(path), places[n]) for n in order)) == [line(n) for n in order]
    with pytest.raises(InputError, match=f"no line begins at byte {places[3] + 1}"):
        list(jsonl.lines_at([(str(path), places[0]), (str(path), places[3] + 1)]))


@pytest.mark.parametrize("spoil", ["missing", "empty", "cut", "garbage", "another part's", "heads"])
def test_an_index_that_is_missing_or_stale_is_made_anew(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "x.jsonl"
    written = [line(n, 100 + n) for n in range(60)]
    with jsonl.Log(path, seal=5000) as log:
        for text in written:
            log.append_bytes(text)
    index = tmp_path / "x.00001.index"
    good = index.read_bytes()
    spoiled = {
        "missing": b"",
        "empty": b"",
        "cut": good[:30],
        "garbage": b"\x00\xff not json\n",
        "another part's": (tmp_path / "x.00000.index").read_bytes(),
        "heads": good.replace(b"t30", b"t99"),
    }[spoil]
    assert spoiled != good
    index.write_bytes(spoiled)
    if spoil == "missing":
        index.unlink()
    # as a new process finds it
    sealed._load.cache_clear()
    log_parts._finished.cache_clear()
    check(path, written)
    assert index.read_bytes() == good


def test_what_is_lost_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with jsonl.Log(path, seal=2000) as log:
        for n in range(60):
            log.append_bytes(line(n))
    part = tmp_path / "x.00001.jsonl.zst"
    good = part.read_bytes()
    part.write_bytes(good[:100] + bytes(20) + good[120:])
    with pytest.raises(InputError, match=r"x\.00001\.jsonl\.zst: is damaged"):
        list(jsonl.rows(path))
    part.unlink()
    with pytest.raises(InputError, match=r"its part 1 is missing"):
        list(jsonl.rows(path))
    with pytest.raises(InputError, match=r"its part 1 is missing"):
        jsonl.Log(path)
    assert not (tmp_path / "x.jsonl.lock").exists()
    part.write_bytes(good)
    with pytest.raises(RunError, match="has finished parts beside it"):
        jsonl.write(path, [])


def test_readers_see_a_prefix_while_a_writer_rotates_and_seals(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    count, ended = 1500, threading.Event()

    def writing() -> None:
        with jsonl.Log(path, seal=4000) as log:
            for n in range(count):
                log.append_bytes(line(n))
        ended.set()

    writer = threading.Thread(target=writing)
    writer.start()
    seen, looks = 0, 0
    while not ended.is_set():
        if jsonl.exists(path):
            ids = [head.id for head in jsonl.heads(path)]
            assert ids == [f"t{n}" for n in range(len(ids))]
            assert len(ids) >= seen
            if ids:
                assert jsonl.line_at(str(path), list(jsonl.heads(path))[-1].offset).endswith(b"\n")
            seen, looks = len(ids), looks + 1
    writer.join()
    assert looks > 3
    assert len(list(jsonl.rows(path))) == count


def test_appending_goes_on_from_several_threads(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with jsonl.Log(path, seal=2000) as log:
        threads = [
            threading.Thread(target=lambda k=k: [log.append_bytes(line(k * 50 + n)) for n in range(50)])
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(ValueError, match="one line"):
            log.append_bytes(b"{}\n{}\n")
    check(path, [text for _, text in jsonl.lines(jsonl.Chunk(str(path), 0, 10**9))])
    assert sorted(head.id for head in jsonl.heads(path)) == sorted(f"t{n}" for n in range(200))


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder whose file system syncs at once, where there is one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


def in_child(work: Callable[[Callable[[bytes], Any]], None]) -> tuple[list[bytes], int]:
    """Run `work` in a forked process; returns the words that it said, and its status (negative: the signal)."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        status = 70
        try:
            work(lambda word: os.write(theirs, word + b"\n"))
            status = 0
        finally:
            os._exit(status)
    os.close(theirs)
    with open(ours, "rb") as said:
        words = said.read().splitlines()
    return words, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_before(step: int, folder: Path) -> None:
    """Kill -9 this process when it is about to open, rename, cut or remove the `step`-th file of a folder."""
    left = step
    within = str(folder)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.remove", "os.truncate") and str(args[0]).startswith(within):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def session(path: Path, texts: list[bytes], seal: int, step: int | None) -> tuple[int, int]:
    """A writer's life; returns how many rows it was told are safe, and its status."""

    def work(say: Callable[[bytes], Any]) -> None:
        if step is not None:
            die_before(step, path.parent)
        with jsonl.Log(path, seal=seal) as log:
            for text in texts:
                log.append_bytes(text)
                say(b"done")

    words, status = in_child(work)
    return len(words), status


def test_killed_before_any_step_nothing_is_lost_or_doubled(memory: Path) -> None:
    written = [line(n, 200) for n in range(9)]
    status, step = -signal.SIGKILL, 0
    seen = set()
    while status:
        folder = memory / str(step)
        path = folder / "x.jsonl"
        told, status = session(path, written, 1200, step)
        assert status in (0, -signal.SIGKILL)
        seen |= {name.rpartition(".")[2] for name in names(folder)} if folder.exists() else set()
        kept = len(list(jsonl.rows(path))) if jsonl.exists(path) else 0
        assert told <= kept <= told + 1
        if kept:
            check(path, written[:kept])
        assert session(path, written[kept:], 1200, None) == (9 - kept, 0)
        check(path, written)
        left = names(folder)
        assert not [name for name in left if name.endswith((".partial", ".unsealed", ".lock"))], left
        step += 1
    assert step > 20
    assert seen >= {"partial", "unsealed", "zst", "index", "lock", "jsonl"}


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(2, 1500), max_size=12),
            st.integers(1, 3000),
            st.none() | st.integers(0, 80),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=15, deadline=None)
def test_any_lives_of_writers_give_exactly_the_appended_rows_in_order(
    memory: Path, lives: list[tuple[list[int], int, int | None]]
) -> None:
    path = Path(tempfile.mkdtemp(dir=memory)) / "x.jsonl"
    expected: list[bytes] = []
    for sizes, seal, step in lives:
        texts = [line(len(expected) + n, size) for n, size in enumerate(sizes)]
        told, status = session(path, texts, seal, step)
        assert status in (0, -signal.SIGKILL)
        kept = len(list(jsonl.rows(path))) if jsonl.exists(path) else 0
        assert told <= kept - len(expected) <= min(told + 1, len(texts))
        expected += texts[: kept - len(expected)]
        if jsonl.exists(path):
            check(path, expected)


def allow(size: int) -> None:
    """No file of this process may grow beyond so many bytes: writing then fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_disk_that_fills_up_while_appending_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"

    def work(say: Callable[[bytes], Any]) -> None:
        allow(1000)
        with jsonl.Log(path) as log:
            done = 0
            for size in (1000, resource.RLIM_INFINITY):
                allow(size)
                try:
                    while done < 12:
                        log.append_bytes(line(done))
                        done += 1
                except RunError as error:
                    say(str(error).splitlines()[0].encode())
            say(str(done).encode())

    assert in_child(work) == ([f"{path}: cannot write: File too large".encode(), b"12"], 0)
    check(path, [line(n) for n in range(12)])
    assert names(tmp_path) == ["x.jsonl"]


def test_a_disk_that_fills_up_while_sealing_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    written = [line(n, 4000) for n in range(20)]

    def work(say: Callable[[bytes], Any]) -> None:
        full, seal = threading.Event(), log_parts.seal
        log_parts.seal = lambda *given: (full.wait(), seal(*given))[1]  # the disk fills up before sealing begins
        with jsonl.Log(path, seal=60_000) as log:
            for text in written[:16]:
                log.append_bytes(text)
            allow(30_000)
            full.set()
            for text in written[16:]:
                log.append_bytes(text)

    assert in_child(work) == ([], 0)
    assert names(tmp_path) == ["x.00000.unsealed", "x.jsonl"]
    check(path, written)
    with jsonl.Log(path):
        pass
    assert names(tmp_path) == ["x.00000.index", "x.00000.jsonl.zst", "x.jsonl"]
    check(path, written)


def test_an_error_does_not_wait_for_sealing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"

    def interrupted() -> None:
        with jsonl.Log(path, seal=30_000) as log:
            for n in range(100):
                log.append_bytes(line(n, 1000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    check(path, [line(n, 1000) for n in range(100)])
    assert not [name for name in names(tmp_path) if name.endswith((".partial", ".lock"))]
    with jsonl.Log(path):
        pass
    assert not [name for name in names(tmp_path) if name.endswith(".unsealed")]
