"""An index survives whatever ends its writer: kill -9, a full disk, another writer; and its figures are evaluate's."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.demo_model.dataset import draw_scenes, write_dataset
from examples.demo_model.scenes import Scene, render
from tests.held_images import held_image
from tests.indexing import AS_ANYBODY, IndexCommand, all_hits, file_limit, run_index, uris, vectors
from tritonclip import Client
from tritonclip.evaluation import evaluate_retrieval, read_captioned
from tritonclip.search import Index, IndexMissingError
from tritonclip_server.embedded.server import Server

SCENES = Path(__file__).parents[2] / "samples" / "scenes"
KILLS = 10
SIDE = 64


@pytest.fixture(scope="module")
def client(demo_server: Server) -> Iterator[Client]:
    with Client(demo_server.grpc_url) as connected:
        yield connected


def draw(folder: Path, scenes: list[Scene], prefix: str = "") -> list[Path]:
    """Scenes as small images."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{prefix}{number:03}.jpg" for number in range(len(scenes))]
    for scene, path in zip(scenes, paths, strict=True):
        Image.fromarray(render(scene, SIDE, SIDE)).save(path)
    return paths


def commits(uri: Path) -> int:
    return sum(1 for _ in uri.glob("images.lance/_versions/*.manifest"))


def kill_after(run: IndexCommand, uri: Path, more: int, seconds: float) -> bool:
    """Let it begin, and kill it so long after so many commits; whether it was still running."""
    before = commits(uri)
    run.begin()
    while commits(uri) < before + more and run.process.poll() is None:
        time.sleep(0.001)
    time.sleep(seconds)
    return run.kill() == -9


