"""The page in a real browser, on the trained demonstration model: what a visitor does, and what the screen shows."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.e2e.page import Page
from tests.gateway_server import ROOT, GatewayProcess
from tritonclip_server.embedded.server import Server

SCENES = sorted((ROOT / "samples" / "scenes").glob("*-*-*.jpg"))
SCREENSHOT = ROOT / "build" / "playground.png"  # docs/playground.png is a copy


@pytest.fixture(scope="module")
def gateway(demo_server: Server) -> Iterator[str]:
    running = GatewayProcess("--url", demo_server.grpc_url)
    yield running.url
    running.stop()


@pytest.fixture
def page(browser: webdriver.Chrome, gateway: str) -> Page:
    return Page(browser, gateway)


def said_of(path: Path) -> str:
    colour, shape, _ = path.stem.split("-")
    return f"a {colour} {shape}"


def scene(name: str) -> Path:
    return next(path for path in SCENES if path.name.startswith(name))


def test_the_right_label_wins_on_screen(page: Page) -> None:
    chosen = [scene("yellow-star"), scene("blue-ring"), scene("red-square")]
    page.choose(*chosen)
    page.type("#labels", "\n".join(sorted({said_of(path) for path in SCENES})))
    page.ask()
    assert page.answers() == [said_of(path) for path in chosen]
    scores = page.texts(".ranked:first-child .score")
    assert scores[0].endswith("%")
    assert sum(float(score.removesuffix(" %")) for score in scores) == pytest.approx(100, abs=1)
    bars = page.browser.find_elements(By.CSS_SELECTOR, ".ranked:first-child meter")
    assert float(bars[0].get_attribute("value") or 0) > float(bars[1].get_attribute("value") or 1)
    page.browser.execute_script(
        "document.querySelector('#labels').value = 'a yellow star\\na blue ring\\na red square'"
    )
    page.ask()
    SCREENSHOT.parent.mkdir(exist_ok=True)
    page.browser.save_screenshot(str(SCREENSHOT))


def test_images_are_ranked_for_a_sentence(page: Page) -> None:
    page.choose(scene("blue-ring"), scene("yellow-star"), scene("red-square"))
    page.mode("sentence")
    page.type("#sentence", "a yellow star")
    page.ask()
    assert page.answers()[0].startswith("yellow-star")
    values = [float(score) for score in page.texts(".ranked .score")]
    assert values == sorted(values, reverse=True)


def test_a_stored_label_set(page: Page) -> None:
    chosen = [scene("yellow-star"), scene("blue-ring")]
    page.mode("set")
    page.choose(*chosen)
    page.ask()
    assert page.texts("#label-set option")[0].startswith("scenes (")
    assert [answer.removeprefix("a ") for answer in page.answers()] == [
        said_of(path).removeprefix("a ") for path in chosen
    ]
    assert len(page.texts(".ranked:first-child .label")) == 5


def test_one_label_has_a_cosine_and_no_percentage(page: Page) -> None:
    page.choose(scene("yellow-star"))
    page.type("#labels", "a yellow star, or a ring")
    page.ask()
    assert page.answers() == ["a yellow star, or a ring"]  # the comma is the label's
    assert page.texts(".ranked .score") == ["—"]
    cosine = float(page.texts(".ranked .cosine")[0].removeprefix("cosine "))
    assert 0 < cosine < 1
    bar = page.find(".ranked meter")
    assert float(bar.get_attribute("value") or 0) == pytest.approx(cosine, abs=1e-3)
    assert "relative to the other labels" in page.find(".note").text


def test_the_least_cosine_leaves_out_what_does_not_fit(page: Page) -> None:
    page.choose(scene("yellow-star"))
    page.type("#labels", "a yellow star\na red square\na blue ring")
    page.ask()
    cosines = [float(text.removeprefix("cosine ")) for text in page.texts(".ranked .cosine")]
    assert cosines == sorted(cosines, reverse=True)
    page.type("#min-cosine", str(round((cosines[0] + cosines[1]) / 2, 4)))
    page.ask()
    assert page.texts(".ranked .label") == ["a yellow star"]
    page.type("#min-cosine", "0.99")
    page.ask()
    assert page.texts(".ranked .label") == []
    assert "None of these" in page.find(".ranked").text
    page.mode("set")
    page.ask()
    assert page.texts(".ranked .label") == []


def test_equal_labels_are_told(page: Page) -> None:
    page.choose(scene("yellow-star"))
    page.type("#labels", "A star\na ring\na  star")
    page.ask()
    assert "labels[2]: the same as labels[0]" in page.find("#message.wrong").text


def test_a_label_that_is_cut_is_told(page: Page) -> None:
    page.choose(scene("yellow-star"))
    page.type("#labels", "a star\n" + "word " * 90)
    page.ask()
    assert "1 text is longer than the model reads" in page.find("#message").text


def test_a_file_that_is_no_image_is_named_beside_the_others(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "notes.png"
    bad.write_text("no image")
    page.choose(scene("blue-ring"), bad)
    page.ask()
    assert "1 of 2" in page.find("#message").text
    assert len(page.answers()) == 1
    assert page.texts(".ranked .wrong")


def test_what_is_typed_is_text_never_markup(page: Page) -> None:
    page.choose(scene("blue-ring"))
    page.type("#labels", "<img src=x onerror=alert(1)>\nb")
    page.ask()
    assert "<img src=x onerror=alert(1)>" in page.texts(".ranked .label")


@pytest.mark.parametrize("mode", ["labels", "sentence"])
def test_the_commands_to_copy_give_the_answer_on_screen(page: Page, mode: str) -> None:
    page.choose(scene("yellow-star"))
    page.mode(mode)
    if mode == "labels":
        page.type("#labels", 'a blue ring\nit\'s "a yellow star"\n@odd; $(exit 1)')
    page.ask()
    folder = ROOT / "samples" / "scenes"
    for command in (["bash", "-c", page.find("#curl").text], [sys.executable, "-c", page.find("#python").text]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout) if command[0] == "bash" else ast.literal_eval(done.stdout)
        if mode == "labels":
            labels = answer["data"][0]["labels"]
            assert [label["label"] for label in labels] == page.texts(".ranked .label")
        else:
            assert float(page.texts(".ranked .score")[0]) == pytest.approx(answer["cosine"][0][0], abs=1e-3)


def test_it_works_by_keyboard_alone(page: Page) -> None:
    page.choose(scene("yellow-star"))
    page.find("#labels").send_keys(Keys.TAB)
    reached = []
    for _ in range(6):
        focused = page.browser.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.tag_name)
        if reached[-1] == "run":
            focused.send_keys(Keys.ENTER)
            break
        focused.send_keys(Keys.TAB)
    assert reached[-1] == "run"
    page.wait(".ranked .label", lambda label: label.text)


def test_every_control_has_a_name(page: Page) -> None:
    page.choose(scene("yellow-star"))
    for mode in ("labels", "sentence", "set"):
        page.mode(mode)
        for control in page.browser.find_elements(By.CSS_SELECTOR, "input, textarea, select, button"):
            if control.is_displayed():
                assert control.accessible_name, control.get_attribute("outerHTML")
    for image in page.browser.find_elements(By.CSS_SELECTOR, "img"):
        assert image.get_attribute("alt")
    assert page.find("#answer").get_attribute("aria-live") == "polite"


def test_it_fits_a_phone_and_knows_the_dark(page: Page) -> None:
    page.choose(*SCENES[:4])
    background = page.find("body").value_of_css_property("background-color")
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        page.ask()
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 360
        assert page.find("body").value_of_css_property("background-color") != background
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_nothing_comes_from_elsewhere_and_nothing_is_complained_about(page: Page, gateway: str) -> None:
    names = page.browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert names
    assert all(name.startswith((gateway, "blob:", "data:")) for name in names)
    complaints = [entry for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]
    assert [entry for entry in complaints if "/v1/" not in entry["message"]] == []


@pytest.fixture(scope="module")
def two_models(demo_server: Server) -> Iterator[str]:
    """A gateway with two names for one server, which is as good as two servers for the page."""
    running = GatewayProcess("--url", f"first={demo_server.grpc_url}", "--url", f"second={demo_server.grpc_url}")
    yield running.url
    running.stop()


def test_a_model_is_chosen_where_there_are_several(browser: webdriver.Chrome, gateway: str, two_models: str) -> None:
    assert not Page(browser, gateway).find("#choose-model").is_displayed()
    page = Page(browser, two_models)
    assert page.find("#model").text.startswith("first, ")
    assert page.texts("#served option") == ["first", "second"]
    page.find("#served option[value=second]").click()
    page.wait("#model", lambda element: element.text.startswith("second, "))
    page.choose(scene("yellow-star"))
    page.ask()
    assert page.answers()
    assert "model=second" in page.find("#curl").text
    assert '"model": ["second"]' in page.find("#python").text.replace('"model":[', '"model": [')
    metrics = httpx.get(f"{two_models}/metrics", timeout=60).text
    assert 'requests_total{endpoint="/v1/classify",model="second",status="200"} 1.0' in metrics
