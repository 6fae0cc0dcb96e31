"""Analysed tables → figures, and the report: one HTML page that needs no network. Only `figures` imports Altair."""
