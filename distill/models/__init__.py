"""Models as facts and as text: what they are called, how large they are, how they are talked to.

`model` holds the facts that a model is sampled by, `request` what is asked of it and what it gives. `presets` finds
teachers and students by name, `shapes` counts their parameters without torch, `hub_files` fetches single files. `chat`
renders messages by a model's template, `token_count` counts tokens fast, `reasoning` finds where reasoning ends and the
answer begins. `in_process` runs batches of requests through transformers by `thinned_batch`, which drops rows as they
end, with `kv_cache`, a cache with room to grow.
"""
