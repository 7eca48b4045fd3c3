"""Ways in which the state of a training gets damaged between two attempts."""

import json
import shutil
from pathlib import Path

from ambient.storage.files import read_json


def flip(path, place=-5):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def with_facts(path, **changes):
    found = read_json(path)
    path.write_text(json.dumps(found | {"facts": found["facts"] | changes}))


def append(content):
    return lambda path: path.write_bytes(path.read_bytes() + content)


DAMAGES = {
    "a line cut short": ("attempts.jsonl", append(b'{"from_nimg": 640, "repea')),
    "zeros": ("attempts.jsonl", append(bytes(40))),
    "an altered attempt": ("attempts.jsonl", lambda path: path.write_text(
        path.read_text().replace('"from_nimg": 0', '"from_nimg": 1'))),
    "a journal of another shape": ("../../state.attempts.jsonl", lambda path: path.write_text("[]\n")),
    "a log of other bytes": ("loss.jsonl", lambda path: flip(path, 20)),
    "no log": ("loss.jsonl", Path.unlink),
    "a record that is none": ("checkpoint-128.json", lambda path: path.write_text("[]")),
    "a record without facts": ("checkpoint-128.json", lambda path: path.write_text(
        json.dumps(read_json(path) | {"facts": {}}))),
    "an altered record": ("checkpoint-128.json", lambda path: with_facts(path, total=1.0)),
    "a checkpoint cut short": ("checkpoint-128.safetensors", lambda path: path.write_bytes(b"x" * 20)),
    "a bit of a checkpoint": ("checkpoint-128.safetensors", flip),
    "a bit of a snapshot": ("snapshot-48.safetensors", flip),
    "no snapshot": ("snapshot-48.safetensors", Path.unlink),
    "no record of a snapshot": ("snapshot-48.json", Path.unlink),
    "an identity of another shape": ("identity.json", lambda path: path.write_text("{")),
    "a stray copy": ("checkpoint-128.json", lambda path: shutil.copy(
        path, path.with_name("checkpoint-128 (1).json"))),
}
UNNAMED = {"a stray copy", "no log", "no record of a snapshot"}
