"""Would tonight's backup work: looking, judging, reporting."""
