"""Configuration files with something wrong in them: refused by one line, or they mean something.

Every mutation is a function of its number, so that a failure repeats.
"""

import copy
import shutil
from pathlib import Path
from random import Random

import pytest
import yaml

from ambient import settings
from ambient.cluster import site
from ambient.settings.graph import Graph
from ambient.specs.strict import SpecError
from tests.clones import configuration

ROOT = Path(__file__).parents[1]
NUMBER = 30
VALUES = [None, True, 0, -1, 2**70, 1e308, float("nan"), float("inf"), -0.5, "", "x", "../up", "two\nlines",
          "\x00", "\x1b[31m", "{run}", "1e-4", "digits", "only-clean", "demo", [], {}, [1], [[]], [None],
          ["table2a"] * 2, {"": 0}, {1: 2}, {"like": "x"}, {"like": ["a", "b"]}]
FILES = ("config.yaml", "site.yaml", "data.yaml", "models.yaml", "studies.yaml", "theory.yaml",
         "scales/demo.yaml", "experiments/pixel/table2a.yaml", "experiments/pixel/figures.yaml",
         "experiments/pixel/text_numbers.yaml")
KEYS = ["x", "", None, 3, "two\nlines", "like", "extends", "a/b"]
PIECES = [b"\t", b":", b"{", b"- ", b"\xff", b"&a ", b"*a ", b"\x00", b"!!python/name:os.system ", b"'",
          b"\n", b"<<: ", b"? ", b"%", b"|"]


def paths(tree, at=()):
    """The path of every value within a tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield (*at, key)
        yield from paths(value, (*at, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def changed(tree, random):
    """A tree with one value replaced, taken out, added, copied from elsewhere, or under another key."""
    tree = copy.deepcopy(tree)
    known = list(paths(tree))
    path = random.choice(known)
    parent, key, odd = at(tree, path[:-1]), path[-1], copy.deepcopy(random.choice(VALUES))
    how = random.choice(["replace", "replace", "copy", "delete", "rename", "add"])
    if how == "copy":
        parent[key] = copy.deepcopy(at(tree, random.choice(known)))
    elif how == "delete":
        del parent[key]
    elif how == "replace" or isinstance(parent, list):
        parent[key] = odd
    else:
        parent[random.choice(KEYS)] = parent.pop(key) if how == "rename" else odd
    return yaml.dump(tree, Dumper=yaml.CSafeDumper, sort_keys=False).encode()


def torn(text, random):
    """A text that a piece was put into or cut out of, or that ends early."""
    start = random.randrange(len(text))
    end = random.choice([start, start + 1, start + 20, len(text)])
    return text[:start] + random.choice(PIECES) + text[end:]


def resolve(folder):
    """All that is checked when the workflow is read, at the two scales that use nearly every entry."""
    settings.check_main(settings.load(folder / "config.yaml"))
    site.read(folder)
    for scale in ("demo", "paper"):
        Graph(settings.Experiments(folder, scale)).everything()


@pytest.fixture
def folder(tmp_path):
    configuration(tmp_path / "config")
    shutil.copy(ROOT / "config/site.example.yaml", tmp_path / "config/site.yaml")
    return tmp_path / "config"


def test_mutated_configurations_are_refused_by_one_line_or_resolve(folder):
    resolve(folder)
    refused, files = 0, [folder / name for name in FILES]
    for number in range(NUMBER):
        random = Random(number)
        file = random.choice(files)
        text = file.read_bytes()
        broken = torn(text, random) if random.random() < 0.25 else changed(
            yaml.load(text, yaml.CSafeLoader), random)
        file.write_bytes(broken)
        try:
            resolve(folder)
        except SpecError as error:
            refused += 1
            assert str(error).isprintable(), (number, file, str(error))
        finally:
            file.write_bytes(text)
    assert refused > NUMBER / 2  # it is not comments alone that they change


# A study whose detector has weights from outside.
STUDIES = {"controlled": {"detector": "inception", "sampling": {"num_samples": 2100}}}


@pytest.mark.parametrize("path", ["/", "..", "pictures/..", "two\nlines", "a\\b"])
def test_raw_data_whose_name_no_manifest_could_hold_are_refused_at_the_start(folder, path):
    for section, name, key in (("datasets", "digits", "path"), ("detectors", "inception", "weights")):
        settled = {"extends": "demo", "studies": STUDIES, section: {name: {key: path}}}
        (folder / "scales/odd.yaml").write_text(yaml.safe_dump(settled))
        words = f"{section}.{name}.{key}: got .*, allowed: a path that ends in a name"
        with pytest.raises(SpecError, match=words):
            settings.Experiments(folder, "odd")


@pytest.mark.parametrize("odd", ["two\nlines", "\x1b[31m", "\u2028", "\r"])
def test_a_refused_name_neither_breaks_the_line_nor_steers_the_terminal(folder, odd):
    for settled in ({"datasets": {odd: {"source": "mnist"}}}, {"tables": {"table2a": {"rows": [odd]}}}):
        (folder / "scales/odd.yaml").write_text(yaml.safe_dump({"extends": "demo"} | settled))
        with pytest.raises(SpecError) as refused:
            settings.Experiments(folder, "odd")
        assert str(refused.value).isprintable() and "odd.yaml" in str(refused.value)
