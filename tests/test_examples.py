"""The guides' commands: every one parses, with presets and settings that exist, and those of the examples run."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from aiohttp import web
from distill.cli.app import app
from distill.cli.complete import LISTS
from distill.cli.help_texts import HELP_TEXTS
from typer.main import get_command

from distill import plugins, recipe
from distill.errors import InputError
from distill.models import presets
from distill.problems import sets
from distill.serving.request import read_options
from distill.settings import overrides
from distill.sources import field_maps
from distill.stages.publish import Config as PublishConfig
from distill.types import Outcome
from distill.verifiers import ChosenVerifier
from tests.judge_server import Answer, Server

ROOT = Path(__file__).parent.parent
GUIDES = [ROOT / "README.md", ROOT / "data/README.md", *sorted((ROOT / "recipes").rglob("README.md"))]
TRACES, OWN = ROOT / "recipes/examples/open-traces", ROOT / "recipes/examples/own-problems"
STAGES = ("run", "generate", "filter", "sft", "grpo", "eval", "plan")


def blocks(guide: Path, under: str = "") -> list[str]:
    """Its bash blocks; those below one heading only, if that is named."""
    text = guide.read_text(encoding="utf-8")
    if under:
        text = text.split(f"\n## {under}\n")[1].split("\n## ")[0]
    return re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(block: str) -> Iterator[list[str]]:
    """The words of each `distill …` in a block, as a shell parts them."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;<>"):
                if words and Path(words[0]).name == "distill":
                    yield words[1:]
                words = []
            else:
                words.append(word)


def check(words: list[str], folder: Path) -> None:
    """Parse a command as the command line does, and look up what it names; `folder` is where it would be given.

    Raises:
        Exception: whatever is wrong with it.
    """
    group: Any = get_command(app)
    if words[0] in [option for parameter in group.params for option in parameter.opts]:
        return  # such as --install-completion, which parsing would carry out
    context = group.make_context("distill", [word for word in words if word != "--help"])
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    given = command.make_context(name, rest, parent=context).params
    before = Path.cwd()
    os.chdir(folder)
    try:
        look_up(name, given)
    finally:
        os.chdir(before)


def look_up(name: str, given: dict[str, Any]) -> None:
    changes = list(given.get("set_") or ())
    named = {key: given[key] for key in ("teacher", "student") if given.get(key)}
    if given.get("problems"):
        sets.find(given["problems"])
        named["generate.problems"] = given["problems"]
    if name in STAGES:
        resolved(given.get("recipe"), tuple(changes), tuple(sorted(named.items())))
    for role, find in (("teacher", presets.teacher), ("student", presets.student)):
        if role in named:
            find(named[role])
    if name == "serve":
        read_options({"host": given["host"]}, changes)
    if name == "publish":
        overrides.configure(PublishConfig, "publish", {"to": given["to"]}, changes)
    if given.get("map_"):
        field_maps.find(given["map_"])
    if name == "verify":
        plugins.load("verifiers", given["kind"])
    if name == "ls" and given["what"] not in LISTS:
        raise InputError(f"cannot list {given['what']}")


@cache
def resolved(ref: str | None, changes: tuple[str, ...], named: tuple[tuple[str, str], ...]) -> None:
    recipe.resolve(ref, Path("no-such-run"), list(changes), dict(named))


WRITTEN = [
    pytest.param(words, guide.parent if guide.parent == OWN else ROOT, id=f"{guide.parent.name}: {' '.join(words)}")
    for guide in GUIDES
    for block in blocks(guide)
    for words in commands(block)
]
TAUGHT = [
    pytest.param(words, ROOT, id=f"--help: {' '.join(words)}")
    for help_text in HELP_TEXTS.values()
    for example in re.findall(r"^`(.+)`$", help_text, re.MULTILINE)
    for words in commands(example)
]


@pytest.mark.parametrize(("words", "folder"), [*WRITTEN, *TAUGHT])
def test_a_command_of_the_guides_is_one_that_distill_takes(words: list[str], folder: Path) -> None:
    check(words, folder)


def test_all_guides_are_looked_at() -> None:
    assert len(WRITTEN) > 40
    assert len(TAUGHT) > 20
    assert {words[0] for words in (param.values[0] for param in WRITTEN)} >= {*STAGES, "import", "publish", "doctor"}


