"""The gateway's page in a real browser, by what a visitor sees of it."""

from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait


class Page:
    """The page, by what a visitor sees of it."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser = browser
        browser.get(url)
        self.wait("#model", lambda element: "px" in element.text)

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.browser.find_elements(By.CSS_SELECTOR, selector)]

    def wait(self, selector: str, condition: object) -> WebElement:
        WebDriverWait(self.browser, 60).until(lambda _: condition(self.find(selector)))  # type: ignore[operator]
        return self.find(selector)

    def choose(self, *paths: Path) -> None:
        self.find("#files").send_keys("\n".join(map(str, paths)))

    def mode(self, name: str) -> None:
        self.find(f"input[value={name}]").click()

    def type(self, selector: str, text: str) -> None:
        self.find(selector).clear()
        self.find(selector).send_keys(text)

    def ask(self) -> None:
        self.find("#run").click()
        self.wait("#answer", lambda answer: answer.get_attribute("aria-busy") == "false")
        self.wait("#message", lambda message: message.text != "Asking…")

    def answers(self) -> list[str]:
        """The first line of each image's answer."""
        return self.texts(".ranked li:first-child .label")
