"""Import: other people's rows become problems and traces, by maps whose fields are those of the real data sets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from distill.errors import InputError, RunError
from distill.filters import ChosenFilter, Context
from distill.models import reasoning
from distill.models.reasoning import Tags
from distill.problems import sets
from distill.progress import LogLines
from distill.run import Run
from distill.sources import field_maps, imported
from distill.sources.imported import RejectedImport
from distill.store import jsonl
from distill.types import Problem, Trace, Usage

THINK = "<think>\nTwo and two.\n</think>\n\nIt is \\boxed{4}."
OT = "<|begin_of_thought|>\n\nHm.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nIt is 4.\n\n<|end_of_solution|>"
# one row of each data set, with every field of its card
ROWS: dict[str, dict[str, Any]] = {
    "openr1-math": {
        "problem": "2+2?",
        "solution": "4, clearly",
        "answer": "4",
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
        "source": "olympiads",
        "uuid": "u1",
        "is_reasoning_complete": [True, True],
        "generations": [THINK, THINK.replace("Two", "2")],
        "correctness_math_verify": [True, False],
        "correctness_llama": [False, False],
        "finish_reasons": ["stop", "length"],
        "correctness_count": 1,
        "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": THINK}],
    },
    "mixture-of-thoughts": {
        "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": THINK}],
        "num_tokens": 12,
        "source": "open-r1/OpenR1-Math-220k",
    },
    "openthoughts-114k": {
        "system": "Your role as an assistant …",
        "conversations": [{"from": "user", "value": "2+2?"}, {"from": "assistant", "value": OT}],
    },
    "openthoughts-114k-math": {
        "problem": "2+2?",
        "deepseek_reasoning": "Two and two.",
        "deepseek_solution": "It is \\boxed{4}.",
        "ground_truth_solution": "We add. $\\boxed{4}$",
        "domain": "math",
        "source": "numina_math",
        "test_cases": None,
        "starter_code": None,
    },
    "openthoughts3": {
        "difficulty": 8,
        "source": "ai2-adapt-dev/openmath-2-math",
        "domain": "math",
        "conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": THINK}],
    },
    "s1k": {
        "solution": "4",
        "question": "2+2?",
        "cot_type": "math",
        "source_type": "AI-MO/NuminaMath-CoT/aops_forum",
        "metadata": "{}",
        "cot": None,
        "thinking_trajectories": ["Two and two."],
        "attempt": "It is \\boxed{4}.",
    },
    "s1k-1.1": {
        "solution": "We add 2 and 2, which gives the number that is asked for.",
        "question": "2+2?",
        "cot_type": "math",
        "source_type": "AI-MO/NuminaMath-CoT/aops_forum",
        "metadata": "{}",
        "gemini_thinking_trajectory": "…",
        "gemini_attempt": "…",
        "deepseek_thinking_trajectory": "Two and two.",
        "deepseek_attempt": "It is \\boxed{4}.",
        "gemini_grade": "Yes",
        "gemini_grade_reason": "…",
        "deepseek_grade": "Yes",
        "deepseek_grade_reason": "…",
    },
    "real-traces": {"id": "r1", "problem": "2+2?", "reference": "4", "text": THINK, "truth": "incorrect"},
}
JOINED = "<think>\nTwo and two.\n</think>\n\nIt is \\boxed{4}."
# (gold, texts as kept, finishes, model, licence, source)
EXPECTED: dict[str, tuple[Any, list[str], list[str], str, str | None]] = {
    "openr1-math": ("4", ROWS["openr1-math"]["generations"], ["stop", "length"], "DeepSeek-R1", "apache-2.0"),
    "mixture-of-thoughts": (None, [THINK], ["stop"], "DeepSeek-R1", None),
    "openthoughts-114k": (None, ["<think>\nHm.\n</think>\n\nIt is 4."], ["stop"], "DeepSeek-R1", "apache-2.0"),
    "openthoughts-114k-math": ("4", [JOINED], ["stop"], "DeepSeek-R1", "apache-2.0"),
    "openthoughts3": (None, [THINK], ["stop"], "QwQ-32B", "apache-2.0"),
    "s1k": ("4", [JOINED], ["stop"], "gemini-flash-thinking", "apache-2.0"),
    "s1k-1.1": (None, [JOINED], ["stop"], "DeepSeek-R1", "mit"),
    "real-traces": ("4", [THINK], ["stop"], "unknown", "MIT or Apache-2.0, by row"),
}


def as_jsonl(path: Path, *rows: Any) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def load(source: str, map_: Any, run: Run, limit: int | None = None) -> dict[str, Any]:
    found = map_ if isinstance(map_, field_maps.FieldMap) else field_maps.find(map_)
    return imported.run(source, found, run, limit, LogLines())


def traces(run: Run) -> list[Trace]:
    return list(jsonl.read(run.traces_file, Trace))


def golds(run: Run) -> dict[str, Any]:
    return {problem.messages[0].content: problem.answer for problem in jsonl.read(run.problems, Problem)}


def rejected(run: Run) -> list[tuple[int, int | None, str]]:
    return [(r.row, r.attempt, r.reason) for r in jsonl.read(run.folder / imported.REJECTED, RejectedImport)]


def simple(**fields: Any) -> field_maps.FieldMap:
    return field_maps.build({"name": "own", "prompt": "{q}", "text": "a", "answer": "gold", **fields}, "test")


def test_every_shipped_map_has_a_row_here() -> None:
    assert set(ROWS) == set(EXPECTED) == set(field_maps.names())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "folder", "jsonl", "zst"])
@pytest.mark.parametrize("name", field_maps.names())
def test_shipped_maps_read_rows_of_their_data_set(name: str, form: str, tmp_path: Path) -> None:
    row = ROWS[name]
    if form in ("parquet", "folder"):
        path = tmp_path / ("x.parquet" if form == "parquet" else "set/data/train-00000-of-00001.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row]), path)
        source = str(path if form == "parquet" else tmp_path / "set")
    else:
        source = as_jsonl(tmp_path / "x.jsonl", row)
        if form == "zst":
            packed = zstandard.compress(Path(source).read_bytes())
            source += ".zst"
            Path(source).write_bytes(packed)
    run = Run(tmp_path / "run")
    summary = load(source, name, run)
    gold, texts, finishes, model, licence = EXPECTED[name]
    (problem,) = jsonl.read(run.problems, Problem)
    found = traces(run)
    assert (problem.answer, problem.licence, problem.set, problem.language) == (gold, licence, name, "en")
    assert "2+2?" in problem.messages[-1].content
    assert "role as an assistant" not in str(problem.messages)
    assert [(t.text, t.finish, t.model, t.engine) for t in found] == [
        (text, finish, model, "import") for text, finish in zip(texts, finishes, strict=True)
    ]
    assert all(t.reasoning and t.answer and t.source and t.source_id for t in found)
    assert all(t.problem_id == problem.id and t.usage == Usage(prompt=0, reasoning=0, answer=0) for t in found)
    assert [t.sample for t in found] == list(range(len(texts)))
    assert summary["rejected"] == 0
    assert run.state()["imports"] == [summary]


def test_labels_of_others_are_never_read() -> None:
    labels = ("truth", "status", "flags", "_grade", "correct", "complete", "peer_label")
    for name in field_maps.names():
        fields = field_maps.find(name).fields()
        assert fields <= set(ROWS[name])
        assert not [field for field in fields - {"ground_truth_solution"} if any(label in field for label in labels)]
    assert field_maps.find("real-traces").fields() == {"problem", "reference", "text", "id"}


def test_a_problem_of_openr1_is_the_one_that_generate_asks(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    load(as_jsonl(tmp_path / "x.jsonl", ROWS["openr1-math"]), "openr1-math", run)
    prompt = sets.find("openr1-math")[0].prompt.format(problem="2+2?")
    (problem,) = jsonl.read(run.problems, Problem)
    assert problem.messages[0].content == prompt


def test_importing_again_adds_nothing_and_more_rows_append(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    rows = [{"q": f"{n}?", "a": f"<think>\n{n}\n</think>\n\n{n}", "gold": str(n)} for n in range(6)]
    bad = {"q": "no attempt", "gold": "1"}
    first = as_jsonl(tmp_path / "first.jsonl", *rows[:4], bad)
    assert load(first, simple(), run)["traces"] == 4
    content = {path.name: path.read_bytes() for path in (run.problems, run.traces_file, run.folder / imported.REJECTED)}
    again = load(first, simple(), run)
    assert (again["traces"], again["problems"], again["found"], again["rejected"]) == (0, 0, 4, 1)
    assert content == {name: (run.folder / name).read_bytes() for name in content}
    more = load(as_jsonl(tmp_path / "second.jsonl", *rows[2:][::-1]), simple(), run)
    assert (more["traces"], more["found"]) == (2, 2)
    assert golds(run) == {f"{n}?": str(n) for n in range(6)}
    assert [entry["traces"] for entry in run.state()["imports"]] == [4, 0, 2]


def test_equal_attempts_are_repeats_and_other_models_are_not(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    row = {"q": "2+2?", "a": [THINK, THINK, THINK + " "], "gold": "4", "by": "m1"}
    summary = load(as_jsonl(tmp_path / "x.jsonl", row, row | {"by": "m2"}), simple(model="{by}"), run)
    assert (summary["traces"], summary["repeats"], summary["problems"]) == (4, 2, 1)
    assert [(t.model, t.sample, t.source_id) for t in traces(run)] == [
        ("m1", 0, "1/0"),
        ("m1", 1, "1/2"),
        ("m2", 2, "2/0"),
        ("m2", 3, "2/2"),
    ]


def test_a_cut_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    rows = [{"q": f"{n}?", "a": THINK, "gold": "4"} for n in range(20)]
    source = as_jsonl(tmp_path / "x.jsonl", *rows)
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    load(source, simple(), whole)

    class Stopped(LogLines):
        def advance(self, count: int = 1, note: str = "") -> None:
            if note == "8 traces":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imported.run(source, simple(), run, None, Stopped())
    with run.traces_file.open("ab") as file:
        file.write(b'{"schema_version":1,"id":"torn')  # as power loss leaves it
    summary = load(source, simple(), run)
    assert (summary["found"], summary["traces"]) == (8, 12)
    assert run.traces_file.read_bytes() == whole.traces_file.read_bytes()
    assert run.problems.read_bytes() == whole.problems.read_bytes()


def test_rows_that_cannot_become_traces_are_kept_aside(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    rows: list[Any] = [
        {"q": "ok", "a": [THINK, None, "  ", 7], "gold": "4"},
        "{broken",
        "[1, 2]",
        {"a": THINK, "gold": "4"},
        {"q": None, "a": THINK},
        {"q": "  ", "a": THINK},
        {"q": "x", "a": []},
        {"q": "no gold", "a": THINK, "gold": ""},
    ]
    summary = load(as_jsonl(tmp_path / "x.jsonl", *rows), simple(), run)
    assert rejected(run) == [
        (1, 1, "its attempt is empty"),
        (1, 2, "its attempt is empty"),
        (1, 3, "its attempt is empty"),
        (2, None, "is not a JSON object"),
        (3, None, "is not a JSON object"),
        (4, None, "lacks the field 'q'"),
        (5, None, "its field 'q' is null"),
        (6, None, "its problem is empty"),
        (7, None, "holds no attempt"),
    ]
    assert (summary["rejected"], summary["traces"], summary["without_gold"]) == (9, 2, 1)
    assert golds(run) == {"ok": "4", "no gold": None}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("text", "no list of turns"),
        ([], "no list of turns"),
        ([{"role": "user", "content": "x"}], "last turn is not the assistant's"),
        ([{"role": "assistant", "content": "x"}], "last turn is not the assistant's"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": "y"}], "last turn is not the assistant's"),
        ([{"role": "robot", "content": "x"}, {"role": "assistant", "content": "y"}], "unknown role 'robot'"),
        ([{"role": "user", "content": 5}, {"role": "assistant", "content": "y"}], "without role and content"),
        ([{"role": "user"}, {"from": "gpt", "value": "y"}], "without role and content"),
        ([3], "without role and content"),
    ],
)
def test_conversations_of_another_shape_are_refused(messages: Any, reason: str) -> None:
    found = field_maps.build({"name": "own", "messages": "turns"}, "test")
    with pytest.raises(ValueError, match=reason):
        field_maps.parse(found, {"turns": messages})


def test_a_long_conversation_keeps_its_earlier_turns() -> None:
    turns = [("system", "s"), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", THINK)]
    row = {"turns": [{"from": role, "value": text} for role, text in turns]}
    parsed = field_maps.parse(field_maps.build({"name": "own", "messages": "turns"}, "test"), row)
    assert [(m.role, m.content) for m in parsed.problem.messages] == [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]
    assert parsed.attempts[0].text == THINK


LONG = "So far we have seen that the sum of the two numbers cannot be odd, and therefore it has to"


@pytest.mark.parametrize(
    ("text", "finish"),
    [
        (THINK, "stop"),
        ("<think>\nand then", "length"),
        ("no think block at all \\boxed{4}", "length"),  # a source whose attempts should think
        ("<think>\na\n</think>\n\nIt is \\boxed{\\frac{1}{2}", "length"),
        (f"<think>\na\n</think>\n\n{LONG}", "length"),
        (f"<think>\na\n</think>\n\n{LONG},", "length"),
        (f"<think>\na\n</think>\n\n{LONG} be 4.", "stop"),
        (f"<think>\na\n</think>\n\n\\boxed{{4}} {LONG}", "stop"),
        ("<think>\na\n</think>\n\n**Answer:** 30 apples", "stop"),
        ("<think>\na\n</think>", "stop"),
    ],
)
def test_the_text_tells_what_was_cut(text: str, finish: str) -> None:
    attempt = field_maps.parse(simple(), {"q": "?", "a": text}).attempts[0]
    assert attempt.finish == finish


def test_the_sources_own_word_on_the_end_counts_first() -> None:
    found = simple(cut={"field": "status", "values": ["truncated*"]})
    ends = [
        ("truncated_thinking", THINK),
        ("complete", "<think>\nand then"),
        (None, "<think>\nand then"),
        (None, THINK),
    ]
    finishes = [field_maps.parse(found, {"q": "?", "a": text, "status": end}).attempts[0].finish for end, text in ends]
    assert finishes == ["length", "stop", "length", "stop"]


def test_a_block_that_the_prompt_opened_is_told_apart_from_the_text(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    summary = load(as_jsonl(tmp_path / "x.jsonl", {"q": "?", "a": "Hm.\n</think>\n\n4"}), simple(), run)
    (trace,) = traces(run)
    assert (trace.prefill, trace.completion) == ("<think>\n", "Hm.\n</think>\n\n4")
    assert (trace.reasoning, trace.answer, summary["opened"]) == ("Hm.\n", "\n\n4", 1)


def test_texts_are_kept_to_the_letter(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    odd = "<think>\r\n\u00a0\u2028 \x00 \U0001f9ee e\u0301\t\n</think>\n\n\\boxed{4}  \n"
    load(as_jsonl(tmp_path / "x.jsonl", {"q": " 2+2? ", "a": odd}), simple(), run)
    (trace,) = traces(run)
    (problem,) = jsonl.read(run.problems, Problem)
    assert (trace.completion, problem.messages[0].content) == (odd, " 2+2? ")
    assert reasoning.split(trace.completion, "", Tags()).reasoning == trace.reasoning_span


def test_golds_of_all_forms() -> None:
    def gold(value: Any, **fields: Any) -> Any:
        return field_maps.parse(simple(**fields), {"q": "?", "a": THINK, "gold": value}).problem.answer

    assert gold(" 4 ") == "4"
    assert gold(["4", "5"]) == ["4", "5"]
    assert gold(4) == 4
    assert gold(None) is None
    assert gold("so\n#### 42", answer_after="####") == "42"
    assert gold("no mark", answer_after="####") is None
    assert gold("a \\boxed{1} b \\boxed{\\frac{1}{2}} c", answer_boxed=True) == "\\frac{1}{2}"
    assert gold("128", answer_boxed=True, answer_longest=5) == "128"
    assert gold("a whole solution", answer_boxed=True, answer_longest=5) is None
    assert gold(29, answer={"target": "gold", "numbers": "q"}) == {"target": 29, "numbers": "?"}


def test_only_rows_that_the_map_wants(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    rows = [
        {"q": f"{n}?", "a": THINK, "kind": kind} for n, kind in enumerate(["math", "code", "maths", "math", "math"])
    ]
    source = as_jsonl(tmp_path / "x.jsonl", *rows)
    summary = load(source, simple(where={"kind": ["math", "num*"]}), run, limit=2)
    assert (summary["rows"], summary["traces"], summary["left_out"]) == (2, 2, 2)
    with pytest.raises(InputError, match="holds no rows with"):
        load(source, simple(where={"kind": ["chess"]}), Run(tmp_path / "none"))


def test_a_map_that_fits_nothing_is_told_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    source = as_jsonl(tmp_path / "x.jsonl", *[{"question": f"{n}?", "a": THINK} for n in range(5000)])
    with pytest.raises(InputError, match=r"none of its first 100 rows fits the map 'own'.*lacks the field 'q'"):
        load(source, simple(), run)
    assert rejected(run) == []
    with pytest.raises(InputError, match=r"none of its first 100 rows.*not a JSON object"):
        load(as_jsonl(tmp_path / "y.jsonl", *["broken"] * 5000), simple(), run)
    with pytest.raises(InputError, match="holds no rows"):
        load(as_jsonl(tmp_path / "z.jsonl"), simple(), run)


def test_a_missing_column_names_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([{"question": "?", "a": THINK, "gold": "4"}]), path)
    with pytest.raises(InputError, match=r"has no field 'q'[\s\S]*choices: a, gold, question"):
        load(str(path), simple(), Run(tmp_path / "run"))


def test_a_folder_laid_out_like_a_data_set_has_configurations(tmp_path: Path) -> None:
    for part, text in (("all", "2+2?"), ("code", "print?")):
        (tmp_path / "set" / part).mkdir(parents=True)
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": THINK}]
        table = pa.Table.from_pylist([{"messages": turns, "num_tokens": 9, "source": "s"}])
        pq.write_table(table, tmp_path / "set" / part / "train-00000.parquet")
    names = [f"- config_name: {p}\n  data_files:\n  - split: train\n    path: {p}/train-*\n" for p in ("all", "code")]
    (tmp_path / "set/README.md").write_text("---\nconfigs:\n" + "".join(names) + "---\n")
    run = Run(tmp_path / "run")
    load(str(tmp_path / "set"), "mixture-of-thoughts", run)
    assert list(golds(run)) == ["2+2?"]
    assert traces(run)[0].source == "open-r1/Mixture-of-Thoughts: s"
    with pytest.raises(InputError, match="Bad split"):
        load(str(tmp_path / "set"), field_maps.find("mixture-of-thoughts").model_copy(update={"split": "test"}), run)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "no such file"),
        ("nowhere", "no such source"),
        ("open-r1/OpenR1-Math-220k", "cannot be read"),  # no network here
        ("broken.parquet", "cannot be read"),
    ],
)
def test_a_source_that_cannot_be_read_is_wrong_input(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.parquet").write_text("this is no parquet file")
    with pytest.raises(InputError, match=message) as caught:
        load(source, simple(), Run(tmp_path / "run"))
    assert source in str(caught.value)


def test_a_source_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    whole = [{"q": f"{n}?", "a": THINK, "gold": "4"} for n in range(4)]
    (tmp_path / "set").mkdir()
    pq.write_table(pa.Table.from_pylist(whole), tmp_path / "set/train-00000.parquet")
    (tmp_path / "set/train-00001.parquet").write_text("cut off")
    run = Run(tmp_path / "run")
    with pytest.raises(RunError, match="broke off after 4 rows"):
        load(str(tmp_path / "set"), simple(), run)
    assert len(traces(run)) == 4


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"text": "a"}, "either `prompt` or `messages`"),
        ({"prompt": "{q}"}, "either `text` or both"),
        ({"prompt": "{q}", "reasoning": "r"}, "either `text` or both"),
        ({"prompt": "{q}", "text": "a", "reasoning": "r", "reply": "s"}, "either `text` or both"),
        ({"prompt": "{q", "text": "a"}, "expected '}'"),
        ({"prompt": "{q}", "text": "a", "anwser": "x"}, "anwser: no such field"),
    ],
)
def test_a_wrong_map_is_told_with_its_place(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        field_maps.build(raw, "own.yaml")


def test_maps_are_found_by_name_path_and_data_set(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("prompt: '{q}'\ntext: a\n")
    assert field_maps.find(str(tmp_path / "own.yaml")).name == "own"
    assert field_maps.find(None, "simplescaling/s1K").name == "s1k"
    with pytest.raises(InputError, match=r"no map is known for x\.jsonl"):
        field_maps.find(None, "x.jsonl")
    with pytest.raises(InputError, match="did you mean s1k"):
        field_maps.find("s1kk")


def test_one_log_has_one_writer(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    source = as_jsonl(tmp_path / "x.jsonl", {"q": "?", "a": THINK})
    program = (
        "import sys\nfrom pathlib import Path\nfrom distill.store import jsonl\n"
        "with jsonl.Log(Path(sys.argv[1])):\n    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(run.traces_file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "open\n"
        with pytest.raises(RunError, match="another process is writing"):
            load(source, simple(), run)
        other.communicate("")
    assert load(source, simple(), run)["traces"] == 1


def test_filters_judge_imported_traces(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    row = {"q": "2+2?", "a": [THINK, "<think>\nnever", THINK.replace("4", "5")], "gold": "4"}
    load(as_jsonl(tmp_path / "x.jsonl", row), simple(), run)
    context = Context(student="tiny")
    (problem,) = jsonl.read(run.problems, Problem)
    verdicts = {
        kind: [ChosenFilter.of({"kind": kind}).build(context)(problem, trace).passed for trace in traces(run)]
        for kind in ("correct", "finish", "format")
    }
    assert verdicts == {
        "correct": [True, False, False],
        "finish": [True, False, True],
        "format": [True, False, True],
    }
