"""Recorded rows → the formats of other tools."""
