"""Attempts at one job: a requeued or killed run never takes the record of the one before it.

A job with resumable state writes a line when it begins, beside (not inside) the folder of its state.
The attempt that ends writes those before it into the manifests, and removes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ambient import manifest
from ambient.files import digest


class Journal:
    """The begun attempts at a job; `state` is its folder, or None for a job that starts anew.

    `identity` is what makes it the same job: stage, specification, digests of inputs and of code.
    """

    def __init__(self, state: Path | None, identity: Any) -> None:
        self.path = state.with_name(f"{state.name}.attempts.jsonl") if state else None
        self.owner = digest(identity)

    def begin(self, clock: manifest.Clock, made_by: Mapping) -> list[dict]:
        """Note this attempt; return the earlier ones at the same job, which did not end."""
        if self.path is None:
            return []
        earlier = []
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                found = json.loads(line)
            except json.JSONDecodeError:  # cut short by a kill
                continue
            if found["job"] == self.owner:
                earlier.append(found["attempt"])
        attempt = {"started": clock.started.isoformat(timespec="seconds"),
                   "environment": manifest.environment()}
        attempt |= {"scheduler": where} if (where := manifest.scheduler()) else {}
        attempt |= {"commit": made_by["commit"]} if "commit" in made_by else {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as file:
            file.write(json.dumps({"job": self.owner, "attempt": attempt}) + "\n")
        return earlier

    def remove(self) -> None:
        """Forget the attempts: they are in the manifests."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
