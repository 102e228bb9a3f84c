"""Data sets as people have them, and what is said of those that cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest

from tritonclip import ConfigError, LabelSet
from tritonclip.evaluation import read_captioned, read_labelled

ANIMALS = LabelSet("animals", 4, ("{}",), ("cow", "dog", "sea lion", "owl"))
REPEATED = LabelSet("things", 4, ("{}",), ("missile", "dog", "missile", "owl"))


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def labels(data: Any) -> dict[str, int]:
    return {image.name: image.label for image in data.images}


def test_folders_called_as_labels(tmp_path: Path) -> None:
    write(tmp_path, "dog/b.JPEG", "dog/deep/a.png", "sea lion/1.webp", "dog/notes.txt", ".cache/x.jpg", "dog/.x.jpg")
    data = read_labelled(tmp_path, ANIMALS)
    assert labels(data) == {"dog/b.JPEG": 1, "dog/deep/a.png": 1, "sea lion/1.webp": 2}
    assert data.images[0].path == tmp_path / "dog/b.JPEG"
    assert data.matching == "folder names"


def test_wordnet_ids_stand_in_the_order_of_the_labels(tmp_path: Path) -> None:
    write(tmp_path, "n02000000/a.jpg", "n01440764/b.jpg", "n01530575/c.jpg", "n03000000/d.jpg")
    data = read_labelled(tmp_path, REPEATED)  # names that repeat do no harm here
    assert labels(data) == {"n01440764/b.jpg": 0, "n01530575/c.jpg": 1, "n02000000/a.jpg": 2, "n03000000/d.jpg": 3}
    assert data.matching == "WordNet ids in sorted order"
    (tmp_path / "n03000000" / "d.jpg").unlink()
    (tmp_path / "n03000000").rmdir()
    with pytest.raises(ConfigError, match="3 WordNet ids for the 4 labels"):
        read_labelled(tmp_path, ANIMALS)


def test_wordnet_ids_that_are_labels_are_names(tmp_path: Path) -> None:
    ids = LabelSet("ids", 2, ("{}",), ("n02000000", "n01440764"))
    assert labels(read_labelled(write(tmp_path, "n01440764/a.jpg"), ids)) == {"n01440764/a.jpg": 1}


def test_a_class_map_says_what_folders_are(tmp_path: Path) -> None:
    data = write(tmp_path / "data", "a/1.jpg", "b/2.jpg")
    names, indices = tmp_path / "names.csv", tmp_path / "indices.csv"
    names.write_text("\ufefffolder,label\na,owl\nb,sea lion\nz,cow\n", encoding="utf-8")
    indices.write_text("folder, index\na, 2\nb, 0\n")
    assert labels(read_labelled(data, ANIMALS, names)) == {"a/1.jpg": 3, "b/2.jpg": 2}
    assert labels(read_labelled(data, REPEATED, indices)) == {"a/1.jpg": 2, "b/2.jpg": 0}


def test_a_csv_of_labels(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text('path,label,note\nx/1.jpg,dog,\n"2,3.jpg",sea lion,wet\n')
    data = read_labelled(file, ANIMALS)
    assert labels(data) == {"x/1.jpg": 1, "2,3.jpg": 2}
    assert data.images[1].path == tmp_path / "2,3.jpg"
    file.write_text("path,index\n1.jpg,2\n2.jpg,0\n")
    assert labels(read_labelled(file, REPEATED)) == {"1.jpg": 2, "2.jpg": 0}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no class folders"),
        (["1.jpg"], "no class folders"),
        (["dog/1.jpg", "2.jpg"], "in no class folder: 2.jpg"),
        (["dog/1.jpg", "wolf/2.jpg", "lynx/3.jpg"], "not in label set 'animals': lynx, wolf"),
        (["dog/1.jpg", "owl/readme.txt"], "without an image: owl"),
        (["dog/1.jpg", "n01440764/2.jpg"], "not in label set 'animals': n01440764"),
        ([f"class{number:02}/1.jpg" for number in range(12)], "class09 and 2 more"),
    ],
)
def test_folders_that_cannot_be_used(files: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_labelled(write(tmp_path, *files), ANIMALS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected a header with path,label or path,index, found nothing"),
        ("file,label\n1.jpg,dog\n", "line 1: expected a header with path,label or path,index, found file,label"),
        ("path,label\n", "has no image"),
        ("path,label\n1.jpg,dog\n2.jpg,wolf\n3.jpg,lynx\n", r"'wolf' \(.*line 3\), 'lynx' \(.*line 4\)"),
        ("path,label\n1.jpg,dog\n2.jpg,dog,black\n", "line 3: 3 columns, the header has 2"),
        ("path,label\n1.jpg,dog\n\n1.jpg,cow\n", "line 4: 1.jpg again; first at .*line 2"),
        ("path,label\n,dog\n", "line 2: no path"),
        ('path,label\n1.jpg,"dog\n', "line 2: "),
        ("path,index\n1.jpg,4\n", "line 2: '4' is no index of label set 'animals': 0 to 3"),
        ("path,index\n1.jpg,-1\n", "line 2: '-1' is no index"),
        ("path,index\n1.jpg,dog\n", "line 2: 'dog' is no index"),
    ],
)
def test_csv_files_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_labelled(file, ANIMALS)
    assert "data.csv" in str(caught.value)


def test_a_name_of_two_labels_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("path,label\n1.jpg,dog\n2.jpg,missile\n")
    with pytest.raises(ConfigError, match=r"more than once .*'missile' \(.*line 3\) \(indices 0 and 2\)"):
        read_labelled(file, REPEATED)
    with pytest.raises(ConfigError, match=r"missile \(indices 0 and 2\).*class map"):
        read_labelled(write(tmp_path / "folders", "missile/1.jpg"), REPEATED)


def test_other_labelled_data_that_cannot_be_used(tmp_path: Path) -> None:
    data = write(tmp_path / "data", "a/1.jpg", "b/1.jpg")
    nameless = LabelSet("old", 4, ("{}",))
    class_map = tmp_path / "map.csv"
    class_map.write_text("folder,label\na,dog\na,owl\n")
    for arguments, message in (
        ((data, nameless), "does not say the names of label set 'old'"),
        ((tmp_path / "none", ANIMALS), "no such file or folder"),
        ((class_map, ANIMALS, class_map), "a class map is for class folders"),
        ((data, ANIMALS, class_map), "line 3: folder 'a' again, with another label"),
        ((data, ANIMALS, tmp_path / "none.csv"), "none.csv: No such file"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_labelled(*arguments)
    class_map.write_text("folder,label\na,dog\n")
    with pytest.raises(ConfigError, match=r"no line for these folders of .*: b$"):
        read_labelled(data, ANIMALS, class_map)
    class_map.write_bytes(b"folder,label\na,\xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_labelled(data, ANIMALS, class_map)


COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}, {"id": 11, "file_name": "lone.jpg"}],
    "annotations": [
        {"image_id": 9, "caption": "A b. "},
        {"image_id": 7, "caption": "An a"},
        {"image_id": 9, "caption": "Another b"},
    ],
}
KARPATHY = {
    "images": [
        {"filename": "t.jpg", "split": "train", "sentences": [{"raw": "no"}]},
        {"filename": "a.jpg", "filepath": "val2014", "split": "test", "sentences": [{"raw": "An a"}, {"raw": "One a"}]},
        {"filename": "b.jpg", "filepath": "val2014", "split": "test", "sentences": [{"raw": "A b"}]},
    ]
}


def save(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("folder", ["", "images/", "val2017/", "images/val2017/"])
def test_cocos_captions(folder: str, tmp_path: Path) -> None:
    save(tmp_path / "annotations" / "captions_val2017.json", COCO)
    write(tmp_path, f"{folder}a.jpg")  # b.jpg is missing: it will be one failed image
    data = read_captioned(tmp_path)
    assert data.names == ("b.jpg", "a.jpg")
    assert data.paths == (tmp_path / f"{folder}b.jpg", tmp_path / f"{folder}a.jpg")
    assert data.captions == ("A b. ", "An a", "Another b")
    assert data.image_of_caption.tolist() == [0, 1, 0]


def test_karpathys_captions(tmp_path: Path) -> None:
    write(tmp_path, "val2014/a.jpg", "flickr30k-images/t.jpg")
    save(tmp_path / "dataset_coco.json", KARPATHY)
    data = read_captioned(tmp_path)
    assert data.names == ("val2014/a.jpg", "val2014/b.jpg")
    assert data.captions == ("An a", "One a", "A b")
    assert data.image_of_caption.tolist() == [0, 0, 1]
    train = read_captioned(tmp_path, tmp_path / "dataset_coco.json", "train")
    assert train.paths == (tmp_path / "flickr30k-images" / "t.jpg",)


def test_a_csv_of_captions(tmp_path: Path) -> None:
    file = tmp_path / "captions.csv"
    file.write_text('path,caption\na.jpg,"one, two"\nb.jpg,B\na.jpg,A\n')
    data = read_captioned(file)
    assert (data.names, data.captions) == (("a.jpg", "b.jpg"), ("one, two", "B", "A"))
    assert data.image_of_caption.tolist() == [0, 1, 0]
    assert data.paths[1] == tmp_path / "b.jpg"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "neither COCO's JSON"),
        ({"images": {}}, "neither COCO's JSON"),
        ({"images": [{"id": 1}], "annotations": []}, r"images\[0\] has no 'file_name'"),
        ({"images": [], "annotations": [{"image_id": 3, "caption": "c"}]}, r"annotations\[0\]: there is no image"),
        ({"images": [], "annotations": [{"image_id": 3}]}, r"annotations\[0\] has no 'caption'"),
        ({"images": [], "annotations": []}, "no captions"),
        (COCO, "no image of .* is in any of"),
        ({"images": [{"filename": "a.jpg"}]}, r"images\[0\] has no 'split'"),
        ({"images": [{"filename": "a.jpg", "split": "test"}]}, r"images\[0\] has no 'sentences'"),
        ({"images": [{"filename": "a.jpg", "split": "val", "sentences": []}]}, "no split 'test'; it has val"),
        ({"images": ["a.jpg"]}, r"images\[0\] has no 'split'"),
    ],
)
def test_json_that_cannot_be_used(document: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_captioned(tmp_path, save(tmp_path / "captions.json", document))


def test_other_captions_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither dataset_\*\.json"):
        read_captioned(tmp_path)
    broken = tmp_path / "dataset_x.json"
    broken.write_text('{"images":\n [,]}')
    with pytest.raises(ConfigError, match=r"dataset_x\.json, line 2: not JSON"):
        read_captioned(tmp_path)
    save(tmp_path / "annotations" / "captions_a.json", COCO)
    with pytest.raises(ConfigError, match=r"several captions files: annotations/captions_a\.json, dataset_x\.json"):
        read_captioned(tmp_path)
    with pytest.raises(ConfigError, match="no splits inside"):
        read_captioned(tmp_path, tmp_path / "annotations" / "captions_a.json", "test")
    file = tmp_path / "captions.csv"
    for text, message in (
        ("path,text\na.jpg,A\n", "line 1: expected a header with path,caption"),
        ("path,caption\na.jpg,A\nb.jpg, \n", "line 3: a path or a caption is missing"),
        ("path,caption\n", "no captions"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_captioned(file)
    with pytest.raises(ConfigError, match="for a folder of images"):
        read_captioned(file, split="test")
    with pytest.raises(ConfigError, match="no such file"):
        read_captioned(tmp_path / "none")
