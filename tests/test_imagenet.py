"""ImageNet as people have it: folders, tars and zips give the same images, ids, classes and bytes."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_images import make_folder, make_zip
from scipy.io import savemat
from tiny import kept

from ambient.data import datasets
from ambient.data.raw import Raw
from ambient.data.squares import adm
from ambient.jobs.stage import Record
from ambient.specs import DatasetSpec
from ambient.specs.strict import SpecError
from ambient.stages import prepare

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
SPEC = DatasetSpec("imagenet", 16, 3, num_images=5)
WORDS = b"n01440764 tench, Tinca tinca\nn02105855 Shetland sheepdog\nn01443537 goldfish\n"


def matlab(**values):
    buffer = io.BytesIO()
    savemat(buffer, values)
    return buffer.getvalue()


# As in the development kit, whose order is its own.
KIT = matlab(synsets=np.array(
    [(1, "n02105855", "Shetland sheepdog"), (2, "n01440764", "tench, Tinca tinca"),
     (3, "n01443537", "goldfish")],
    dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]))


def picture(seed, width=41, height=33):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def saved(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def images():
    """Five files of three classes, as in the real ones: colour, grey, CMYK, a PNG called JPEG, one turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    made = [saved(picture(0)), saved(picture(1).convert("L")), saved(picture(2).convert("CMYK")),
            saved(picture(3, 12, 20), "PNG"), saved(picture(4, 200, 150), exif=exif)]
    names = ("n01440764/n01440764_10", "n01440764/n01440764_9", "n01443537/n01443537_1",
             "n02105855/n02105855_2", "n02105855/n02105855_3")
    return {f"{name}.JPEG": content for name, content in zip(names, made, strict=True)}


def nested(images):
    """As the official tar: a tar of each class, here not in the order of their names."""
    classes = {}
    for name, content in images.items():
        wnid, file = name.split("/")
        classes.setdefault(wnid, {})[file] = content
    return {f"{wnid}.tar": tar(classes[wnid]) for wnid in sorted(classes, reverse=True)}


def prepared(tmp_path, path, spec=SPEC):
    record = Record()
    out = tmp_path / "out.safetensors"
    prepare.main(spec, record, raw=path, state=kept(tmp_path / "state"), out=out)
    return datasets.read(out), record


def test_folders_and_tars_give_the_same_images_in_the_same_order(tmp_path, images):
    (tmp_path / "train.tar").write_bytes(tar(nested(images)))
    beside = make_folder(tmp_path / "beside", {"ILSVRC2012_img_train.tar": tar(nested(images)),
                                               "synset_words.txt": WORDS})
    places = [make_folder(tmp_path / "tree", {f"train/{name}": one for name, one in images.items()}),
              tmp_path / "train.tar", beside,
              make_zip(tmp_path / "a.zip", images)]
    for place in places:
        found, record = prepared(tmp_path, place)
        assert found.labels.tolist() == [0, 0, 1, 2, 2] and found.ids.tolist() == [0, 1, 2, 3, 4]
        assert [name.removeprefix("train/") for name in found.file_names] == list(images)
        for (_, content), pixels in zip(images.items(), found.images, strict=True):
            whole = Image.open(io.BytesIO(content)).convert("RGB")  # nothing is turned or decoded smaller
            np.testing.assert_array_equal(pixels, np.asarray(adm(whole, 16)).transpose(2, 0, 1))
        assert record.facts["converted"] == {
            "grey, taken as colour": 1, "converted from CMYK": 1,
            "enlarged, and blurred by that, to 16 pixels": 1,
            "not turned, though their EXIF orientation says so": 1}
        words = place is beside
        assert record.facts["class_names"] == {
            "0": "n01440764" + " tench, Tinca tinca" * words, "1": "n01443537" + " goldfish" * words,
            "2": "n02105855" + " Shetland sheepdog" * words}


