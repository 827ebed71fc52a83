"""What accelerate starts in each rank: `python -m distill.training.sft.worker JOB.json`."""

from __future__ import annotations

import os
import sys

from distill.training import rank
from distill.training.job import TrainingJob
from distill.training.sft import trainer

if __name__ == "__main__":
    status = rank.main(sys.argv[1], TrainingJob, trainer.train)
    sys.stdout.flush()
    if status:
        os._exit(status)
    sys.exit(0)
