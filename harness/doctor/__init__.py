"""This machine → what can be measured on it, and what would make its numbers noisy."""
