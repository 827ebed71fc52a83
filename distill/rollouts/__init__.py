"""A rollout is a student's own attempt during training; this room shows it to rewards, for TRL and for verl.

`rollout` makes one from token ids or text, `prompt_rows` a problem from a row of prompts.parquet. `trl` and `verl` are
the two calling conventions.
"""