@pytest.mark.parametrize(
    "line",
    [
        "distill sft --studnt tiny",
        "distill sft --student tinny",
        "cd x && distill trian --run runs/tiny  # a comment",
        "distill filter --set filter.checks.length.max_tokns=3",
        "distill generate \\\n    --teacher deepseek-r2",
        "distill run tinny --dry-run",
        "distill import x --map openr1-meth",
        "distill publish --to org/name --set publish.acept=[x]",
        "distill serve --teacher tiny --set restart=3",
        "distill verify pairs.jsonl --kind maths",
        "distill ls student",
        "distill eval --problems math501",
        "distill plan --gpus many",
    ],
)
def test_a_typo_in_a_guide_is_found(line: str) -> None:
    (words,) = commands(line)
    with pytest.raises(Exception, match=r".") as found:
        check(words, ROOT)
    assert type(found.value).__name__ in ("InputError", "NoSuchOption", "UsageError", "BadParameter")


def yamls(guide: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", guide.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


PLUGIN = """
from distill.rewards import Weighted


class Config(Weighted):
    pass


def build(config):
    return config
"""


@pytest.mark.parametrize("block", [*yamls(ROOT / "README.md"), *yamls(ROOT / "recipes/README.md")])
def test_a_recipe_in_the_guides_is_one(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field, kind and value of it; files that the reader is to write are there."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "my_check.py"):
        (tmp_path / name).write_text(PLUGIN)
    text = block if "extends:" in block else f"extends: r1-distill\n{block}"
    (tmp_path / "guide.yaml").write_text(text)
    loaded = recipe.load("guide.yaml")
    (tmp_path / "guide.yaml").write_text(f"{text}\nfilters: {{}}\n")
    with pytest.raises(InputError, match="filters: no such field"):
        recipe.load("guide.yaml")
    assert loaded.teacher


def test_a_problem_set_in_the_guide_is_one() -> None:
    first, *others = (yaml.safe_load(block) for block in yamls(ROOT / "data/README.md"))
    for fields in ({}, *others):
        sets.ProblemSet.model_validate({**first, **fields})


def test_links_between_the_guides_lead_somewhere() -> None:
    for guide in GUIDES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", guide.read_text(encoding="utf-8")):
            assert (guide.parent / target).exists(), f"{guide.relative_to(ROOT)} links to {target}"


def amount(text: str, gold: str = "EUR 1,317.60", **settings: Any) -> Outcome:
    verifier = ChosenVerifier.of({"kind": str(OWN / "amount.py"), **settings}).build()
    outcome: Outcome = verifier.verify(gold, text)
    return outcome


@pytest.mark.parametrize(
    "text", ["1317.6 EUR", "\\boxed{€1,317.60}", "\\boxed{1.317,60\\,\\text{EUR}}", "<answer>EUR 1'317.60</answer>"]
)
def test_the_examples_verifier_reads_an_amount_as_people_write_it(text: str) -> None:
    assert amount(text).passed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_answer"),
        ("It is about a thousand.", "no_amount"),
        ("\\boxed{1317.60}", "no_amount"),
        ("\\boxed{USD 1317.60}", "wrong_currency"),
        ("\\boxed{EUR 1317.61}", "wrong_amount"),
        ("\\boxed{EUR 1,317.60 or so}", "no_amount"),
        ("\\boxed{" + "9" * 10**5 + "}", "no_amount"),
    ],
)
def test_the_examples_verifier_says_why_not(text: str, reason: str) -> None:
    found = amount(text)
    assert (found.passed, found.reason) == (False, reason)


