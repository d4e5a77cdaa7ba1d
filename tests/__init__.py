"""The tests: one folder for each layer of ``webapp``, and the same file name for the same subject."""
