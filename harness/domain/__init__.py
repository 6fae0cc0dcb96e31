"""The words that all stages share: declarations (pydantic) and results (frozen dataclasses)."""
