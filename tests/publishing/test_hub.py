"""To the Hub: the real client against a small Hub on a socket."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from distill.errors import DistillError, InputError, RunError
from distill.run import Run, write_json
from distill.stages import publish
from distill.stages.publish import Config
from tests.publishing.conftest import make_run
from tests.publishing.hub import TOKEN, Blob, Hub

TO = "someone/tiny-reasoner"


def act(run: Run, **changes: Any) -> publish.PublishSummary:
    return publish.run(run, Config(**{"to": TO, "load": False, **changes}), lambda step: None)


def written(run: Run) -> dict[str, bytes]:
    folder = run.folder / "publish"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_student_is_staged_read_back_merged_and_tagged(run: Run, hub: Hub) -> None:
    told = act(run)
    repo = hub.repos[f"models/{TO}"]
    assert repo.private
    assert repo.files == written(run)
    assert repo.tags == {f"v{told.provenance}": repo.main}
    assert told.changed
    assert len(repo.history) == 2  # main was made, and moved once
    order = [line.split(" ", 1)[1].rsplit("/", 1)[-1] for line in hub.seen]
    downloaded = next(n for n, line in enumerate(hub.seen) if "/cdn/" in line)
    assert hub.seen.index(f"POST /api/models/{TO}/commit/main") < downloaded < order.index("merge")
    assert "training_args.bin" not in repo.files
    before = len(hub.seen)
    assert not act(run).changed
    assert all(line.startswith("GET") for line in hub.seen[before:])


def test_a_trace_set_goes_to_a_dataset(run: Run, hub: Hub) -> None:
    act(run, dataset=True)
    repo = hub.repos[f"datasets/{TO}"]
    assert repo.files["data/train.parquet"] == (run.sft / "train.parquet").read_bytes()
    assert "models/" + TO not in hub.repos


@pytest.mark.slow
def test_public_only_once_it_is_verified(run: Run, hub: Hub) -> None:
    private: list[bool] = []

    def look(hub: Hub, line: str) -> None:
        if line.endswith("/merge"):
            private.append(hub.repos[f"models/{TO}"].private)

    hub.meddle = look
    act(run, public=True)
    assert private == [True]
    assert not hub.repos[f"models/{TO}"].private
    assert not act(run, public=True).changed
    with pytest.raises(InputError, match="is public"):
        act(run)


@pytest.fixture
def small(run: Run) -> Run:
    """A student of two small files, so that a publication takes few requests; it is never loaded here."""
    for path in run.student.iterdir():
        if path.name != "config.json":
            path.unlink()
    (run.student / "model.safetensors").write_bytes(b"weights")
    return run


LOST = pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])


@pytest.mark.slow
@LOST
@pytest.mark.parametrize(
    "at", ["repos/create", "/lfs/", "/commit/main", "HEAD", "/cdn/", "/merge", "/tag/", "settings"]
)
def test_a_failure_leaves_main_whole_and_a_rerun_completes(small: Run, hub: Hub, at: str, after: bool) -> None:
    act(small, to="someone/measure", public=True)
    hub.stored.clear()
    step = next(number for number, line in enumerate(hub.seen) if at in line)
    _fail_and_rerun(hub, small, "someone/tried", step, after)


@pytest.mark.slow
@LOST
def test_a_failure_at_every_request_in_turn(small: Run, hub: Hub, after: bool) -> None:
    act(small, to="someone/measure", public=True)
    steps = len(hub.seen)
    assert steps > 20
    for step in range(steps):
        hub.stored.clear()
        _fail_and_rerun(hub, small, f"someone/try-{step}", step, after)


def _fail_and_rerun(hub: Hub, run: Run, to: str, step: int, after: bool) -> None:
    failed = _fail(hub, run, to, step, after)
    repo = hub.repos.get(f"models/{to}")
    if repo and failed:
        assert repo.files in ({}, written(run))
        assert repo.files or not repo.tags
        assert repo.private or repo.files
    act(run, to=to, public=True)
    repo = hub.repos[f"models/{to}"]
    assert repo.files == written(run)
    assert list(repo.tags.values()) == [repo.main]
    assert len(repo.history) == 2, "main moved once"
    assert not repo.private


@pytest.mark.slow
@LOST
def test_a_new_version_fails_at_every_request_without_harm_to_the_old(small: Run, hub: Hub, after: bool) -> None:
    run, recipe = small, small.state()["recipe"]
    act(run)
    run.update(recipe={**recipe, "description": "again"})
    seen = len(hub.seen)
    act(run)
    steps = len(hub.seen) - seen
    repo = hub.repos[f"models/{TO}"]
    for step in range(steps):
        before = repo.files
        run.update(recipe={**recipe, "description": f"version {step}"})
        _fail(hub, run, TO, step, after)
        assert repo.files in (before, written(run))
        told = act(run)
        assert repo.files == written(run)
        assert repo.tags[told.tag] == repo.main
    assert len(repo.history) == steps + 3, "each version moved main once"


def _fail(hub: Hub, run: Run, to: str, step: int, after: bool) -> bool:
    """Publish while one request fails; whether that was told."""
    hub.fail_at, hub.fail_after = len(hub.seen) + step, after
    try:
        act(run, to=to, public=to != TO)
    except DistillError as error:
        told = str(error)
    else:
        told = ""
    finally:
        hub.fail_at = None
    assert TOKEN not in told
    return bool(told)


def test_a_draft_is_opened_before_it_is_merged(run: Run, hub: Hub) -> None:
    hub.drafts = True
    act(run)
    assert hub.repos[f"models/{TO}"].files == written(run)


def test_what_was_changed_on_its_way_is_not_merged(run: Run, hub: Hub) -> None:
    def damage(hub: Hub, line: str) -> None:
        repo = hub.repos.get(f"models/{TO}")
        if repo and repo.pulls and "/resolve/" in line:
            tree = repo.commits[repo.pulls[-1].head]
            tree["config.json"] = Blob(b"{}", False)

    hub.meddle = damage
    with pytest.raises(RunError, match=r"config\.json read back differs|Consistency|config\.json"):
        act(run)
    assert hub.repos[f"models/{TO}"].files == {}


def test_main_that_moves_meanwhile_is_not_merged_into(run: Run, hub: Hub) -> None:
    def push(hub: Hub, line: str) -> None:
        repo = hub.repos.get(f"models/{TO}")
        if repo and "/cdn/" in line and len(repo.history) == 1:
            repo.move(repo.commit({**repo.commits[repo.main], "mine.txt": Blob(b"hello", False)}))

    hub.meddle = push
    with pytest.raises(RunError, match="changed meanwhile"):
        act(run)
    assert hub.repos[f"models/{TO}"].files == {"mine.txt": b"hello"}
    hub.meddle = lambda hub, line: None
    with pytest.raises(InputError, match=r"not published from here: mine\.txt"):
        act(run)


@pytest.mark.slow
def test_foreign_content_is_refused_and_replaced_only_when_told(run: Run, hub: Hub) -> None:
    act(run)
    repo = hub.repos[f"models/{TO}"]
    repo.move(repo.commit({**repo.commits[repo.main], "README.md": Blob(b"a person wrote this", False)}))
    with pytest.raises(InputError, match=r"README\.md"):
        act(run)
    assert repo.files["README.md"] == b"a person wrote this"
    act(run, replace=True)
    assert repo.files == written(run)


@pytest.mark.slow
def test_files_of_an_earlier_version_go_with_it(run: Run, hub: Hub) -> None:
    (run.student / "added_tokens.json").write_text("{}")
    act(run)
    assert "added_tokens.json" in hub.repos[f"models/{TO}"].files
    (run.student / "added_tokens.json").unlink()
    act(run)
    assert hub.repos[f"models/{TO}"].files == written(run)


def test_a_wrong_token_is_one_clear_error_and_never_shown(
    run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "hf_" + "w" * 34
    monkeypatch.setenv("HF_TOKEN", wrong)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InputError, match="refuses the token") as told:
        act(run)
    assert "hf auth login" in str(told.value)
    assert wrong not in str(told.value) + caplog.text
    assert len(hub.seen) == 1
    assert not hub.repos


def test_a_token_that_may_only_read(run: Run, hub: Hub) -> None:
    hub.writes = False
    with pytest.raises(InputError, match="may only read"):
        act(run)


def test_no_token_at_all(run: Run, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match="who you are"):
        act(run)


def test_a_hub_that_is_not_there(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError, match="publishing stopped"):
        act(run)


def test_a_token_in_an_answer_is_not_repeated(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.publishing import hub as fake

    def leak(hub: Hub, request: Any) -> Any:
        raise fake.Refusal(422, f"bad request with Bearer {TOKEN}")

    routes = [(m, p, leak if p == r"/api/validate-yaml" else h) for m, p, h in fake._ROUTES]
    monkeypatch.setattr(fake, "_ROUTES", routes)
    with pytest.raises(RunError) as told:
        act(run)
    assert TOKEN not in str(told.value)


def test_two_runs_have_two_provenances(run: Run, hub: Hub, tmp_path: Path, tiny: Path) -> None:
    first = publish.prepare(run, Config(to=TO)).provenance
    assert publish.prepare(run, Config(to=TO)).provenance == first
    other = make_run(tmp_path / "other", tiny)
    assert publish.prepare(other, Config(to=TO)).provenance == first, "where a run lies does not matter"
    write_json(other.scores_file, [])
    assert publish.prepare(other, Config(to=TO)).provenance != first
