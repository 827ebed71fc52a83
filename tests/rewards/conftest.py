from __future__ import annotations

from pathlib import Path

import pytest

from distill.models.chat import Tokenizer
from distill.rewards import RewardContext


@pytest.fixture(scope="session")
def context(tiny: Path) -> RewardContext:
    """The tiny student's, whose template prefills the think tag; four completions a prompt."""
    return RewardContext(tokenizer=Tokenizer(str(tiny / "base")), eos="<|im_end|>", group_size=4, max_tokens=400)
