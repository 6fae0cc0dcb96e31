"""``python -m harness.record``: print docs/results.md."""

from harness.record.schema import document

print(document(), end="")
