"""Scenes of coloured shapes: grammar, layout and pixels by closed forms, and what they are asked to show."""

import dataclasses
import re

import numpy as np
import pytest

from ambient.data import prompt_forms, scenes, shapes, sources
from ambient.data.prompt_forms import TASKS, understood, words
from ambient.evaluation.geneval import geneval_prompt, relations
from ambient.specs import DatasetSpec
from ambient.specs.strict import SpecError, build

NUMBER = 300
SPEC = DatasetSpec("scenes", 32, 3, num_images=NUMBER)
PLANNED = [scenes.plan(SPEC, i) for i in range(NUMBER)]


def test_a_caption_and_what_it_asks_for_are_one_by_the_other():
    """Every caption of the grammar: 10 + 90 + 30 + 60 + 360 + 2,700."""
    kinds, colours = shapes.SHAPES, list(shapes.COLOURS)
    pairs = [(a, b) for a in kinds for b in kinds if a != b]
    every = [prompt_forms.single_object(a) for a in kinds]
    every += [prompt_forms.two_object(*pair) for pair in pairs]
    every += [prompt_forms.counting(a, n) for a in kinds for n in (2, 3, 4)]
    every += [prompt_forms.colors(a, c) for a in kinds for c in colours]
    every += [prompt_forms.position(a, r, b) for a, b in pairs for r in prompt_forms.RELATIONS]
    hues = [(c, d) for c in colours for d in colours if c != d]
    every += [prompt_forms.color_attr(a, c, b, d) for a, b in pairs for c, d in hues]
    captions = [words(one) for one in every]
    assert len(set(captions)) == len(captions) == 3250
    assert [understood(caption, kinds) for caption in captions] == every
    assert [understood(f"a photo of {caption}", kinds) for caption in captions[::50]] == every[::50]


@pytest.mark.parametrize(("caption", "tag", "name"), [
    ("a photo of a tv remote above a computer keyboard", "position", "computer keyboard"),
    ("a photo of an orange orange", "colors", "orange"), ("a photo of three knives", "counting", "knife"),
    ("a photo of two benches", "counting", "bench"), ("a photo of four sheep", "counting", "sheep"),
    ("a photo of a white hot dog and a black bird", "color_attr", "hot dog")])
def test_prompts_of_genevals_classes_are_understood(caption, tag, name):
    names = ("tv remote", "computer keyboard", "orange", "knife", "bench", "sheep", "hot dog", "bird")
    found = understood(caption, names)
    assert (found["tag"], found["include"][0]["class"]) == (tag, name)
    geneval_prompt(found)


@pytest.mark.parametrize("caption", ["a photo", "a cube", "five stars", "a star and a red heart", "star",
                                     "a star behind a heart", "a pale star", ""])
def test_other_captions_are_refused(caption):
    with pytest.raises(ValueError, match=re.escape(f"the caption {caption!r} has none of")):
        understood(caption, shapes.SHAPES)


def test_a_scene_shows_what_it_is_asked_for():
    """Shapes in the clauses' order, in their numbers, colours and relations, each in its own cell."""
    names, colours = shapes.SHAPES, list(shapes.COLOURS)
    for scene in PLANNED:
        asked = geneval_prompt(scene.asked)
        wanted = [clause for clause in asked.include for _ in range(clause.count)]
        assert [names[one.kind] for one in scene.shapes] == [clause.name for clause in wanted]
        assert len({one.cell for one in scene.shapes}) == len(scene.shapes) <= 4
        for clause, one in zip(wanted, scene.shapes, strict=True):
            assert clause.colour in (None, colours[one.colour])
            if clause.relation:
                box, other = (cell_box(shape.cell) for shape in (one, scene.shapes[clause.to]))
                assert clause.relation in relations(box, other)
    counts = np.array([sum(scene.asked["tag"] == task for scene in PLANNED) for task in TASKS])
    assert (np.abs(counts - NUMBER / 6) < 4 * np.sqrt(NUMBER * 5 / 36)).all()


def cell_box(cell):
    y, x = divmod(cell, 2)
    return (16.0 * x, 16.0 * y, 16.0 * x + 15, 16.0 * y + 15)


def test_a_scene_is_a_function_of_its_seed_and_number():
    whole = scenes.paint(SPEC, PLANNED)
    some = [scenes.plan(SPEC, i) for i in (7, 250)]
    np.testing.assert_array_equal(scenes.paint(SPEC, some), whole[[7, 250]])
    other = scenes.plan(dataclasses.replace(SPEC, seed=1), 7)
    assert (other.caption, other.shapes[0].drawing[0]) != (some[0].caption, some[0].shapes[0].drawing[0])


