"""`python -m ambient audit`: the command line, its report for people, and its JSON for machines."""

from __future__ import annotations

import argparse
import gc
import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ambient.audit
from ambient.audit import sign, why
from ambient.audit.ahead import hash_ahead
from ambient.audit.chain import TEXTS, Audit, artefacts_in
from ambient.audit.code import MANY, converted
from ambient.audit.noted import Noted
from ambient.audit.target import check_page
from ambient.audit.words import Problem, Result, level_word
from ambient.provenance import manifest, source_code
from ambient.storage import regular
from ambient.storage.files import atomic
from ambient.storage.text import first_line, printable

LONGEST = 300  # characters of a difference in settings: a table's rows are long
ALLOWED = {"--rerun": "a number of jobs, or a file that is audited", "--why": "a file that is audited"}


def filled(word: str) -> str:
    """An option's value as it stands. An empty one is refused: as a path it would mean this folder."""
    if not word:
        raise argparse.ArgumentTypeError("got '', which is empty: give it a value, or leave it out")
    return word


def filled_path(word: str) -> Path:
    """An option's value as a path."""
    return Path(filled(word))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line. argparse ends the process where it is wrong by itself, whatever the files are."""
    parser = argparse.ArgumentParser(prog="python -m ambient audit", description=ambient.audit.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=filled_path, help="files or folders (default: results)")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--allow-other-code", action="store_true",
                        help="accept artefacts made by code that differs from the present")
    parser.add_argument("--allow-other-settings", action="store_true",
                        help="accept artefacts made with other settings than the present configuration's")
    parser.add_argument("--why", type=filled_path, metavar="FILE",
                        help="an artefact's story down to raw data")
    parser.add_argument("--row", type=filled,
                        help="with --why TABLE: one row, by number from 1, run or method")
    parser.add_argument("--rerun", type=filled, action="append", default=[], metavar="N|FILE",
                        help="run N jobs again, drawn across stages, or the job that made a file, in a "
                             "scratch folder, and compare; may be given several times")
    parser.add_argument("--sign", type=filled_path, metavar="KEY",
                        help="sign the root: Ed25519 private key, PEM")
    parser.add_argument("--verify", type=filled_path, metavar="KEY",
                        help="check the signature: public key, PEM")
    parser.add_argument("--html", type=filled_path, metavar="FILE",
                        help="write a page: each cell with its chain")
    parser.add_argument("--noted", action="store_true",
                        help="for the workflow's own pages: take the digests that it noted in this folder, "
                             "and hash only what they lack")
    given = parser.parse_args(arguments)
    if given.noted and (given.sign or given.verify or given.rerun):
        parser.error("--noted: allowed: without --sign, --verify and --rerun, which vouch for files that are "
                     "read; leave one out")
    if given.row and not given.why:
        parser.error("--row goes with --why TABLE")
    given.again, given.drawn = to_run_again(parser, given.rerun)
    given.whys = [given.why] * bool(given.why)
    given.paths = given.paths or given.whys or given.again or [Path("results")]
    given.paths, given.again, given.whys = (
        [manifest.artefact_of(one) if one.name.endswith(manifest.SUFFIX) else one for one in paths]
        for paths in (given.paths, given.again, given.whys))
    if given.sign and given.verify:
        parser.error("--sign and --verify: allowed: one of them; verify first, and sign in a second call")
    if (given.sign or given.verify) and not (len(given.paths) == 1 and given.paths[0].is_dir()):
        parser.error("--sign and --verify are for one folder")
    return given


def to_run_again(parser: argparse.ArgumentParser, words: list[str]) -> tuple[list[Path], int]:
    """(the files whose jobs are to be run again, how many further jobs are)."""
    files, count = [], 0
    for word in words:
        try:
            number = int(word)
        except ValueError:
            files.append(Path(word))
            continue
        if number < 0:
            parser.error(f"--rerun {number}: at least 0")
        count += number
    return files, count


def keys(option: str, files: list[Path], audits: list[Audit]) -> list[Path]:
    """The names by which audits know the files of an option. Raises `ValueError` for what they don't know."""
    found = [(one, key_of(one, audits)) for one in files]
    for one, key in found:
        if key is None:
            raise ValueError(f"{option} {one}: {unknown(one)}; allowed: {ALLOWED[option]}")
    return [key for _, key in found if key]


