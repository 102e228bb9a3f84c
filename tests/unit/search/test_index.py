"""An index through its Python interface: what gets in, what is found, what is refused."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.search.conftest import WIDTH
from tritonclip import AsyncClient, Client, ClosedError, ConfigError, ConnectError, InputError, _defaults
from tritonclip.search import AsyncIndex, Index, IndexMismatchError, IndexMissingError, StorageError, Weights, mix
from tritonclip.search import _searcher as searcher
from tritonclip.testing import FakeServer


def names(found: Any) -> list[str]:
    return [Path(hit.uri).stem for hit in found]


def test_what_is_looked_for_comes_first(index: Index) -> None:
    found = index.search("cat", top_k=2)
    assert names(found)[0] == "cat"
    assert found[0].score == pytest.approx(1.0, abs=1e-6)
    assert found[1].score < 0.99
    assert found.exact
    assert (len(found), found.rows) == (2, 4)


def test_vectors_are_the_servers_own(index: Index, client: Client, photos: Path) -> None:
    (row,) = client.embed_images(photos / "cow.jpg").features
    for found in (index.search(vector=3 * row), index.search_vectors([row])[0], index.search(image=photos / "cow.jpg")):
        assert names(found)[0] == "cow"
        assert found[0].score == pytest.approx(1.0, abs=1e-6)


def test_a_mixed_query_is_what_mix_says(index: Index, client: Client) -> None:
    cat, dog, cow = client.embed_texts(["cat", "dog", "cow"]).features
    weights = Weights(text=0.3, image=0.9, minus=0.4)
    found = index.search("cat", image=b"dog", minus=["cow"], weights=weights, top_k=4)
    expected = 0.3 * cat + 0.9 * dog - 0.4 * cow
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(mix(weights, cat, dog, [cow]), expected, atol=1e-6)
    by_name = {"cat": cat @ expected, "dog": dog @ expected, "cow": cow @ expected}
    scores = {Path(hit.uri).stem: hit.score for hit in found}
    assert scores["dog"] == pytest.approx(by_name["dog"], abs=1e-5)
    assert names(found)[0] == "dog"
    assert names(found)[-1] == "cow"


def test_parts_that_cancel_each_other_out_are_no_query(index: Index) -> None:
    with pytest.raises(InputError, match="cancel each other"):
        index.search("cat", minus="cat", weights=Weights(minus=1.0))
    with pytest.raises(ConfigError, match="needs a text"):
        index.search()


def test_a_filter_leaves_the_rest_out(index: Index, photos: Path) -> None:
    assert names(index.search("cat", where="uri LIKE '%pets%'", top_k=9)) == ["cat", "dog"]
    assert names(index.search("cat", where="width > 10")) == []
    both = index.search_vectors(np.eye(WIDTH)[:3], where="uri LIKE '%owl%'")
    assert [names(found) for found in both] == [["owl"]] * 3


@pytest.mark.parametrize(
    "where",
    [
        "",
        "breadth > 3",
        "width >",
        "width",
        "1 = 1; DROP TABLE images",
        "bytes > 0 LIMIT 1",
        "bytes > 0 and so on",
        "EXISTS (SELECT 1)",
        "repeat/**/(uri, 1000000) = uri",
        "bytes > 0 -- or not",
        "repeat(uri, 1000000) = uri",
        "lpad (uri, 1000000) = uri",
        "x" * 5000,
    ],
)
def test_a_filter_that_is_none_is_named(index: Index, where: str) -> None:
    with pytest.raises(InputError) as caught:
        index.search("cat", where=where)
    assert caught.value.noun == "filter"
    assert names(index.search("cat", top_k=1)) == ["cat"]


@pytest.mark.parametrize(
    "where",
    [
        "uri LIKE '%pets%'",
        "contains(uri, 'pets') AND (bytes > 2 OR caption IS NOT NULL)",
        "regexp_like(lower(uri), 'PETS|/pets/') AND NOT (uri LIKE '%repeat(%')",
        "URI ILIKE '%PETS%' AND mtime > timestamp '2020-01-01'",
    ],
)
def test_conditions_that_people_write(index: Index, where: str) -> None:
    assert names(index.search("cat", where=where, top_k=9)) == ["cat", "dog"]


@pytest.mark.parametrize("vector", [[1.0] * (WIDTH - 1), [0.0] * WIDTH, [float("nan")] * WIDTH, "cat", [[1.0] * WIDTH]])
def test_a_vector_that_is_none_is_refused(index: Index, vector: Any) -> None:
    with pytest.raises(InputError) as caught:
        index.search(vector=vector)
    assert caught.value.noun == "vector"


@pytest.mark.parametrize("top_k", [0, -1, 10_001, 2.5])
def test_a_number_of_hits_that_makes_no_sense(index: Index, top_k: Any) -> None:
    with pytest.raises(InputError, match="must be from 1 to 10000"):
        index.search("cat", top_k=top_k)


def test_more_like_one(index: Index) -> None:
    (cat,) = index.search("cat", top_k=1)
    others = index.like(cat.id, top_k=2)
    assert len(others) == 2
    assert cat.id not in {hit.id for hit in others}
    assert len(index.like(cat.id, top_k=searcher.TOP_K_MOST)) == 3


@pytest.mark.parametrize("id_", ["", "../../etc/passwd", "0" * 20, "' OR 1=1 --", "A" * 20])
def test_an_id_that_is_none(index: Index, id_: str) -> None:
    for ask in (index.like, index.thumbnail):
        with pytest.raises(InputError) as caught:
            ask(id_)
        assert caught.value.noun == "id"


def test_a_bad_image_stops_nothing_and_is_named_until_it_is_mended(index: Index, photos: Path) -> None:
    (error,) = index.errors().to_pylist()
    assert error["uri"] == str(photos / "broken.jpg")
    assert "cannot identify" in error["reason"]
    (photos / "broken.jpg").write_text("mended")
    report = index.add(photos)
    assert (report.added, report.failed, report.unchanged) == (1, 0, 4)
    assert index.errors().num_rows == 0
    assert names(index.search("mended", top_k=1)) == ["broken"]


def test_a_changed_file_takes_its_rows_place(index: Index, photos: Path) -> None:
    (photos / "cow.jpg").write_text("a goat")
    report = index.add([photos, photos / "cow.jpg"])
    assert (report.added, report.changed) == (0, 1)
    assert names(index.search("a goat", top_k=1)) == ["cow"]
    assert index.search("a goat", top_k=1)[0].score == pytest.approx(1.0, abs=1e-6)
    assert index.info().rows == 4


def test_prune_drops_what_is_gone_from_what_was_named_alone(index: Index, photos: Path) -> None:
    (photos / "pets" / "cat.jpg").unlink()
    (photos / "cow.jpg").unlink()
    assert index.add(photos / "pets", prune=True).pruned == 1
    assert index.info().rows == 3
    assert index.add(photos, prune=True).pruned == 1


def test_what_others_add_is_seen(index: Index, client: Client, photos: Path, uri: str) -> None:
    (photos / "new.jpg").write_text("newcomer")
    with Index.open(uri, client) as other:
        assert names(other.search("cat", top_k=1)) == ["cat"]
        index.add(photos)
        assert names(index.search("newcomer", top_k=1)) == ["new"]
        assert other.refresh()
        assert names(other.search("newcomer", top_k=1)) == ["new"]
        assert not other.refresh()


def test_searches_look_for_new_rows_by_themselves(
    index: Index, client: Client, photos: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher, "LOOK_SECONDS", 0.0)
    with Index.open(uri, client) as other:
        other.search("cat")
        (photos / "cow.jpg").write_text("a goat")
        (photos / "owl.jpg").unlink()
        index.add(photos, prune=True)
        found = other.search("a goat", top_k=9)
        assert names(found)[0] == "cow"
        assert found[0].score == pytest.approx(1.0, abs=1e-6)
        assert sorted(names(found)) == ["cat", "cow", "dog"]


def test_an_index_says_what_it_is(index: Index, uri: str) -> None:
    info = index.info()
    assert (info.uri, info.rows, info.width, info.errors) == (uri, 4, WIDTH, 1)
    assert (info.variant, info.fingerprint, info.precision) == ("fake", "fa4e0000", "float32")
    assert (info.ann, info.unindexed_rows) == (None, 0)
    assert info.bytes > 0


def test_another_encoders_vectors_are_refused(index: Index, uri: str, photos: Path) -> None:
    other = FakeServer(width=WIDTH, manifest={"variant": "other", "fingerprint": "0ther000"})
    with Client(transport=other.transport()) as client, Index.open(uri, client) as opened:
        for ask in (lambda: opened.search("cat"), lambda: opened.add(photos)):
            with pytest.raises(IndexMismatchError, match=r"fake \(fa4e0000\).*other \(0ther000\)"):
                ask()


def test_a_place_without_an_index(tmp_path: Path, client: Client, index: Index, uri: str) -> None:
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(IndexMissingError, match="no index"):
            Index.open(place)
    with pytest.raises(ConfigError, match="an index already"):
        Index.create(uri, client)


def test_without_a_client_vectors_alone_are_looked_for(index: Index, uri: str) -> None:
    with Index.open(uri) as alone:
        assert len(alone.search(vector=[1.0] * WIDTH)) == 4
        with pytest.raises(ConfigError, match="without a client"):
            alone.search("cat")


def test_a_closed_index(index: Index) -> None:
    index.close()
    for ask in (index.info, lambda: index.search(vector=[1.0] * WIDTH), index.refresh):
        with pytest.raises(ClosedError):
            ask()


def test_a_server_that_goes_ends_the_run_and_keeps_what_was_done(
    client: Client, fake: FakeServer, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_defaults, "BACKOFF_FIRST", 1e12)  # no timeout leaves time for another attempt
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number:03}.jpg").write_text(f"image {number}")

    def leave(_call: object) -> None:
        if len(fake.requests("embed_image")) > _defaults.CONCURRENCY:  # so one was answered before, and taken in
            raise ConnectError("fake", "gone")

    with Index.create(uri, client) as index:
        fake.before = leave
        with pytest.raises(ConnectError):
            index.add(folder)
        fake.before = None
        kept = index.info().rows
        assert 0 < kept < 200
        report = index.add(folder)
        assert (report.added, report.unchanged) == (200 - kept, kept)
        assert index.info().rows == 200


def test_the_same_with_asyncio(fake: FakeServer, photos: Path, uri: str, tmp_path: Path) -> None:
    async def use() -> None:
        async with (
            AsyncClient(transport=fake.async_transport()) as client,
            await AsyncIndex.open_or_create(uri, client) as index,
        ):
            report = await index.add(photos)
            assert (report.added, report.failed) == (4, 1)
            found = await asyncio.gather(*(index.search(word, top_k=1) for word in ("cat", "dog", "cow", "owl")))
            assert [names(each) for each in found] == [["cat"], ["dog"], ["cow"], ["owl"]]
            (cat,) = await index.search("cat", top_k=1)
            assert len(await index.like(cat.id)) == 3
            assert await index.thumbnail(cat.id) is None
            assert len(await index.sample(2)) == 2
            assert len((await index.search_vectors(np.eye(WIDTH)[:2]))[1]) == 4
            assert await index.near_duplicates(0.999) == []
            assert (await index.info()).rows == 4
            assert (await index.errors()).num_rows == 1
            assert await index.export_parquet(tmp_path / "a.parquet") == 4
            assert await index.export_npy(tmp_path / "a.npy") == 4
            await index.compact()
            assert await index.refresh() is False
            assert await index.remove(photos / "cow.jpg") == 1
        async with await AsyncIndex.open(uri) as again:
            assert (await again.info()).rows == 3

    asyncio.run(use())


def test_samples_and_thumbnails_need_not_have_all_rows_in_memory(
    index: Index, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        Image.new("RGB", (40, 20), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    index.add([tmp_path / f"{number}.png" for number in range(3)])
    with monkeypatch.context() as without, Index.open(uri) as opened:
        without.setattr(searcher, "load", None)
        samples = opened.sample(7)
        assert len({hit.id for hit in samples}) == 7
        thumbnails = [opened.thumbnail(hit.id) for hit in samples]
    assert len({thumbnail for thumbnail in thumbnails if thumbnail is not None}) == 3
    index.search("cat")  # from here on its ids are in memory
    assert [index.thumbnail(hit.id) for hit in samples] == thumbnails
    assert index.sample(7) == samples
    with pytest.raises(InputError, match="no row"):
        index.thumbnail("0" * 20)


def test_an_index_that_was_made_anew_for_another_model_is_not_mistaken(
    client: Client, fake: FakeServer, index: Index, photos: Path, uri: str
) -> None:
    shutil.rmtree(uri)
    fake.manifest["fingerprint"] = "0the7"
    with Client(transport=fake.transport()) as other, Index.create(uri, other) as made:
        for name in ("cow", "owl"):  # a commit each, so that there are more than before
            made.add(photos / f"{name}.jpg")
    with pytest.raises(IndexMismatchError, match="open it again"):
        index.refresh()
    with pytest.raises(IndexMismatchError):
        index.info()


def test_a_store_that_fails_is_no_fault_of_the_filter(index: Index, uri: str) -> None:
    shutil.rmtree(Path(uri) / "images.lance" / "data")
    with pytest.raises(StorageError, match="cannot be read"):
        index.search(vector=[1.0] * WIDTH, where="bytes > 3")
    with pytest.raises(StorageError, match="cannot be read"):
        index.remove(where="bytes > 3")


def test_a_filter_that_fails_at_a_row_is_named(index: Index) -> None:
    with pytest.raises(InputError) as caught:
        index.search("cat", where="cast(uri AS int) > 3")
    assert caught.value.noun == "filter"
