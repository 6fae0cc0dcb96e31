"""Trials to outcomes: the order they run in (`order`), the loop (`loop`), and what runs them
(`inline`: this process; `ray_cluster`: warm worker processes on the nodes of a Ray cluster)."""
