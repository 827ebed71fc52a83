"""What accelerate starts in each rank of GRPO: `python -m distill.training.grpo.worker JOB.json`."""

from __future__ import annotations

import os
import sys

from distill.training import rank
from distill.training.grpo import trainer

if __name__ == "__main__":
    status = rank.main(sys.argv[1], trainer.GrpoJob, trainer.train)
    sys.stdout.flush()
    if status:
        os._exit(status)
    sys.exit(0)
