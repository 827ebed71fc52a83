"""The stages of a run; each is one Config and one run()."""
