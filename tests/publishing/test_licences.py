"""What licences ask of who publishes."""

from __future__ import annotations

from typing import Any

import pytest

from distill.models import presets
from distill.publishing import licences
from distill.publishing.licences import LicenceFinding, card_licence, check_licences, findings_that_stop, notices
from distill.settings import overrides
from distill.stages import publish

FREE = {"deepseek-ai/DeepSeek-R1": "mit"}


def levels(findings: list[LicenceFinding]) -> set[tuple[str, str]]:
    return {(finding.level, finding.licence) for finding in findings}


def test_free_licences_say_nothing() -> None:
    assert check_licences(FREE, ("Qwen/Qwen2.5-7B", "apache-2.0"), ["apache-2.0", "cc-by-4.0"], "anything") == []


@pytest.mark.parametrize("licence", ["llama3.1", "llama3.2", "llama3.3"])
@pytest.mark.parametrize("part", ["teacher", "base"])
def test_llama_must_be_named_first(licence: str, part: str) -> None:
    teachers: dict[str, str | None] = {"meta/it": licence} if part == "teacher" else dict(FREE)
    base = ("meta/it", licence) if part == "base" else ("Qwen/Qwen2.5-7B", "apache-2.0")
    wrong = check_licences(teachers, base, [], "my-llama")
    assert levels(wrong) == {("forbid", licence), ("condition", licence)}
    assert "Llama-my-llama" in next(f.fix for f in wrong if f.level == "forbid")
    assert [f.level for f in findings_that_stop(wrong, [licence], public=True)] == ["forbid"], (
        "no word makes good a wrong name"
    )
    right = check_licences(teachers, base, [], "Llama-3.1-8B-Thinks")
    assert levels(right) == {("condition", licence)}
    assert findings_that_stop(right, [], public=False)
    assert not findings_that_stop(right, [licence], public=True)
    assert "Built with Llama" in notices(right)
    version = licence.removeprefix("llama")
    assert any(
        line.startswith(f"Llama {version} is licensed under the Llama {version} Comm") for line in notices(right)
    )


def test_what_was_made_from_llama_stays_under_its_licence() -> None:
    found = check_licences(
        {"deepseek-ai/DeepSeek-R1-Distill-Llama-8B": "mit"}, ("Qwen/Qwen2.5-7B", "apache-2.0"), [], "x"
    )
    assert ("forbid", "llama3.1") in levels(found)


@pytest.mark.parametrize("licence", ["llama2", "llama3"])
def test_early_llama_must_not_teach_others(licence: str) -> None:
    found = check_licences({"old": licence}, ("Qwen/Qwen2.5-7B", "apache-2.0"), [], "Llama-3-x")
    assert any(f.level == "forbid" and "no Llama" in f.message for f in found)
    own = check_licences({"old": licence}, ("meta-llama/Llama-3.1-8B", "llama3.1"), [], "Llama-3-x")
    assert not any("no Llama" in f.message for f in own)


@pytest.mark.parametrize(
    "written", ["MIT", "Apache 2.0 License", "MIT or Apache-2.0, by row", "CC BY 4.0", "the MIT Licence"]
)
def test_free_licences_are_known_however_they_are_written(written: str) -> None:
    assert check_licences(FREE, None, [written], "x", kind="dataset") == []


def test_a_remedy_can_be_given_as_it_is_written() -> None:
    (finding,) = check_licences(FREE, None, ["own terms, v2"], "x", kind="dataset")
    config = overrides.configure(publish.Config, "publish", {"to": "a/b"}, [finding.fix.partition("--set ")[2]])
    assert not findings_that_stop([finding], config.accept, public=True)


def test_qwen() -> None:
    research = check_licences(FREE, ("Qwen/Qwen2.5-3B", "qwen-research"), [], "x")
    assert levels(research) == {("condition", "qwen-research"), ("note", "qwen-research")}
    assert findings_that_stop(research, [], public=False)
    assert not findings_that_stop(research, ["qwen-research"], public=True)
    assert notices(research) == ["Built with Qwen"]
    assert card_licence("qwen-research", research) == ("other", "qwen-research")
    teacher = check_licences({"Qwen/Qwen2.5-72B-Instruct": "qwen"}, ("Qwen/Qwen2.5-7B", "apache-2.0"), [], "x")
    assert notices(teacher) == ["Improved using Qwen"]
    assert card_licence("apache-2.0", teacher) == ("other", "apache-2.0-and-qwen")


@pytest.mark.parametrize(
    ("licence", "level"),
    [("cc-by-nc-4.0", "condition"), ("cc-by-nc-nd-4.0", "forbid"), ("cc-by-sa-4.0", "condition"), ("odd", "condition")],
)
def test_rows(licence: str, level: str) -> None:
    found = check_licences(FREE, ("Qwen/Qwen2.5-7B", "apache-2.0"), ["mit", licence, licence], "x")
    assert (level, licence) in levels(found)
    assert bool(findings_that_stop(found, [licence], public=True)) == (level == "forbid")


def test_an_unknown_licence_stops_only_what_all_will_see() -> None:
    found = check_licences({"hosted": None}, ("Qwen/Qwen2.5-7B", "apache-2.0"), [None, ""], "x")
    assert {f.level for f in found} == {"unknown"}
    assert not findings_that_stop(found, [], public=False)
    assert findings_that_stop(found, [], public=True)
    assert not findings_that_stop(found, ["unknown"], public=True)


def test_every_shipped_licence_is_known_to_the_check() -> None:
    found: list[Any] = []
    for name in presets.names("teacher"):
        found += check_licences({name: presets.teacher(name).licence}, None, [], "Llama-x", kind="dataset")
    for name in presets.names("student"):
        found += check_licences({}, (name, presets.student(name).licence), [], "Llama-x")
    assert not [f for f in found if f.level == "unknown" or "not known to this check" in f.message]


def test_before_sampling_tells_what_will_stop_publishing() -> None:
    told = publish.before_sampling("deepseek-r1", "qwen2.5-3b")
    assert levels(told) == {("condition", "qwen-research")}
    assert publish.before_sampling("deepseek-r1", "qwen2.5-7b") == []
    assert levels(publish.before_sampling("deepseek-r1", "llama-3.1-8b")) == {("condition", "llama3.1")}


def test_the_hub_licence_is_the_bases_where_it_alone_counts() -> None:
    assert card_licence("apache-2.0", []) == ("apache-2.0", None)
    llama = check_licences(FREE, ("meta-llama/Llama-3.1-8B", "llama3.1"), [], "Llama-x")
    assert card_licence("llama3.1", llama) == ("llama3.1", None)
    assert licences.card_licence(None, []) == ("other", "unknown")