@pytest.mark.parametrize("layout", ["folder", "tar"])
@pytest.mark.parametrize(("name", "text", "origin"), [
    ("LOC_val_solution.csv",
     "ImageId,PredictionString\nval_2,n01443537 1 2 3 4\nval_1,n02105855 5 6 n02 9\n", "a list of labels"),
    ("val.txt", "val_1.JPEG 2\nval_2.JPEG 1\n", "a list of labels"),
    ("labels.txt", "n02105855\nn01443537\n", "a list of labels in the order of names"),
    ("truth.txt", "1\n3\n", "a list of labels in the order of names")])
def test_the_classes_of_the_validation_images_are_told_by_a_list(tmp_path, images, layout, name, text,
                                                                origin):
    files = dict(zip(("val_1.JPEG", "val_2.JPEG"), images.values(), strict=False))
    files = {"val.tar": tar(files)} if layout == "tar" else {f"val/{one}": files[one] for one in files}
    place = make_folder(tmp_path / "in", files | {name: text.encode(), "words.txt": WORDS, "meta.mat": KIT})
    found, record = prepared(tmp_path, place, DatasetSpec("imagenet", 16, 3, num_images=2))
    # By numbers these are the places among all three classes, by WordNet ids among the two that there are.
    assert found.labels.tolist() == ([2, 1] if name == "val.txt" else [1, 0])
    assert [record.facts["class_names"][str(label)] for label in found.labels] == [
        "n02105855 Shetland sheepdog", "n01443537 goldfish"]
    assert record.facts["labels_from"] == origin


def test_a_zip_that_was_cropped_before_gives_the_same_bytes_as_the_whole_images(tmp_path, images):
    cropped = {f"00000/img{i:08d}.png": saved(adm(Image.open(io.BytesIO(content)).convert("RGB"), 16), "PNG")
               for i, content in enumerate(images.values())}
    labels = [[name, label] for name, label in zip(cropped, (0, 0, 1, 2, 2), strict=True)]
    listed = {"dataset.json": json.dumps({"labels": labels}).encode()}
    other, _ = prepared(tmp_path, make_zip(tmp_path / "edm2.zip", cropped | listed))
    found, _ = prepared(tmp_path, make_folder(tmp_path / "tree", images))
    for key in ("images", "labels", "ids"):
        np.testing.assert_array_equal(getattr(other, key), getattr(found, key))


FIRST = "n01440764/n01440764_10.JPEG"


@pytest.mark.parametrize(("change", "said"), [
    ({FIRST: b""}, f"{FIRST} is damaged"),
    ({FIRST: saved(picture(0))[:700]}, f"{FIRST} is damaged or cut short. No image is left out"),
    ({"val/x.JPEG": b"x", "train/y.JPEG": b"x"}, "has images of train and val; give one of these"),
    ({"x.JPEG": b"x"}, "x.JPEG lies in no folder that is called as a WordNet id"),
    ({"a.xml": b"x"}, "a.xml is no image, no tar and no list"),
    ({"a.txt": b"? ?\n"}, r"a.txt, line 1: '\? \?' is no label"),
    ({"a.mat": b"x"}, "a.mat: no meta.mat of ImageNet's development kit"),
    ({"a.mat": matlab(other=np.ones(2))}, "a.mat: no meta.mat of ImageNet's development kit"),
    ({"a.txt": b""}, "a.txt: says nothing"),
    ({"a.txt": b"\xff"}, "a.txt: not a text file"),
    ({"a.txt": b"a.JPEG n01440764\nb.JPEG\n"}, "a.txt, line 2: 'b.JPEG' is no label"),
    ({"a.txt": b"a.JPEG n01440764\na.JPEG n02105855\n"}, "a.txt, line 2: a.JPEG has two labels"),
    ({"a.csv": b"n01440764_10.JPEG,n01443537 1\n"}, "lies in the folder n01440764, and a list says"),
    ({"a.txt": WORDS + b"n01440764 cod\n"}, "a.txt, line 4: n01440764 has other words elsewhere: 'tench"),
    ({"a.tar.gz": b"x"}, "has a.tar.gz and n01440764/n01440764_10.JPEG; allowed: one tar"),
    ({"n01440764/a\nb.JPEG": b"x"}, "characters that can't be shown")])
