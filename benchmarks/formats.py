"""`python -m benchmarks.formats`: latents in safetensors, WebDataset and MDS, each by its own library.

Writes benchmarks/formats.md. The same latents are written three times. Batches of them are then read by
random ids, one after the other in the file's order, and ahead of a loop that asks for them. Counted are read
calls and bytes, by what Linux counts of this process and of workers that have ended; compared are processor
seconds of both, as paired ratios. WebDataset has no access by id: a shard is read until the id comes.

The two other libraries are no part of the environment. For example:

    pip install --no-deps --target F webdataset==1.0.2 braceexpand mosaicml-streaming==0.13.0 \\
        Brotli python-snappy cramjam zstd xxhash tqdm transformers==5.24.0 huggingface_hub tokenizers regex
    pip install --target F catalogue httpx2
    PYTHONPATH=F python -m benchmarks.formats
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ambient.data import latents
from ambient.storage.arrays import Stored, open_arrays
from ambient.training.ahead import Ahead

SHAPE, COUNT = (4, 64, 64), 4160  # of a latent; latents, too many for a store in memory
BATCH, BATCHES, REPEATS = 16, 2, 3  # rows of a batch; batches by random ids
SHARD = 2**26  # bytes of a shard, where the library cuts any
NAMES = ("safetensors", "WebDataset", "MDS")
ROW = 2 * 4 * int(np.prod(SHAPE))  # bytes of a latent: mean and standard deviation
Rows = np.ndarray  # (B, 2, C, h, h) float32: mean and standard deviation


def images(ids: np.ndarray) -> Rows:
    """Latents that tell their ids."""
    return np.broadcast_to(ids[:, None, None, None, None].astype(np.float32), (len(ids), 2, *SHAPE)).copy()


class Safetensors:
    """The store of this project."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "latents.safetensors"
        ids, (shift, scale) = np.arange(COUNT), np.stack([np.zeros(4), np.ones(4)]).astype(np.float32)
        blocks = (ids[first:first + BATCH] for first in range(0, COUNT, BATCH))
        parts = (latents.Latents(*np.moveaxis(images(one), 1, 0), one, shift, scale) for one in blocks)
        latents.write(self.path, ids, SHAPE, shift, scale, parts)
        found = open_arrays(self.path, "mean", "std")
        self.mean, self.std = found["mean"], found["std"]
        assert isinstance(self.mean, Stored), "in memory: COUNT is too small to measure anything"

    def by_id(self, ids: np.ndarray) -> Rows:
        """Rows of ids."""
        return np.stack([self.mean[ids], self.std[ids]], 1)

    def in_order(self) -> Iterator[Rows]:
        """All batches from the first."""
        return (self.by_id(np.arange(first, first + BATCH)) for first in range(0, COUNT, BATCH))

    def ahead(self, batches: Sequence[np.ndarray]) -> Iterator[Rows]:
        """Batches of ids, each read while the one before is used."""
        reader = Ahead(lambda key: self.by_id(batches[key[0]]))
        for k in range(len(batches)):
            yield reader((k, 0, BATCH), (k + 1, 0, BATCH) if k + 1 < len(batches) else None)


class WebDataset:
    """Tar archives by webdataset: a latent is two `.npy` files."""

    def __init__(self, folder: Path) -> None:
        import webdataset

        self.library, self.folder = webdataset, folder
        with webdataset.ShardWriter(str(folder / "%05d.tar"), maxsize=SHARD, verbose=0) as file:
            for k, (mean, std) in enumerate(image for n in range(0, COUNT, BATCH)
                                            for image in images(np.arange(n, n + BATCH))):
                file.write({"__key__": f"{k:08}", "mean.npy": mean, "std.npy": std})
        self.shards = sorted(map(str, folder.glob("*.tar")))
        self.firsts = [next(self.samples([shard]))[0] for shard in self.shards]

    def stream(self, shards: Sequence[str]) -> IterableDataset:
        """The samples of shards, decoded."""
        return self.library.WebDataset(list(shards), shardshuffle=False).decode()

    def samples(self, shards: Sequence[str]) -> Iterator[tuple[int, Rows]]:
        """(id, latent) of each."""
        return ((int(one["__key__"]), np.stack([one["mean.npy"], one["std.npy"]]))
                for one in self.stream(shards))

    def by_id(self, ids: np.ndarray) -> Rows:
        """Rows of ids: of each, its shard is read until it comes."""
        found = []
        for wanted in ids.tolist():
            shard = self.shards[int(np.searchsorted(self.firsts, wanted, side="right")) - 1]
            found.append(next(row for number, row in self.samples([shard]) if number == wanted))
        return np.stack(found)

    def in_order(self) -> Iterator[Rows]:
        """All batches from the first."""
        rows = self.samples(self.shards)
        return (np.stack([next(rows)[1] for _ in range(BATCH)]) for _ in range(COUNT // BATCH))

    def ahead(self, batches: Sequence[np.ndarray]) -> Iterator[Rows]:
        """As many batches, in the order of the archive, from a worker process."""
        stream = self.stream(self.shards).to_tuple("mean.npy", "std.npy").batched(BATCH)
        loader = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=2))
        for _ in batches:
            mean, std = next(loader)
            yield np.stack([np.asarray(mean), np.asarray(std)], 1)


