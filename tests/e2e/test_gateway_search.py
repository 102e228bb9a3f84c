"""Search on the page, in a real browser over a real index: what a visitor does, and what the screen shows."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.e2e.page import Page
from tests.gateway_server import ROOT, GatewayProcess
from tritonclip import Client
from tritonclip.search import Index
from tritonclip_server.embedded.server import Server
from tritonclip_server.gateway.access.keys import KeyFile

SCENES = sorted((ROOT / "samples" / "scenes").glob("*-*-*.jpg"))
SCREENSHOT = ROOT / "build" / "search.png"  # docs/search.png is a copy
PATIENCE = 30.0  # seconds for new rows to be seen; a search looks for them once a second


@pytest.fixture(scope="module")
def index(demo_server: Server, tmp_path_factory: pytest.TempPathFactory, scene_files: list[Path]) -> Path:
    """The sample scenes and a few dozen others."""
    folder = tmp_path_factory.mktemp("indexes") / "scenes"
    with Client(demo_server.grpc_url) as client, Index.create(folder, client) as made:
        assert made.add([*SCENES, *scene_files[:48]]).failed == 0
    return folder


@pytest.fixture(scope="module")
def gateway(demo_server: Server, index: Path) -> Iterator[str]:
    running = GatewayProcess("--url", demo_server.grpc_url, "--index", f"scenes={index}")
    yield running.url
    running.stop()


GUIDE = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
GUIDE_COMMANDS = [line for line in GUIDE.splitlines() if line.startswith("curl ") and "/v1/search" in line]


@pytest.mark.parametrize("command", GUIDE_COMMANDS)
def test_the_guides_commands(gateway: str, command: str) -> None:
    here = command.replace("localhost:8080", gateway.removeprefix("http://")).replace('"photos"', '"scenes"')
    done = subprocess.run(["bash", "-c", here], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout)["object"] == "list"


class SearchPage(Page):
    """The page's search."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        super().__init__(browser, url)
        self.wait("#search", lambda search: search.is_displayed())  # the indexes are listed beside the models
        self.settled()

    def settled(self) -> None:
        self.wait("#found", lambda found: found.get_attribute("aria-busy") == "false")
        self.wait("#search-message", lambda message: message.text != "Searching…")

    def search(self, text: str) -> None:
        self.type("#query", text)
        self.find("#query").send_keys(Keys.ENTER)
        self.settled()

    @property
    def title(self) -> str:
        return self.find("#found-title").text

    def names(self) -> list[str]:
        return self.texts("#grid .name")

    def scores(self) -> list[float]:
        return [float(score) for score in self.texts("#grid .score")]

    def loaded(self) -> list[bool]:
        """Whether each picture on screen is one."""
        script = "return [...document.querySelectorAll('#grid img')].map((image) => image.naturalWidth > 0)"
        self.wait("#grid", lambda _: all(self.browser.execute_script(script)))
        found: list[bool] = self.browser.execute_script(script)
        return found


@pytest.fixture
def page(browser: webdriver.Chrome, gateway: str) -> SearchPage:
    return SearchPage(browser, gateway)


def test_a_first_answer_takes_one_click(page: SearchPage) -> None:
    assert page.title == "Or begin with one of these"
    assert len(page.names()) == 8
    assert page.loaded() == [True] * 8
    name = page.names()[2]
    page.browser.find_elements(By.CSS_SELECTOR, "#grid button")[2].click()
    page.wait("#found-title", lambda title: title.text == f"Like {name}")
    page.settled()
    assert len(page.names()) == 20
    assert name not in page.names()
    assert page.scores() == sorted(page.scores(), reverse=True)


def test_a_sentence_finds_its_scene_with_thumbnails_and_scores(page: SearchPage) -> None:
    page.search("a yellow star")
    assert page.title == "“a yellow star”"
    assert any(name.startswith("yellow-star") for name in page.names()[:4])
    assert page.loaded() == [True] * 20
    assert page.scores() == sorted(page.scores(), reverse=True)
    SCREENSHOT.parent.mkdir(exist_ok=True)
    page.browser.save_screenshot(str(SCREENSHOT))


def test_an_image_of_ones_own_finds_what_is_like_it(page: SearchPage) -> None:
    page.find("#search-file").send_keys(str(SCENES[4]))
    page.wait("#found-title", lambda title: title.text == f"Like {SCENES[4].name}")
    page.settled()
    assert page.names()[0] == SCENES[4].name
    assert page.scores()[0] == pytest.approx(1, abs=0.01)


def test_an_image_that_is_dropped_finds_what_is_like_it(page: SearchPage) -> None:
    drop = """
        const [part, content] = arguments, data = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
        data.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
        part.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    """
    content = base64.b64encode(SCENES[6].read_bytes()).decode()
    page.browser.execute_script(drop, page.find("#search-drop"), content)
    page.wait("#found-title", lambda title: title.text == "Like dropped.jpg")
    page.settled()
    assert page.names()[0] == SCENES[6].name


