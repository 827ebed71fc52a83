"""How anything reaches the disk: append-only logs of JSON lines, which survive a kill at any instant.

Read `jsonl` first: it opens, reads and appends logs, and is all that other rooms need. Behind it, `log` is the one
writer of a log and mends a torn end; `log_parts` reads a log's finished parts and its active file as one text;
`sealed` compresses a finished part and indexes it; `lock` lets one process write at a time, on shared disks too.
`replacing` is for every file that is written whole, in any room: the old one stays until the new one is on the disk.
"""
