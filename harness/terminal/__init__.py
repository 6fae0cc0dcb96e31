"""What a person sees: a run while it goes on (`live`), and plans, runs and datasets as tables (`show`)."""
