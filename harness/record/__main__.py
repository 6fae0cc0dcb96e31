"""``python -m harness.record``: print docs/results.md."""

from harness.record.page import document

print(document(), end="")
