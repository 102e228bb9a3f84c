"""The first answer a newcomer sees: a sample image and some sentences through the running server."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tritonclip import Client, TritonClipError
from tritonclip.protocol import parse_url
from tritonclip_server.embedded.errors import ServeError
from tritonclip_server.resources import SAMPLES


@dataclass(frozen=True)
class Greeting:
    """An image of samples/ with sentences to compare it with, and what to suggest afterwards.

    A suggestion is a subcommand with its options, and the sample that stands for `{}` in it. `search` is a sentence.
    """

    image: str
    sentences: tuple[str, ...]
    hints: tuple[tuple[str, str], ...]
    search: str


SCENES = Greeting(
    "scenes/red-triangle-15.jpg",
    ("a red triangle", "a red square", "a blue triangle"),
    (
        ("classify {} --label-set scenes --top-k 1", "scenes/*.jpg"),
        ('rank {} "a blue star" "a blue heart" "a yellow star"', "scenes/blue-star-04.jpg"),
        ("classify {} --labels red,orange,yellow,green,cyan,blue,purple,pink --top-k 1", "scenes/*.jpg"),
    ),
    "a red triangle",
)
PHOTOS = Greeting(
    "photos/cat.jpg",
    ("a photo of a cat", "a cup of coffee on a table", "a rocket on its launch pad"),
    (
        ('rank {} "a cup of coffee" "a cat" "an astronaut"', "photos/coffee.jpg"),
        ("classify {} --labels cat,coffee,rocket,astronaut", "photos/*.jpg"),
    ),
    "a cup of coffee",
)


def greet(
    url: str,
    variant: str,
    gateway_url: str | None,
    index: Path | None,
    show: Callable[[str], object],
    models: Mapping[str, str],
) -> None:
    """Show the scores of the sample image, and what to try next; ServeError where the server fails at it.

    `index` is the samples' own, where there is one; `models` are all that are served, with their URLs.
    """
    greeting = SCENES if variant == "demo" else PHOTOS  # the demo model knows drawn scenes alone
    image = SAMPLES / greeting.image
    try:
        with Client(url) as client:
            scores = client.compare(image, greeting.sentences)
    except TritonClipError as error:
        raise ServeError(f"the sample request failed: {error}") from error
    show(f"\n{image.name} against three sentences:\n\n  cosine   logit  probability ({scores.activation})")
    for number, sentence in enumerate(greeting.sentences):
        cosine, logit, probability = (
            float(values[0, number]) for values in (scores.cosine, scores.logits, scores.probabilities)
        )
        show(f"  {cosine:6.3f}  {logit:6.2f}  {probability:11.3f}  {sentence}")
    hints = "\n".join(f"  {hint}" for hint in suggestions(greeting, gateway_url, index, parse_url(url).model))
    if len(models) > 1:
        rows = "".join(f"\n  {name}  {where}" for name, where in models.items())
        hints += f"\n\nThe models, of which the first answers where a request names none:\n{rows}"
    if gateway_url is not None:
        hints += f"\n\nThe page to play with: {gateway_url}"
    show(f"\nTry next, in another terminal:\n\n{hints}\n\nCtrl-C stops the server.\n")


def suggestions(greeting: Greeting, gateway_url: str | None, index: Path | None, model: str | None = None) -> list[str]:
    """Commands to type in the present folder, wherever this package lies; they ask for the model of this name."""
    command = own_command() if model is None else f"{own_command()} --model {model}"
    lines = [f"{command} {hint.format(shlex.quote(_here(SAMPLES / sample)))}" for hint, sample in greeting.hints]
    if index is not None:
        lines.append(f'{command} search {shlex.quote(str(index))} "{greeting.search}" --top-k 3')
    lines.append(f"{command} status")
    if gateway_url is not None:
        image = shlex.quote(f"image=@{_here(SAMPLES / greeting.image)}")
        texts = " ".join(f'-F text="{sentence}"' for sentence in greeting.sentences)
        lines.append(f"curl -s {gateway_url}/v1/similarity -F {image} {texts}")
    return lines


def own_command() -> str:
    """The client's command as it is called here: by its name where the shell finds it so, else by its path."""
    command = Path(sys.executable).with_name("tritonclip")
    found = shutil.which("tritonclip")
    if not command.exists() or (found is not None and os.path.samefile(found, command)):
        return "tritonclip"
    return shlex.quote(_here(command))


def _here(path: Path) -> str:
    """A path as it is written in the present folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