class Mds(Dataset):
    """MDS shards by mosaicml-streaming, read as a dataset on this disk."""

    def __init__(self, folder: Path) -> None:
        from streaming import LocalDataset, MDSWriter

        kind = "ndarray:float32:" + ",".join(map(str, (2, *SHAPE)))
        with MDSWriter(out=str(folder), columns={"latent": kind}, size_limit=SHARD) as file:
            for n in range(0, COUNT, BATCH):
                for image in images(np.arange(n, n + BATCH)):
                    file.write({"latent": image})
        self.data, self.batches = LocalDataset(str(folder)), []

    def by_id(self, ids: np.ndarray) -> Rows:
        """Rows of ids."""
        return np.stack([self.data[int(k)]["latent"] for k in ids])

    def in_order(self) -> Iterator[Rows]:
        """All batches from the first."""
        return (self.by_id(np.arange(first, first + BATCH)) for first in range(0, COUNT, BATCH))

    def __getitem__(self, number: int) -> Rows:
        return self.by_id(self.batches[number])

    def __len__(self) -> int:
        return len(self.batches)

    def ahead(self, batches: Sequence[np.ndarray]) -> Iterator[Rows]:
        """Batches of ids, from a worker process."""
        self.batches = list(batches)
        return (rows.numpy() for rows in DataLoader(self, batch_size=None, num_workers=1, prefetch_factor=2))


def read_so_far() -> tuple[int, int]:
    """(read calls, bytes that they gave) of this process and of its workers that have ended."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["syscr"]), int(fields["rchar"])


def processor() -> float:
    """Processor seconds of this process and of its workers that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def all_of(rows: Iterator[Rows]) -> int:
    """How many rows there are, each of them touched."""
    return sum(len(one) for one in rows if one[:, :, 0, 0, 0].sum() >= 0)


def counted(work: Callable[[], int]) -> tuple[float, float]:
    """(read calls, bytes over those of the row) for each row that a piece of work gives."""
    before = read_so_far()
    rows = work()
    calls, size = (b - a for a, b in zip(before, read_so_far(), strict=True))
    return calls / rows, size / rows / ROW


def measured(stores: Sequence, work: Callable) -> list[tuple[float, float, list[float]]]:
    """Of each store (read calls a row, bytes over needed ones, processor seconds over the first's)."""
    counts = [counted(lambda store=store: work(store)) for store in stores]  # which warms the page cache
    times = []
    for _ in range(REPEATS):
        times.append([])
        for store in stores:
            begun = processor()
            work(store)
            times[-1].append(processor() - begun)
    return [(*count, [row[k] / row[0] for row in times]) for k, count in enumerate(counts)]


def line(name: str, what: str, calls: float, size: float, ratios: list[float]) -> str:
    """A row of Markdown."""
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {what} | {name} | {calls:.2f} | {size:.2f} | {spread} |"


def main() -> None:
    """Write all, read all, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/formats.md"))
    given = parser.parse_args()
    batches, more = (np.random.default_rng(0).integers(0, COUNT, (number, BATCH))
                     for number in (BATCHES, 64 * BATCHES))
    with tempfile.TemporaryDirectory() as name:
        stores = []
        for kind in (Safetensors, WebDataset, Mds):
            (folder := Path(name, kind.__name__)).mkdir()
            stores.append(kind(folder))
        for store in stores:
            assert (store.by_id(batches[0]) == images(batches[0])).all()
        page = io.StringIO()
        for what, work, own in (
                ("by random ids", lambda store: all_of(map(store.by_id, batches)), stores),
                ("in the file's order", lambda store: all_of(store.in_order()), stores),
                ("by random ids, read ahead", lambda store: all_of(store.ahead(more)), stores[::2]),
                ("in the file's order, read ahead", lambda store: all_of(store.ahead(
                    np.arange(COUNT).reshape(-1, BATCH))), stores)):
            for store, found in zip(own, measured(own, work), strict=True):
                print(line(NAMES[stores.index(store)], what, *found), file=page)
        sizes = ", ".join(f"{name} {sum(one.stat().st_size for one in folder.iterdir()) / COUNT / ROW:.3f}"
                          for name, folder in zip(NAMES, sorted(Path(name).iterdir(), key=lambda path: [
                              "Safetensors", "WebDataset", "Mds"].index(path.name)), strict=True))
    versions = ", ".join(f"{one} {metadata.version(one)}" for one in ("webdataset", "mosaicml-streaming"))
    given.out.write_text("\n".join([
        "# Formats of stored latents\n",
        f"Written by `python -m benchmarks.formats` ({versions}): {COUNT:,} latents of {ROW:,} bytes, shards "
        f"of {SHARD / 1e6:.0f} MB, batches of {BATCH}, on a busy machine. Counts and processor "
        "time are those of worker processes, too, and of their start. A ratio of processor times is the "
        f"median of {REPEATS} (smallest to largest), paired.\n",
        "| reading | by | read calls a latent | bytes over a latent's | processor time over safetensors' |",
        "|---|---|---|---|---|", page.getvalue(),
        f"Bytes on disk over those of the latents: {sizes}.", ""]))
    print(given.out.read_text())


if __name__ == "__main__":
    main()
