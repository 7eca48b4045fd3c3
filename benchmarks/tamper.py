"""Damage a finished results tree in many ways and ask whether the audit names each.

    python -m benchmarks.tamper results/demo [--share 0.1]

Works on copies below a temporary folder; the tree itself is only read. Full count: 200 single-byte flips, 20
of a byte within a stored array, 20 exchanges of two rows of an array (half of them with the digests of its
own manifest made to fit), 20 swaps of two files of the same stage, 20 of two stores that others were made
from, 20 edits of a table's cell together with its manifest, 20 deleted files, 20 edits of manifests (half of
them with every digest made to fit), 10 edits of library code.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ambient.audit.chain import Audit, artefacts_in
from ambient.provenance import manifest, merkle, source_code
from ambient.storage.files import digest, read_arrays, sha256, write_arrays, write_json

COUNTS = {"flip": 200, "array": 20, "rows": 20, "swap": 20, "stores": 20, "cell": 20, "delete": 20,
          "manifest": 20, "code": 10}


class Tamper:
    """Damages a copy of a tree, one deed at a time, and puts it right again."""

    def __init__(self, tree: Path, seed: int = 0) -> None:
        self.tree, self.random = tree, random.Random(seed)
        self.drawn: dict[str, dict[str, str]] = {}
        self.files = artefacts_in(tree)
        self.everything = self.files + [manifest.path_for(path) for path in self.files]
        self.manifests = {path: manifest.read(manifest.path_for(path)) for path in self.files}
        self.arrays = [path for path in self.files if path.suffix == ".safetensors"]
        self.read = {parent for path in self.files for parent in merkle.parents(path, self.manifests[path])}

    @contextmanager
    def kept(self, *paths: Path) -> Iterator[None]:
        """Put files back as they were."""
        before = {path: path.read_bytes() for path in paths}
        try:
            yield
        finally:
            for path, content in before.items():
                path.write_bytes(content)

    def named(self, *paths: Path) -> bool:
        """Whether the audit has a problem with one of the files, or with the manifest beside it."""
        audit = Audit(self.tree)
        audit.rederive.drawn = self.drawn  # keyed by digests of what is drawn
        for path in artefacts_in(self.tree):
            audit.artefact(path)
        found = {Path(p.path).absolute() for r in audit.results.values() for p in r.problems}
        return any(path.absolute() in found or manifest.path_for(path).absolute() in found for path in paths)

    def flip(self) -> bool:
        """One byte of any artefact or manifest."""
        path = self.random.choice(self.everything)
        with self.kept(path):
            content = bytearray(path.read_bytes())
            content[self.random.randrange(len(content))] ^= self.random.randrange(1, 256)
            path.write_bytes(content)
            return self.named(path, manifest.artefact_of(path))

    def array(self) -> bool:
        """One byte within an array, behind the file's header: what a bad disk does to a store."""
        path = self.random.choice(self.arrays)
        with self.kept(path):
            content = bytearray(path.read_bytes())
            (header,) = struct.unpack("<Q", content[:8])
            content[self.random.randrange(8 + header, len(content))] ^= self.random.randrange(1, 256)
            path.write_bytes(content)
            return self.named(path)

    def rows(self) -> bool:
        """Two rows of an array exchanged, as the scores or latents of two images; of a store that others were
        made from also with the digests of its manifest made to fit."""
        fitted = self.random.random() < 0.5
        stores = [path for path in self.arrays if path in self.read or not fitted]
        while True:
            path = self.random.choice(stores)
            arrays = read_arrays(path)
            name = self.random.choice([*arrays])
            array = arrays[name].copy()
            if array.ndim and len(array) > 1:
                a, b = self.random.sample(range(len(array)), 2)
                if array[a].tobytes() != array[b].tobytes():
                    break
        record = manifest.path_for(path)
        with self.kept(path, record):
            array[[a, b]] = array[[b, a]]
            write_arrays(path, arrays | {name: array})
            if fitted:
                self.refit(path, {"sha256": sha256(path), "content_sha256": manifest.content_sha256(path)})
            return self.named(path, *self.made_from(path))

    def stores(self) -> bool:
        """Two stores of one stage exchanged with their manifests, as latents, scores or annotations of two
        mixtures. Their own links may hold then: what was made from them tells."""
        return self.exchanged([path for path in self.arrays if path in self.read], with_manifests=True)

    def made_from(self, *paths: Path) -> list[Path]:
        """The artefacts that were made from one of some files."""
        return [path for path, found in self.manifests.items() if {*paths} & {*merkle.parents(path, found)}]

    def swap(self) -> bool:
        """Two artefacts of one stage and kind, each in the other's place; with their manifests or without."""
        return self.exchanged(self.files, with_manifests=self.random.random() < 0.5)

    def exchanged(self, files: list[Path], with_manifests: bool) -> bool:
        """Two of some files, of one stage and kind, each in the other's place."""
        groups: dict[tuple, list[Path]] = {}
        for path in files:
            found = self.manifests[path]
            groups.setdefault((found["stage"], "".join(path.suffixes)), []).append(path)
        pairs = [(a, b) for group in groups.values() for a in group for b in group
                 if a < b and self.manifests[a]["sha256"] != self.manifests[b]["sha256"]]
        a, b = self.random.choice(pairs)
        paths = [(a, b), (manifest.path_for(a), manifest.path_for(b))][:1 + with_manifests]
        with self.kept(*(path for pair in paths for path in pair)):
            for one, other in paths:
                first, second = one.read_bytes(), other.read_bytes()
                one.write_bytes(second), other.write_bytes(first)
            return self.named(a, b, *self.made_from(a, b))

    def cell(self) -> bool:
        """A number of a table, with the digest in its manifest made to fit."""
        path = self.random.choice([p for p, m in self.manifests.items() if m["stage"] == "ambient.tables"])
        record = manifest.path_for(path)
        with self.kept(path, record):
            lines = path.read_text().splitlines()
            row = self.random.randrange(1, len(lines))
            cells = lines[row].split(",")
            place = self.random.choice([i for i, cell in enumerate(cells) if cell.replace(".", "").isdigit()])
            digits = [i for i, c in enumerate(cells[place]) if c.isdigit()]
            at = self.random.choice(digits)
            other = self.random.choice([d for d in "123456789" if d != cells[place][at]])
            cells[place] = cells[place][:at] + other + cells[place][at + 1:]
            lines[row] = ",".join(cells)
            path.write_text("\n".join(lines) + "\n")
            self.refit(path, {"sha256": sha256(path), "size": path.stat().st_size})
            return self.named(path)

    def refit(self, path: Path, changes: dict) -> None:
        """Rewrite a manifest as one who knows how, every digest of its own made to fit."""
        found = json.loads(json.dumps(self.manifests[path])) | changes
        for entry in found.get("outputs", {}).values():
            if entry["path"] == path.name:
                entry["sha256"] = found["sha256"]
        found["spec_sha256"] = digest(found["spec"])
        found.pop("seal")
        write_json(manifest.path_for(path), found | {"seal": digest(found)})

    def delete(self) -> bool:
        """An artefact or a manifest."""
        path = self.random.choice(self.everything)
        with self.kept(path):
            path.unlink()
            return self.named(path, manifest.artefact_of(path))

    def manifest(self) -> bool:
        """A value of a manifest, crudely or with its digests made to fit (then of what others build on)."""
        fitted = self.random.random() < 0.5
        path = self.random.choice(sorted(self.read) if fitted else self.files)
        record = manifest.path_for(path)
        with self.kept(record):
            key, value = self.random.choice([
                ("spec", {"lr": 1}), ("facts", {"images_seen": 7}), ("size", 12), ("stage", "ambient.show"),
                ("sha256", "0" * 64), ("external", [{"file": "x", "sha256": "0" * 64}])])
            if fitted:
                self.refit(path, {key: value})
            else:
                write_json(record, self.manifests[path] | {key: value})
            return self.named(path)

    def code(self) -> bool:
        """A source file that some artefact was made by."""
        names = {n for m in self.manifests.values() for n in m["code"]["files"]}
        name = self.random.choice(sorted(n for n in names if ":" not in n))  # whole files: a comment counts
        path = source_code.ROOT / name
        users = [p for p, m in self.manifests.items() if name in m["code"]["files"]]
        with self.kept(path):
            path.write_bytes(path.read_bytes() + b"\n# edited\n")
            return self.named(*users)


def run(tree: Path, counts: dict[str, int], seed: int, say: Callable[[str], None] = print) -> int:
    """How many deeds the audit did not name."""
    tamper, missed = Tamper(tree, seed), 0
    for deed, count in counts.items():
        found = sum(getattr(tamper, deed)() for _ in range(count))
        say(f"{deed:9} {found} of {count} named")
        missed += count - found
    return missed


def main() -> int:
    """The command line: 1 if the audit missed a deed."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the full count")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts = {deed: max(round(count * given.share), 1) for deed, count in COUNTS.items()}
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "code"  # edited in place of the real one
        shutil.copytree(source_code.PACKAGE, code / "ambient", ignore=shutil.ignore_patterns("__pycache__"))
        source_code.ROOT, source_code.PACKAGE = code, code / "ambient"
        tree = Path(shutil.copytree(given.tree, Path(folder) / "results" / given.tree.name))
        return int(run(tree, counts, given.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