def key_of(file: Path, audits: list[Audit]) -> Path | None:
    """The name by which an audit knows a file: as it is given, or else another one of the same real path."""
    plain, real = Path(os.path.abspath(file)), os.path.realpath(file)
    if any(plain in audit.results for audit in audits):
        return plain
    same = [key for audit in audits for key in audit.results if audit.tree.real_path(key) == real]
    return min(same, key=os.path.islink, default=None)


def unknown(file: Path) -> str:
    """In words why an audit does not know a file."""
    recorded, found = os.path.lexists(manifest.path_for(file)), regular.kind(file)
    if found == regular.MISSING and not recorded:
        return "there is no such file"
    if found == regular.FOLDER:
        return "this is a folder: name a file in it"
    return "it is not below what is audited: name its folder too" if recorded else \
        "this file has no manifest, so nobody can say how it was made"


def audited(given: argparse.Namespace) -> list[Audit]:
    """One audit for each results tree that the paths lie in. Raises `ValueError` for what can't be done."""
    audits: dict[Path, Audit] = {}
    waiting: list[tuple[Audit, list[Path]]] = []
    noted = Noted() if given.noted else None
    for path in given.paths:
        if not os.path.lexists(path) and not os.path.lexists(manifest.path_for(path)):
            raise ValueError(f"{path}: no such file or folder")
        audit = Audit(path, given.allow_other_code, noted=noted)
        asked = artefacts_in(path) if path.is_dir() else [path]
        if not asked:
            raise ValueError(f"no artefacts in {path}")
        waiting.append((audits.setdefault(audit.tree.top, audit), asked))
    if given.html:
        check_page(given.html, list(audits))
    with collecting_rarely():
        for audit, asked in waiting:
            hash_ahead(audit, asked)
            asked.reverse()
            while asked:  # each path is let go of: the audit has its own
                audit.artefact(asked.pop())
    for audit in audits.values() if not given.allow_other_settings else ():
        compare_settings(audit)
    return list(audits.values())


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """An audit keeps nearly all that it reads: Python's collector finds little, the more it looks through."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def compare_settings(audit: Audit) -> None:
    """Hold each manifest of a results tree against what the configuration here would ask of its job now."""
    config = source_code.ROOT / "config"
    for result in audit.results.values() if config.is_dir() else ():
        if not result.manifest or "results" not in result.key.parts:
            continue
        try:
            from ambient.settings import asked  # reads YAML, which an audit of no results tree can do without

            for one in (asked.of_file(result.key, config, result.manifest) or [])[:MANY]:
                result.problem("other settings", textwrap.shorten(str(one), LONGEST, placeholder=" ..."))
        except Exception as error:  # whatever is written into a manifest, or into the configuration
            result.note(f"its settings were not compared: {first_line(error)}")


def main(arguments: list[str]) -> int:
    """Exit 0 only if every link of every result holds (and the signature, where asked).

    2 is for misuse, and where the job of a file that `--rerun` names could not be run or compared.
    """
    given = parse(arguments)
    audits = audited(given)
    given.again, given.whys = (keys(option, files, audits)
                               for option, files in (("--rerun", given.again), ("--why", given.whys)))
    return report(audits, given)


def report(audits: list[Audit], given: argparse.Namespace) -> int:
    """Do what was asked with the audited trees, print, and return the exit status."""
    signer = sign.signer(given.paths[0], given.sign) if given.sign else None  # first: a bad key ends all
    reruns: list[str] = []
    asked: list[Result] = []  # of which a job was named
    if given.again or given.drawn:
        from ambient.audit.rerun import rerun

        for audit in audits:
            files = [path for path in given.again if path in audit.results]
            reruns += rerun(audit, given.drawn, files, quiet=given.json)
            asked += [audit.results[path] for path in files]
    results = [result for audit in audits for result in audit.results.values()]
    problems = [problem for result in results for problem in result.problems]
    roots = {path: audits[0].root(path) for path in given.paths if path.is_dir() and len(audits) == 1}
    levels = Counter(level_word(result) for result in results)
    signature: list[str] = []
    unsigned: list[Problem] = []
    if given.verify:
        signature, unsigned = verified(audits[0], given.verify, *roots.items())
        problems += unsigned
    if given.html:  # before signing, which covers the page too
        from ambient.audit.html import Checked, page

        shown = page(audits[0], roots, Checked(reruns, signature, unsigned, signs=signer is not None))
        with atomic(given.html) as temporary:
            temporary.write_text(shown, encoding="utf-8")
    if signer:
        ((folder, root),) = roots.items()
        content = sign.content(folder, audits[0].digest)
        written = sign.sign(folder, signer, sign.statement(root, content, levels, len(problems)))
        signature = [f"signed: {written}, {len(content.files)} files", *uncovered(content)]
    noted = [audit.noted.words() for audit in audits[:1] if audit.noted]  # all audits have the same
    status = 1 if problems else 2 * any(not result.repeated for result in asked)
    if given.json:
        print(json.dumps(plain(results, problems, roots, reruns, signature, noted), indent=1, sort_keys=True))
        return status
    show_chains(audits, given)
    lines = [str(problem) for problem in problems] + notes(results) + reruns
    lines += [f"root of {path}: sha256 {root['sha256']} over {root['manifests']} manifests"
              for path, root in roots.items()]
    lines += signature + noted
    counts = ", ".join(f"{word}: {count}" for word, count in sorted(levels.items(), reverse=True))
    kinds = Counter(problem.word for problem in problems)
    told = ", ".join(f"{word}: {count}" for word, count in kinds.most_common())
    lines.append(f"{len(results)} artefacts, {counts}; {len(problems)} problems" + f" ({told})" * bool(told))
    print("\n".join(map(printable, lines)))
    return status


def verified(audit: Audit, key: Path, signed: tuple[Path, dict]) -> tuple[list[str], list[Problem]]:
    """What to say of a folder's signature, and each file that is not as it was when the folder was signed."""
    folder, root = signed
    try:
        found = sign.signed(folder, key)
    except sign.BadKey:
        raise
    except ValueError as error:
        path, _, why = str(error).partition(": ")
        return [], [Problem(Path(path), "unsigned", why)]

    def same(name: str, digest: str) -> bool:
        path = folder / name
        return path.suffix in TEXTS and converted(regular.read(path, sign.LARGEST)) == digest

    content = sign.content(folder, audit.digest)
    changed = sign.differences(found, root, content, same)
    verdict = f"does not hold: {len(changed)} differences" if changed else \
        f"holds: {len(content.files)} files are as they were signed"
    said = [f"signature of {folder / sign.SIGNATURE} {verdict}", *uncovered(content)]
    return said, [Problem(folder / name, "unsigned", what) for name, what in changed]


