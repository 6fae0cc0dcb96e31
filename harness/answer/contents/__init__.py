"""The frames of a report → all that its page shows."""
