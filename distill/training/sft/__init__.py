"""Supervised fine-tuning with TRL's SFTTrainer.

In the order of events: `config` (settings), `rows` (rendered by `renderer`), `audit` (with `row_faults`), `lengths`,
`prepare` (all of that before the first step), then `worker` in each rank, which runs `trainer` in the order of `order`.
"""