def test_pixels_lie_in_the_cells_of_shapes_and_have_their_colours():
    images = scenes.paint(SPEC, PLANNED)
    drawn = (images != shapes.GREY).any(axis=1)
    for image, where, scene in zip(images, drawn, PLANNED, strict=True):
        cells = where.reshape(2, 16, 2, 16).sum(axis=(1, 3)).ravel()
        assert set(np.flatnonzero(cells)) == {one.cell for one in scene.shapes}
        for one in scene.shapes:
            y, x = (16 * k for k in divmod(one.cell, 2))
            part = image[:, y:y + 16, x:x + 16].reshape(3, -1).astype(float)
            colour = np.array(list(shapes.COLOURS.values())[one.colour], float)
            nearest = np.abs(part - colour[:, None]).max(axis=0).min()  # darkened by a fifth at the most
            assert nearest <= 0.2 * colour.max() + 1


@pytest.mark.parametrize(("name", "area"), [
    ("circle", np.pi * 0.81), ("square", 1.56**2), ("diamond", 2 * 0.575),
    ("cross", 8 * 0.28 * 0.92 - 4 * 0.28**2),
    ("ring", np.pi * (0.92**2 - 0.49**2)), ("triangle", 0.9 * 1.7),
    ("star", 5 * 0.42 * np.sin(np.pi / 5)), ("arrow", 0.95 * 0.42 + 0.85 * 0.95**2)])
def test_a_shape_covers_its_area(name, area):
    """Of the region in the plane, times (radius side / 2)^2, at the middle of all numbers."""
    side, u = 96, np.full((1, shapes.NUMBERS), 0.5)
    covered = shapes.coverage(np.array([shapes.SHAPES.index(name)]), u, side).sum()
    assert covered == pytest.approx(area * (0.82 * side / 2)**2, rel=0.02)


def test_rounding_takes_what_is_thin_and_leaves_place_and_size():
    """A circle stays about as large; a star loses its points."""
    u = np.full((2, shapes.NUMBERS), 0.5)
    kinds = np.array([shapes.SHAPES.index(name) for name in ("circle", "star")])
    sharp, poor = (shapes.coverage(kinds, u, 48, smooth) for smooth in (0.0, 0.14))
    assert poor[0].sum() == pytest.approx(sharp[0].sum(), rel=0.2)
    assert poor[1, :6].max() == 0 < sharp[1, :6].max()


def test_variety_is_how_many_drawings_of_a_class_there_are():
    few = dataclasses.replace(SPEC, variety=3)
    drawn = {(one.kind, *one.drawing) for i in range(NUMBER) for one in scenes.plan(few, i).shapes}
    assert len(drawn) == 3 * len(shapes.SHAPES)
    assert len({one.drawing.tobytes() for scene in PLANNED for one in scene.shapes}) > NUMBER


@pytest.mark.parametrize(("changed", "said"), [
    ({"channels": 1}, "channels: got 1, allowed: 3 for scenes"),
    ({"grid": 3}, "grid: got 3, allowed: 1 or 2"),
    ({"resolution": 14}, "resolution: got 14, allowed: a multiple of grid = 2, of 8 pixels a cell or more"),
    ({"grid": 1}, "forms: got"), ({"colours": ["red"]}, "colours: got"), ({"smooth": 0.6}, "smooth: got 0.6"),
    ({"num_images": None}, "num_images: got None"), ({"forms": ["colors", "colors"]}, "forms: got")])
def test_settings_are_held_to_their_ranges(changed, said):
    values = {"source": "scenes", "resolution": 32, "channels": 3, "num_images": 5} | changed
    with pytest.raises(SpecError, match=f"d.{re.escape(said)}"):
        build(DatasetSpec, values, "d")


def test_a_prepared_dataset_has_the_captions_of_its_scenes():
    texts = pytest.importorskip("ambient.data.texts")
    spec = dataclasses.replace(SPEC, num_images=40)
    data = sources.KINDS["scenes"].draw(spec)
    assert isinstance(data.captions, texts.Texts)
    assert data.captions.of_images() == [scene.caption for scene in PLANNED[:40]]
    assert data.labels.tolist() == [scene.label for scene in PLANNED[:40]]
