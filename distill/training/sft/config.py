"""The settings of SFT beside those that every training stage shares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill.training import config as settings
from distill.training.job import Batching
from distill.training.sft import lengths
from distill.types import NO_RESULT


class Config(settings.Config):
    limit: int | None = Field(None, ge=1)
    """Only the first so many rows are trained on; None takes all."""
    max_dropped: Annotated[float, NO_RESULT] = Field(lengths.MAX_DROPPED, ge=0, le=1)
    """Share of the rows that may be left out, as too long or unfit to train on, before the stage refuses."""
    batching: Batching | Literal["auto"] = "auto"
    """Way in which rows become batches: `packed` fills rows of `max_length` with whole documents that do not see one
    another; `grouped` makes batches of rows of like length. `auto` packs where flash-attention skips what documents do
    not see, else groups."""
