"""Problem sets: where questions and their gold answers come from, and whether a gold can be trusted.

`sets` reads a set (from the Hub, a file or reasoning-gym) as a stream of problems; `livecodebench` knows the rows of
that benchmark; `gold_checks` puts each gold to the test before anything is sampled; `verifier_files` finds the
verifiers of one's own that rows name.
"""
