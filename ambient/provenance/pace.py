"""How fast a finished job went, by its manifest."""

from __future__ import annotations

from collections.abc import Mapping


def rate_of(found: Mapping) -> float:
    """Images a second of the last attempt at a training (or of samples), by its manifest."""
    facts = found["facts"]
    images = facts.get("images_seen", facts.get("samples"))
    last = images - facts.get("attempts", [{"from_nimg": 0}])[-1]["from_nimg"]
    return last / found["execution"]["wall_sec"]