def test_what_cannot_be_used_is_told_and_the_grid_stays(page: SearchPage, tmp_path: Path) -> None:
    bad = tmp_path / "notes.png"
    bad.write_text("no image")
    before = page.names()
    page.find("#search-file").send_keys(str(bad))
    page.wait("#search-message", lambda message: message.text.startswith("image:"))
    page.settled()
    assert page.find("#search-message").get_attribute("class") == "wrong"
    assert page.names() == before


def test_what_is_typed_is_text_never_markup(page: SearchPage) -> None:
    page.search("<img src=x onerror=alert(1)>")
    assert page.title == "“<img src=x onerror=alert(1)>”"


@pytest.mark.parametrize("by", ["sentence", "image"])
def test_the_command_to_copy_gives_the_answer_on_screen(page: SearchPage, by: str) -> None:
    page.find("#search details summary").click()
    if by == "sentence":
        page.search('it\'s "a blue ring"; $(exit 1)')
    else:
        page.find("#search-file").send_keys(str(SCENES[0]))
        page.wait("#found-title", lambda title: title.text == f"Like {SCENES[0].name}")
        page.settled()
    command = ["bash", "-c", page.find("#search-curl").text]
    done = subprocess.run(command, cwd=SCENES[0].parent, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)["data"]
    assert [Path(result["uri"]).name for result in found] == page.names()
    assert [result["score"] for result in found] == pytest.approx(page.scores(), abs=1e-3)


def test_it_works_by_keyboard_and_every_control_has_a_name(page: SearchPage) -> None:
    page.search("a yellow star")
    for _ in range(4):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        focused = page.browser.switch_to.active_element
        if focused.get_attribute("aria-label"):
            break
    assert focused.accessible_name == f"More like {page.names()[0]}, cosine {page.texts('#grid .score')[0]}"
    name = page.names()[0]
    focused.send_keys(Keys.ENTER)
    page.wait("#found-title", lambda title: title.text == f"Like {name}")
    page.settled()
    assert page.browser.switch_to.active_element == page.find("#grid button")
    for control in page.browser.find_elements(By.CSS_SELECTOR, "#search input, #search select, #search button"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    assert page.find("#found").get_attribute("aria-live") == "polite"
    assert page.find("#grid").accessible_name == page.title


def test_it_fits_a_phone(page: SearchPage) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        page.search("a yellow star")
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_is_complained_about(page: SearchPage) -> None:
    page.search("a yellow star")
    complaints = [entry for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]
    assert [entry for entry in complaints if "/v1/search" not in entry["message"]] == []


def test_new_rows_are_found_without_a_restart(
    page: SearchPage, gateway: str, demo_server: Server, index: Path, scene_files: list[Path]
) -> None:
    new = scene_files[-1]
    with Client(demo_server.grpc_url) as client, Index.open(index, client) as other:
        assert other.add(new).added == 1
    deadline = time.monotonic() + PATIENCE
    with new.open("rb") as file:
        content = file.read()
    while True:
        answer = httpx.post(f"{gateway}/v1/search", files={"image": content}, data={"top_k": "1"}, timeout=60).json()
        if answer["data"][0]["uri"] == str(new):
            break
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    page.find("#search-file").send_keys(str(new))
    page.wait("#found-title", lambda title: title.text == f"Like {new.name}")
    page.settled()
    assert page.names()[0] == new.name


def test_with_a_key_thumbnails_are_shown_too(
    browser: webdriver.Chrome, demo_server: Server, index: Path, tmp_path: Path
) -> None:
    _, key = KeyFile(tmp_path / "keys.json").create("alice")
    running = GatewayProcess(
        "--url", demo_server.grpc_url, "--index", f"scenes={index}", "--keys", str(tmp_path / "keys.json")
    )
    try:
        browser.get(running.url)
        page = Page.__new__(SearchPage)
        page.browser = browser
        page.wait("#model", lambda element: "No model" in element.text)
        assert not page.find("#search").is_displayed()
        page.find("#ask details summary").click()
        page.find("#key").send_keys(key, Keys.TAB)
        page.wait("#search", lambda search: search.is_displayed())
        page.settled()
        assert page.loaded() == [True] * 8
    finally:
        running.stop()


def test_where_no_index_is_served_nothing_of_it_is_seen(browser: webdriver.Chrome, demo_server: Server) -> None:
    running = GatewayProcess("--url", demo_server.grpc_url)
    try:
        page = Page(browser, running.url)
        assert not page.find("#search").is_displayed()
    finally:
        running.stop()
