"""Results of a search as one HTML page that needs nothing beside it."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
ol { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); padding: 0 }
li { list-style: none; overflow: hidden }
img, .none { display: grid; width: 100%; height: 9rem; object-fit: contain; background: #8882; place-items: center }
figure { margin: 0 } figcaption { font-size: .8rem; overflow-wrap: anywhere }
"""


@dataclass(frozen=True)
class Shown:
    """A hit with its thumbnail, where it has one."""

    hit: Any
    thumbnail: bytes | None


def to_page(title: str, groups: Sequence[Sequence[Shown]]) -> str:
    """A grid of thumbnails with scores, one for each group; links lead to the images themselves."""
    grids = "\n".join(_grid(group) for group in groups) or "<p>Nothing was found.</p>"
    name = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{name}</title>\n<style>{_STYLE}</style>\n'
        f"<h1>{name}</h1>\n{grids}\n</html>\n"
    )


def _grid(group: Sequence[Shown]) -> str:
    return "<ol>\n" + "\n".join(_cell(shown) for shown in group) + "\n</ol>"


def _cell(shown: Shown) -> str:
    uri = shown.hit.uri
    name = html.escape(uri.rpartition("/")[2] or uri)
    caption = html.escape(str(shown.hit.metadata.get("caption") or ""))
    image = '<span class="none">no thumbnail</span>'
    if shown.thumbnail is not None:
        data = base64.b64encode(shown.thumbnail).decode()
        image = f'<img alt="{caption or name}" src="data:image/jpeg;base64,{data}">'
    if "#" not in uri:  # else it lies inside another file
        address = uri if "://" in uri else f"file://{uri}"
        image = f'<a href="{html.escape(address)}">{image}</a>'
    words = f"{shown.hit.score:.3f} {name}" + (f"<br>{caption}" if caption else "")
    return f'<li><figure>{image}<figcaption title="{html.escape(uri)}">{words}</figcaption></figure></li>'
