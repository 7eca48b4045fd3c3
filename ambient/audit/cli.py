"""`python -m ambient audit`: the command line, its report for people, and its JSON for machines."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import ambient.audit
from ambient import manifest, sign
from ambient.audit import why
from ambient.audit.chain import Audit, artefacts_in
from ambient.audit.words import Problem, Result, level_word, printable
from ambient.files import atomic


def parse(arguments: list[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ambient audit", description=ambient.audit.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders (default: results)")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--allow-other-code", action="store_true",
                        help="accept artefacts made by code that differs from the present")
    parser.add_argument("--why", type=Path, metavar="FILE", help="an artefact's story down to raw data")
    parser.add_argument("--row", help="with --why TABLE: one row, by number from 1, run or method")
    parser.add_argument("--rerun", type=int, default=0, metavar="N",
                        help="run N jobs again, drawn across stages, in a scratch folder, and compare")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign the root: Ed25519 private key, PEM")
    parser.add_argument("--verify", type=Path, metavar="KEY", help="check the signature: public key, PEM")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page: each cell with its chain")
    given = parser.parse_args(arguments)
    if given.row and not given.why:
        parser.error("--row goes with --why TABLE")
    if given.rerun < 0:
        parser.error(f"--rerun {given.rerun}: at least 0")
    given.paths = given.paths or [given.why or Path("results")]
    given.paths = [manifest.artefact_of(path) if path.name.endswith(manifest.SUFFIX) else path
                   for path in given.paths]
    if (given.sign or given.verify) and not (len(given.paths) == 1 and given.paths[0].is_dir()):
        parser.error("--sign and --verify are for one folder")
    return parser, given


def audited(parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[Audit]:
    """One audit for each results tree that the paths lie in."""
    audits: dict[Path, Audit] = {}
    for path in given.paths:
        if not path.exists() and not path.is_symlink() and not manifest.path_for(path).exists():
            parser.error(f"{path}: no such file or folder")
        audit = Audit(path, given.allow_other_code)
        audit = audits.setdefault(audit.tree.top, audit)
        asked = artefacts_in(path) if path.is_dir() else [path]
        if not asked:
            parser.error(f"no artefacts in {path}")
        for one in asked:
            audit.artefact(one)
    return list(audits.values())


def main(arguments: list[str]) -> int:
    """Exit 0 only if every link of every result holds (and the signature, where asked); 2 for misuse."""
    parser, given = parse(arguments)
    audits = audited(parser, given)
    try:
        return report(audits, given)
    except (ValueError, OSError) as error:
        parser.error(printable(error))


def report(audits: list[Audit], given: argparse.Namespace) -> int:
    """Do what was asked with the audited trees, print, and return the exit status."""
    reruns = []
    if given.rerun:
        from ambient.audit.rerun import rerun

        reruns = rerun(audits[0], given.rerun, quiet=given.json)
    results = [result for audit in audits for result in audit.results.values()]
    problems = [problem for result in results for problem in result.problems]
    roots = {path: audits[0].root(path) for path in given.paths if path.is_dir() and len(audits) == 1}
    levels = Counter(level_word(result) for result in results)
    signature = None
    if given.sign:
        (folder,) = roots
        written = sign.sign(folder, given.sign, sign.statement(roots[folder], levels, len(problems)))
        signature = f"signed: {written}"
    if given.verify:
        (folder,) = roots
        wrong = sign.verify(folder, given.verify, roots[folder])
        signature = wrong or f"signature of {folder / sign.SIGNATURE} holds"
    failed = bool(problems) or bool(given.verify and wrong)
    if given.html:
        from ambient.audit.html import page

        with atomic(given.html) as temporary:
            temporary.write_text(page(audits[0], roots))
    if given.json:
        print(json.dumps(plain(results, problems, roots, reruns, signature), indent=1, sort_keys=True))
        return int(failed)
    show_chains(audits, given)
    lines = [str(problem) for problem in problems] + notes(results) + reruns
    lines += [f"root of {path}: sha256 {root['sha256']} over {root['manifests']} manifests"
              for path, root in roots.items()]
    lines += [signature] if signature else []
    counts = ", ".join(f"{word}: {count}" for word, count in sorted(levels.items(), reverse=True))
    lines.append(f"{len(results)} artefacts, {counts}; {len(problems)} problems")
    print("\n".join(map(printable, lines)))
    return int(failed)


def show_chains(audits: list[Audit], given: argparse.Namespace) -> None:
    """The story asked for, or the tree below each file."""
    by_key = {key: audit for audit in audits for key in audit.results}
    for path in [given.why] if given.why else [p for p in given.paths if not p.is_dir()]:
        key = path.absolute().resolve() if path.absolute().resolve() in by_key else path.absolute()
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
          signature: str | None) -> dict:
    """The report for machines."""
    found = {"artefacts": {str(r.path): {
        "level": r.level, "next": r.reason, **({"pruned": True} if r.pruned else {}),
        **({"notes": r.notes} if r.notes else {})} for r in results},
        "problems": [problem.plain() for problem in problems],
        "roots": {str(path): root for path, root in roots.items()}}
    return found | ({"rerun": reruns} if reruns else {}) | ({"signature": signature} if signature else {})
