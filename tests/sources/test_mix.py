"""General data: shares of the final mix, drawn by content and seed, never repeated."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError, RunError
from distill.models import chat
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.progress import LogLines
from distill.sources.mix import Mix, MixSource
from distill.types import Message

CHAT = {"messages": "messages", "licence": "cc-by-4.0"}
QA = {"prompt": "{q}", "text": "a", "licence": "mit", "language": "{lang}"}


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def talk(number: int, answer: str = "") -> dict[str, Any]:
    turns = [{"role": "user", "content": f"Hello {number}"}]
    return {"messages": [*turns, {"role": "assistant", "content": answer or f"Hi number {number}."}]}


def words(text: str) -> int:
    return len(text.split())


def draw(sources: dict[str, MixSource], rows: int = 100, tokens: int = 10_000, **changes: Any) -> Mix:
    settings = {"count_tokens": words, "tags": Tags(), "thinks": True, "seed": 0, "progress": LogLines(), **changes}
    return Mix(sources, rows, tokens, **settings)


@pytest.fixture
def chats(tmp_path: Path) -> Callable[..., str]:
    def build(count: int, name: str = "chats.jsonl") -> str:
        return write(tmp_path / name, [talk(number) for number in range(count)])

    return build


def test_shares_of_rows_hold_in_the_final_mix(chats: Callable[..., str], tmp_path: Path) -> None:
    facts = write(tmp_path / "qa.jsonl", [{"q": f"{n}?", "a": f"It is {n}.", "lang": "de"} for n in range(500)])
    mixed = draw(
        {
            "chat": MixSource(path=chats(1000), map=CHAT, share=0.25),
            "facts": MixSource(path=facts, map=QA, share=0.15),
        },
        rows=600,
    )
    rows = list(mixed)
    total = 600 + len(rows)
    assert {name: sum(row.set == name for row in rows) for name in ("chat", "facts")} == {"chat": 250, "facts": 150}
    assert total == 1000
    assert [(item.reached, item.short, item.read) for item in mixed.report()] == [
        (0.25, False, 1000),
        (0.15, False, 500),
    ]
    assert {(row.set, row.licence, row.language, row.source) for row in rows} == {
        ("chat", "cc-by-4.0", "en", str(tmp_path / "chats.jsonl")),
        ("facts", "mit", "de", facts),
    }
    assert len({row.trace_id for row in rows}) == len(rows)


def test_shares_of_tokens_hold_within_one_row(tmp_path: Path) -> None:
    lengths = random.Random(3)
    path = write(tmp_path / "long.jsonl", [talk(n, "word " * lengths.randrange(1, 60)) for n in range(2000)])
    mixed = draw({"chat": MixSource(path=path, map=CHAT, share=0.2, by="tokens")}, tokens=40_000)
    tokens = sum(row.tokens for row in mixed)
    assert 10_000 <= tokens < 10_000 + 62
    assert mixed.report()[0].reached == pytest.approx(0.2, abs=0.001)


def test_the_draw_depends_on_content_and_seed_only(tmp_path: Path) -> None:
    rows = [talk(number) for number in range(300)]
    shuffled = rows[::-1] + rows[:50]  # another order, and some rows twice
    first, second = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", shuffled)

    def ids(path: str, seed: int = 0) -> list[str]:
        return [row.trace_id for row in draw({"chat": MixSource(path=path, map=CHAT, share=0.3)}, seed=seed)]

    assert sorted(ids(first)) == sorted(ids(second))
    assert len(set(ids(second))) == len(ids(second)) == 43
    assert set(ids(first)) != set(ids(first, seed=1))


def test_a_source_too_small_is_told_and_the_others_keep_their_share(chats: Callable[..., str]) -> None:
    mixed = draw(
        {
            "small": MixSource(path=chats(10, "small.jsonl"), map=CHAT, share=0.4),
            "large": MixSource(path=chats(1000), map=CHAT, share=0.2),
        },
        rows=390,
    )
    rows = list(mixed)
    small, large = mixed.report()
    assert (small.rows, small.short, small.wanted) == (10, True, 390)
    assert (large.rows, large.short, large.reached) == (100, False, 0.2)
    assert len(rows) == 110


@pytest.mark.parametrize(
    ("text", "reasoning", "thinks", "expected"),
    [
        ("Hi.", "empty", True, "<think>\n\n</think>\n\nHi."),
        ("Hi.", "keep", True, "<think>\n\n</think>\n\nHi."),
        ("<think>\nShort.\n</think>\n\nHi.", "keep", True, "<think>\nShort.\n</think>\n\nHi."),
        ("Short.\n</think>\n\nHi.", "keep", True, "<think>\nShort.\n</think>\n\nHi."),
        ("<think>\nShort.\n</think>\n\nHi.", "empty", True, "<think>\n\n</think>\n\nHi."),
        ("<think>\nShort.\n</think>\n\nHi.", "empty", False, "Hi."),
        ("Hi.", "keep", False, "Hi."),
    ],
)
def test_reasoning_is_kept_or_left_empty(
    text: str, reasoning: Any, thinks: bool, expected: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "one.jsonl", [talk(1, text)])
    source = MixSource(path=path, map=CHAT, share=0.5, reasoning=reasoning)
    (row,) = draw({"chat": source}, rows=1, thinks=thinks)
    assert row.messages[-1]["content"] == expected
    assert row.tokens == words(expected)


def test_a_student_whose_template_thinks_takes_the_rows(tiny: Path, chats: Callable[..., str]) -> None:
    tokenizer = Tokenizer(str(tiny / "base"))
    assert tokenizer.prompt((Message(role="user", content="x"),), Tags()).prefill
    for row in draw({"chat": MixSource(path=chats(50), map=CHAT, share=0.1)}):
        messages = tuple(Message.model_validate(message) for message in row.messages)
        example = chat.example(tokenizer, messages, Tags(), "<|im_end|>")
        learnt = tokenizer.decode([token for token, mask in zip(example.ids, example.mask, strict=True) if mask])
        assert learnt.startswith("\n</think>\n\nHi number ")


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    rows = [
        talk(1),
        "{broken",
        {"messages": []},
        talk(2, "<think>\nnever closed"),
        talk(3, "<think>\na\n</think>\n\n<think>\nb\n</think>\n\nc"),
        talk(4, "<think>\na\n</think>\n"),
        talk(5, "   "),
    ]
    mixed = draw({"chat": MixSource(path=write(tmp_path / "mess.jsonl", rows), map=CHAT, share=0.5)})
    assert len(list(mixed)) == 1
    assert mixed.report()[0].rejected == {
        "is not a JSON object": 1,
        "its field 'messages' is no list of turns": 1,
        "was cut before it ended": 1,
        "has more than one think block": 1,
        "has no answer after its reasoning": 1,
        "its attempt is empty": 1,
    }


def test_a_limit_draws_from_the_first_rows_only(chats: Callable[..., str]) -> None:
    rows = list(draw({"chat": MixSource(path=chats(500), map=CHAT, share=0.5, limit=20)}))
    assert {row.messages[0]["content"] for row in rows} == {f"Hello {number}" for number in range(20)}


def test_shares_that_cannot_hold_are_refused(chats: Callable[..., str], tmp_path: Path) -> None:
    path = chats(5)
    with pytest.raises(InputError, match="leave no room"):
        draw({name: MixSource(path=path, map=CHAT, share=0.5) for name in "ab"})
    with pytest.raises(InputError, match="measure their share differently"):
        draw(
            {
                "a": MixSource(path=path, map=CHAT, share=0.1),
                "b": MixSource(path=path, map=CHAT, share=0.1, by="tokens"),
            }
        )
    with pytest.raises(InputError, match=r"mix\.a\.map: mesages: no such field"):
        draw({"a": MixSource(path=path, map={"mesages": "m"}, share=0.1)})
    with pytest.raises(InputError, match="no such file"):
        draw({"a": MixSource(path=str(tmp_path / "no.jsonl"), map=CHAT, share=0.1)})


def test_a_source_that_changes_between_the_readings_is_noticed(chats: Callable[..., str]) -> None:
    mixed = draw({"chat": MixSource(path=chats(50), map=CHAT, share=0.3)})
    chats(2)
    with pytest.raises(RunError, match="changed while it was read"):
        list(mixed)