def test_killed_at_any_point_nothing_is_lost_and_nothing_is_there_twice(
    demo_server: Server, client: Client, tmp_path: Path
) -> None:
    """The first kills hit the making of the index, the others its commits; new images come before each run."""
    chance = random.Random(16)
    folder, uri = tmp_path / "photos", tmp_path / "index"
    kept: set[str] = set()
    rounds = killed = 0
    run = IndexCommand(demo_server.grpc_url, "add", uri, folder)
    while killed < KILLS:
        draw(folder, draw_scenes(rounds, 48), f"{rounds:02}-")
        (folder / f"{rounds:02}-torn.jpg").write_bytes(b"\xff\xd8\xff and no more")
        following = IndexCommand(demo_server.grpc_url, "add", uri, folder)  # it takes a second to load
        killed += kill_after(run, uri, min(killed // 2, chance.randrange(3)), chance.uniform(0, 0.05))
        run, rounds = following, rounds + 1
        try:
            index = Index.open(uri, client)
        except IndexMissingError:
            assert not kept
            continue
        now = uris(index)
        assert now >= kept
        if now:
            assert index.search("a red circle", top_k=1).hits
        kept = now
    code, said = run.begin().end()
    assert code == 1, said  # 1, for the torn images

    index = Index.open(uri)
    good = sorted(path for path in folder.iterdir() if "torn" not in path.name)
    assert uris(index) == {str(path) for path in good}
    assert {Path(row["uri"]).name for row in index.errors().to_pylist()} == {f"{n:02}-torn.jpg" for n in range(rounds)}
    found = vectors(index, tmp_path / "rows.parquet")
    features = client.embed_images(good).features
    np.testing.assert_allclose([found[str(path)] @ row for path, row in zip(good, features, strict=True)], 1, atol=1e-6)


def test_of_two_writers_the_second_is_told_who_the_first_is(
    demo_server: Server, client: Client, tmp_path: Path
) -> None:
    paths = draw(tmp_path / "photos", draw_scenes(1, 20))
    index = Index.create(tmp_path / "index", client)
    index.add(paths[:5])
    with held_image(paths[0].read_bytes()) as held:
        first = IndexCommand(demo_server.grpc_url, "add", tmp_path / "index", held.url, paths[5]).begin()
        assert held.asked.wait(60)
        said = run_index(demo_server.grpc_url, "add", tmp_path / "index", tmp_path / "photos")
        assert said.startswith("1 ")
        assert f"process {first.process.pid} on " in said
        assert "try again" in said
        assert len(said.splitlines()) == 1
        assert len(all_hits(index)) == 5  # who reads goes on
        held.answer.set()
        assert first.end()[0] == 0
    assert run_index(demo_server.grpc_url, "add", tmp_path / "index", tmp_path / "photos").startswith("0 ")
    index.refresh()
    assert uris(index) == {held.url, *map(str, paths)}


def test_a_full_disk_leaves_the_index_as_it_was(demo_server: Server, client: Client, tmp_path: Path) -> None:
    paths = draw(tmp_path / "photos", draw_scenes(2, 60))
    uri = tmp_path / "index"
    index = Index.create(uri, client)
    index.add(paths[:20])
    before = {hit.uri: hit.score for hit in all_hits(index)}

    said = run_index(demo_server.grpc_url, "add", uri, tmp_path / "photos", prefix=file_limit(8192))
    assert said.startswith("1 tritonclip: ")
    assert "rows cannot be written" in said
    assert f"{os.strerror(27)} (os error 27)" in said  # EFBIG
    assert len(said.splitlines()) == 1
    assert {hit.uri: hit.score for hit in all_hits(Index.open(uri))} == before

    assert run_index(demo_server.grpc_url, "add", uri, tmp_path / "photos").startswith("0 ")
    assert uris(Index.open(uri)) == set(map(str, paths))


def test_no_room_for_a_new_index(demo_server: Server, tmp_path: Path) -> None:
    paths = draw(tmp_path / "photos", draw_scenes(3, 2))
    said = run_index(demo_server.grpc_url, "add", tmp_path / "index", *paths, prefix=file_limit(0))
    assert said.startswith("1 tritonclip: ")
    assert "cannot be written to: " in said
    assert run_index(demo_server.grpc_url, "add", tmp_path / "index", *paths).startswith("0 ")
    assert len(uris(Index.open(tmp_path / "index"))) == 2


def test_no_permission_to_write(demo_server: Server, client: Client, tmp_path: Path) -> None:
    paths = draw(tmp_path / "photos", draw_scenes(4, 2))
    Index.create(tmp_path / "index", client).close()
    for place in ("index", "index/images.lance/_versions"):
        (tmp_path / "index" / "writer.lock").unlink(missing_ok=True)
        (tmp_path / place).chmod(0o555)
        said = run_index(demo_server.grpc_url, "add", tmp_path / "index", *paths, prefix=AS_ANYBODY)
        (tmp_path / place).chmod(0o755)
        assert said.startswith("1 tritonclip: ")
        assert "Permission denied" in said
        assert len(said.splitlines()) == 1
    assert all_hits(Index.open(tmp_path / "index")) == []


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "scenes"
    write_dataset(draw_scenes(5, 240, distinct=True), folder)
    return folder


@pytest.mark.parametrize("which", ["samples", "drawn"])
def test_retrieval_through_the_index_is_what_evaluate_counts(
    client: Client, drawn: Path, tmp_path: Path, which: str
) -> None:
    data = read_captioned((SCENES if which == "samples" else drawn) / "captions.csv")
    evaluated = evaluate_retrieval(client, data)
    with Index.create(tmp_path / "index", client) as index:
        report = index.add(data.paths[0].parent / "captions.csv")
        assert (report.added, report.failed) == (len(data.paths), 0)
        found = index.search_vectors(client.embed_texts(data.captions).features, top_k=10)
    owners = [str(data.paths[image]) for image in data.image_of_caption]
    for k in (1, 5, 10):
        hits = sum(owner in [hit.uri for hit in one.hits[:k]] for owner, one in zip(owners, found, strict=True))
        assert hits == evaluated.recall_text_to_image(k).successes
    assert 0 < evaluated.recall_text_to_image(1).successes < len(owners)