def test_the_examples_verifier_has_settings_and_equal_answers_have_one_key() -> None:
    assert amount("\\boxed{EUR 1317.61}", cents=1).passed
    verifier = ChosenVerifier.of({"kind": str(OWN / "amount.py")}).build()
    assert verifier.key("EUR 1.00", "EUR 12.50") == verifier.key("EUR 1.00", "\\boxed{12,5 €}")
    with pytest.raises(InputError, match="not an amount"):
        amount("EUR 1", gold="12.50")


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    """Give a block to bash in a copy of what a checkout has, offline; the Hub's cache holds two stand-in tokenizers."""
    work = tmp_path / "checkout"
    shutil.copytree(ROOT / "recipes/examples", work / "recipes/examples")
    for model in ("Qwen/Qwen2.5-1.5B", "deepseek-ai/DeepSeek-R1-0528"):
        cached(tmp_path / "hf" / "hub", model)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "distill").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m distill.cli "$@"\n')
    (tools / "distill").chmod(0o755)
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    env |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "COLUMNS": "160", "TEACHER_KEY": "secret"}
    env |= {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    env.pop("HF_HUB_CACHE", None)

    def run(block: str, folder: Path = work) -> str:
        # a session of its own, so that at the end of its time what it started goes with it; a busy machine takes long
        with subprocess.Popen(
            ["bash", "-e", "-c", block],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as started:
            try:
                said, _ = started.communicate(timeout=900)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(started.pid, signal.SIGKILL)
        assert started.returncode == 0, said
        return said

    run.work = work  # type: ignore[attr-defined]
    return run


def cached(hub: Path, model: str) -> None:
    """A model in the Hub's cache, as far as its tokenizer: that of tiny, which has the same special tokens."""
    folder = hub / f"models--{model.replace('/', '--')}"
    commit = "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    base = ROOT / "data/tiny/base"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, snapshot)
    shutil.copy(ROOT / "recipes/templates/think-chatml.jinja", snapshot / "chat_template.jinja")


@pytest.mark.integration
def test_the_rehearsal_runs_as_it_is_written(shell: Any) -> None:
    said = shell("\n".join(blocks(TRACES / "README.md", "Rehearsal")))
    for text in ("24 new traces of 12 new problems", "foreign_script", "kept", "pass@1", "it would be copied to"):
        assert text in said
    kept = shell.work / "runs/rehearsal"
    funnel = orjson.loads((kept / "funnel.json").read_bytes())
    reasons = {reason for row in funnel["checks"] for reason in row["reasons"]}
    assert reasons == {"wrong_answer", "no_answer", "cut", "think_not_closed", "foreign_script", "problem_contaminated"}
    assert (kept / "publish/README.md").is_file()


@pytest.mark.integration
def test_the_1_5b_student_is_planned_and_dry_run_offline(shell: Any) -> None:
    """The lines that need neither GPUs nor the network, on the rows of the example."""
    (real,), (batch,) = blocks(TRACES / "README.md", "The 1.5B student"), blocks(TRACES / "README.md", "By slurm")
    local = real.replace("open-r1/OpenR1-Math-220k", "recipes/examples/open-traces/rows.jsonl")
    lines = [
        line for line in local.splitlines() if "--dry-run" in line or line.split()[1] in ("import", "filter", "plan")
    ]
    lines = [line for line in lines if "publish" not in line]
    exam = " --set eval.problems=recipes/examples/open-traces/exam.jsonl"
    lines = [line.replace("--student qwen2.5-1.5b", f"--student qwen2.5-1.5b{exam}") for line in lines]
    said = shell("\n".join(lines))
    assert "Qwen/Qwen2.5-1.5B, 1.54B parameters" in said
    assert "would start:" in said
    assert "eval: would run" in said
    scripts = shell(batch.replace("--student qwen2.5-1.5b", f"--student qwen2.5-1.5b{exam}"))
    assert "#SBATCH --partition=gpu" in scripts
    assert scripts.count("#!/") == 2, "filter is done, sft and eval are not"


def clerk(rows: dict[str, str]) -> Answer:
    """A teacher that knows every answer and errs in each fourth one."""
    asked = 0

    async def answer(request: web.Request, prompt: str) -> web.Response:
        nonlocal asked
        asked += 1
        known = next((gold for problem, gold in rows.items() if problem in prompt), "EUR 1.00")
        said = known if asked % 4 else known + "1"
        message = {
            "role": "assistant",
            "content": f"The invoice comes to \\boxed{{{said}}}.",
            "reasoning_content": f"I work it out, attempt {asked}: goods, discount, shipping. That gives {said}.",
        }
        usage = {"prompt_tokens": 90, "completion_tokens": 60, "completion_tokens_details": {"reasoning_tokens": 40}}
        return web.json_response(
            {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        )

    return answer


@pytest.mark.integration
def test_ones_own_problems_verifier_and_hosted_teacher_run_as_written(shell: Any) -> None:
    rows = [orjson.loads(line) for line in (OWN / "train.jsonl").read_bytes().splitlines()]
    first, pairs = blocks(OWN / "README.md", "Here, without a GPU")
    server = Server(clerk({row["problem"]: row["answer"] for row in rows}), key="secret")
    with server.running() as url:
        own = shell.work / "recipes/examples/own-problems/recipe.yaml"
        own.write_text(own.read_text().replace("https://api.example.com", url))
        said = shell(first)
    assert "forecast of 10 problems from 3" in said
    assert re.search(r"cost\W+\d", said)
    assert "wrong_amount" in said
    assert "would start:" in said
    assert "it would be copied to" in said
    assert "secret" not in (shell.work / "orders/runs/orders/run.json").read_text()
    verdicts = re.findall(r"^{.*}$", shell(pairs, shell.work / "orders"), re.MULTILINE)
    judged = [orjson.loads(line) for line in verdicts]
    assert [(row["passed"], row["reason"]) for row in judged] == [(True, ""), (False, "no_amount")]