def test_what_cannot_be_meant_is_refused_by_name(tmp_path, images, change, said):
    with pytest.raises(ValueError, match=said):
        prepared(tmp_path, make_folder(tmp_path / "in", images | change), DatasetSpec("imagenet", 16, 3))


@pytest.mark.parametrize(("text", "said"), [
    ({}, "no list says its class: put a list"),
    ({"a.txt": b"val_1 n01440764\n"}, "no list has a label for val_2.JPEG"),
    ({"a.txt": b"n01440764\n"}, "a list has 1 classes for 2 images"),
    ({"a.txt": b"1\n2\n"}, "the class 1 by its number alone.*put that file beside the list"),
    ({"a.txt": b"1\n7\n", "meta.mat": KIT}, "the class 7 by its number alone.*it has no such number"),
    ({"a.txt": b"val_1 n01440764\nval_2 3\n"}, "some classes by WordNet ids and others by numbers"),
    ({"a.txt": b"val_1 1\nval_2 300000\n"}, "a label is 300000")])
def test_labels_that_are_missing_are_refused(tmp_path, images, text, said):
    files = dict(zip(("val_1.JPEG", "val_2.JPEG"), images.values(), strict=False)) | text
    with pytest.raises(ValueError, match=said):
        prepared(tmp_path, make_folder(tmp_path / "in", files), DatasetSpec("imagenet", 16, 3))


def link():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("n01440764/a.JPEG")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(("content", "said"), [
    (b"x" * 2000, "damaged, cut short, or no uncompressed tar"),
    (b"", "damaged, cut short, or no uncompressed tar"),
    (link(), "n01440764/a.JPEG is a link"),
    (tar({"../n01440764/a.JPEG": b"x"}), "is a name outside of the tar"),
    (tar({"n01440764/a.JPEG": b"x", "n01440764/./a.JPEG": b"x"}), "is in it twice"),
    (tar({"n01440764.tar": b"x" * 600}), "n01440764.tar: damaged.*no header and no end at byte 512"),
    (tar({"n01440764/a.JPEG": b"x"})[:1024], "no header and no end at byte 1,024"),
    (tar({"n01440764/a.JPEG": b"x"})[:1024] + b"x" * 9216, "no header and no end at byte 1,024"),
    (tar({"n01440764.tar": tar({"a.JPEG": b"x"})[:1024], "n01443537.tar": tar({})}),
     "n01440764.tar is cut short: it ends within n01443537.tar"),
    (tar({"n01440764/a.JPEG": b"x" * 5000})[:3000], "unexpected end of data")])
def test_tars_that_are_damaged_or_hostile_are_refused(tmp_path, content, said):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        prepared(tmp_path, tmp_path / "a.tar", DatasetSpec("imagenet", 16, 3))


def test_a_tar_that_changes_while_it_is_read_is_refused(tmp_path, images):
    place = make_folder(tmp_path / "in", {"a.tar": tar(nested(images))})
    raw = Raw(place)
    from ambient.data.sources import imagenet

    rows = imagenet.read(SPEC, raw).images(np.arange(5))
    next(rows)
    (place / "a.tar").write_bytes(tar(nested(images))[:-1] + b"x")
    with pytest.raises(ValueError, match="a.tar changed while it was read"):
        raw.close()


def test_settings_that_mean_nothing_here_are_refused():
    for key, value in (("padding", 2), ("labels", "folder")):
        with pytest.raises(SpecError, match=f"{key}: got"):
            DatasetSpec("imagenet", 16, 3, **{key: value})


def test_the_crop_is_adms_to_the_byte():
    path = REFERENCE / "latent/center_crop.npz"
    if not path.exists():
        pytest.skip("no reference vectors here")
    cases = json.loads(path.with_suffix(".json").read_text())["cases"]
    assert len(cases) == 5
    with np.load(path) as arrays:
        for case in cases:
            made = adm(Image.fromarray(arrays[f"{case['name']}.input"]), case["resolution"])
            np.testing.assert_array_equal(np.asarray(made), arrays[f"{case['name']}.output"])
