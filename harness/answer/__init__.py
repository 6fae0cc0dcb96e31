"""Recorded runs → what a person asks of them: which runs are meant, and the stages in order for each kind of answer."""
