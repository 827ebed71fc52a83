"""A judge is a model that says whether an answer is right.

`questions` holds the words it is asked and reads its reply; `judge` asks many questions at once, each only once, and
keeps the replies on disk. The model is asked through `backends/chat`.
"""
