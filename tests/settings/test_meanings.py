"""Meanings: the text below a field, and the sentence of it that an error quotes."""

from __future__ import annotations

import pytest

from distill.models.presets import Student
from distill.recipe import Recipe
from distill.rewards.format import Config as FormatReward
from distill.settings import meanings
from distill.stages.grpo import Config as GrpoConfig


def test_a_field_means_what_its_own_class_says_and_else_what_the_base_class_says() -> None:
    texts = meanings.of(FormatReward)
    assert list(texts) == ["weight", "answer"]
    assert "TinyZero" in texts["weight"]
    assert meanings.of(GrpoConfig)["weight_decay"].endswith("(AdamW).")


def test_a_text_of_several_lines_is_one_line() -> None:
    assert "\n" not in "".join(meanings.of(Recipe).values())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Most tokens of a reply.", "Most tokens of a reply"),
        ("Way to measure. `auto` takes a fast one.", "Way to measure"),
        ("Upper bound; DAPO's is 0.28. None sets none.", "Upper bound; DAPO's is 0.28"),
        ("A preset's .yaml. More", "A preset's .yaml"),
        ("No full stop", "No full stop"),
    ],
)
def test_the_first_sentence_ends_at_a_full_stop_before_another_sentence(text: str, sentence: str) -> None:
    assert meanings.first_sentence(text) == sentence


@pytest.mark.parametrize(
    ("location", "name"),
    [
        (("sft", "epochs"), "epochs"),
        (("stages", 1), "stages"),
        (("study", "arms", "mine", "after"), "after"),
        (("filter", "mix", "chat", "share"), "share"),
        (("launchers", "sft", "python"), "python"),
        (("student_facts", "context"), "student_facts"),
    ],
)
def test_an_error_quotes_the_deepest_setting_on_the_way(location: tuple[int | str, ...], name: str) -> None:
    assert meanings.quoted(Recipe, location).startswith(f"{name}: ")


def test_nothing_is_quoted_where_there_are_further_settings_or_no_setting() -> None:
    assert not meanings.quoted(Recipe, ("study",))
    assert not meanings.quoted(Recipe, ("study", "arms", "mine"))
    assert not meanings.quoted(Recipe, ())
    assert not meanings.quoted(Student, ("nothing",))
