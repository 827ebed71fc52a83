"""Reinforcement with TRL's GRPOTrainer.

In the order of events: `config` (settings), `prompts` (which problems), `reward_probe` (can each reward tell?),
`prepare`, then `worker` in each rank, which runs `trainer` on `lean_trainer`; `guards` stop it, `samples` are kept.
"""
