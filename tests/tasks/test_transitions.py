"""Ids of tasks."""

import re

from outpaint_mcp.domain.references import TaskReference
from outpaint_mcp.tasks.transitions import new_id


def test_an_id_has_letters_and_digits_only_and_older_ones_are_still_read() -> None:
    made = {new_id() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch("op-[A-Za-z0-9]{22}", one) for one in made)
    for one in (*made, "op-" + "-_" * 11):
        assert TaskReference.of(f"`{one}`") == TaskReference(one)
