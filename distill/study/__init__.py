"""A study: a recipe's arms, each with every seed, in run folders of their own; and the table that compares them.

Each run is an ordinary one, `STUDY/ARM-SEED`, made and kept fresh by `pipeline`, so a study resumes as its runs do.
What an arm does not make itself is read from the arm that it goes on from: traces, a training set and problems by name,
a student through a link in its folder.
"""
