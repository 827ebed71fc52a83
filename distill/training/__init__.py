"""What all ways to train share: a job, its processes, and what is saved.

`config` holds the settings that every stage has and turns them into a `job`, the one file that each process reads;
`job_files` writes it. `launch` starts the processes, `rank` is one of them, `callbacks` what they tell and are told.
`model` loads what is trained, `trl_arguments` says it to TRL, `saving` makes a student of it. `build_locks` frees what
killed compilations left. Then `sft/` and `grpo/`.
"""
