from __future__ import annotations

from pathlib import Path

import pytest

from distill.models.chat import Tokenizer
from distill.rewards import Context


@pytest.fixture(scope="session")
def context(tiny: Path) -> Context:
    """The tiny student's, whose template prefills the think tag; four completions a prompt."""
    return Context(tokenizer=Tokenizer(str(tiny / "base")), eos="<|im_end|>", group=4, max_tokens=400)