def uncovered(content: sign.Content) -> list[str]:
    """A line for what no signature can cover."""
    what = [f"{name} ({kind})" for name, kind in content.others.items()]
    return [f"not covered by the signature: {', '.join(what)}"] if what else []


def show_chains(audits: list[Audit], given: argparse.Namespace) -> None:
    """The story asked for, or the tree below each file."""
    by_key = {key: audit for audit in audits for key in audit.results}
    for key in given.whys or [Path(os.path.abspath(p)) for p in given.paths if not p.is_dir()]:
        audit = by_key[key]
        lines = why.story(audit, audit.results[key], given.row) if given.row else why.tree(audit, [key])
        print("\n".join(lines))


def notes(results: list[Result]) -> list[str]:
    """What is no broken link but should be known: each thing once, with how many artefacts it concerns."""
    counts = Counter(note for result in results for note in result.notes)
    lines = [f"note: {note} ({count} artefacts)" for note, count in counts.most_common()]
    reasons = Counter(result.reason for result in results if result.level == 2 and result.reason
                      and not result.problems and "--rerun" not in result.reason)
    return lines + [f"note: at level 2: {reason} ({count} artefacts)"
                    for reason, count in reasons.most_common()]


def plain(results: list[Result], problems: list[Problem], roots: dict, reruns: list[str],
          signature: list[str], noted: list[str]) -> dict:
    """The report for machines."""
    found = {"artefacts": {str(r.path): {
        "level": r.level, "next": r.reason, **({"pruned": True} if r.pruned else {}),
        **({"notes": list(r.notes)} if r.notes else {})} for r in results},
        "problems": [problem.plain() for problem in problems],
        "roots": {str(path): root for path, root in roots.items()}}
    more = {"rerun": reruns, "signature": signature, "noted": noted}
    return found | {name: lines for name, lines in more.items() if lines}
