"""The first answer a newcomer sees: a sample image and some sentences through the running server."""

from collections.abc import Callable
from dataclasses import dataclass

from tritonclip import Client, TritonClipError
from tritonclip_server.embedded.errors import ServeError
from tritonclip_server.resources import SAMPLES


@dataclass(frozen=True)
class Greeting:
    """An image of samples/ with sentences to compare it with, and the commands to suggest afterwards."""

    image: str
    sentences: tuple[str, ...]
    hints: tuple[str, ...]


SCENES = Greeting(
    "scenes/red-triangle-15.jpg",
    ("a red triangle", "a red square", "a blue triangle"),
    (
        "classify 'samples/scenes/*.jpg' --label-set scenes --top-k 1    # look: samples/scenes/contact-sheet.png",
        'rank samples/scenes/blue-star-04.jpg "a blue star" "a blue heart" "a yellow star"',
        "classify 'samples/scenes/*.jpg' --labels red,orange,yellow,green,cyan,blue,purple,pink --top-k 1",
        "status",
    ),
)
PHOTOS = Greeting(
    "photos/cat.jpg",
    ("a photo of a cat", "a cup of coffee on a table", "a rocket on its launch pad"),
    (
        'rank samples/photos/coffee.jpg "a cup of coffee" "a cat" "an astronaut"',
        "classify 'samples/photos/*.jpg' --labels cat,coffee,rocket,astronaut",
        "status",
    ),
)


def greet(url: str, variant: str, gateway_url: str | None, show: Callable[[str], object]) -> None:
    """Show the scores of the sample image, and what to try next; ServeError where the server fails at it."""
    greeting = SCENES if variant == "demo" else PHOTOS  # the demo model knows drawn scenes alone
    image = SAMPLES / greeting.image
    try:
        with Client(url) as client:
            scores = client.compare(image, greeting.sentences)
    except TritonClipError as error:
        raise ServeError(f"the sample request failed: {error}") from error
    show(f"\n{image.name} against three sentences:\n\n  cosine   logit  probability")
    for index, sentence in enumerate(greeting.sentences):
        cosine, logit, probability = (
            float(values[0, index]) for values in (scores.cosine, scores.logits, scores.probabilities)
        )
        show(f"  {cosine:6.3f}  {logit:6.2f}  {probability:11.3f}  {sentence}")
    hints = "\n".join(f"  .venv/bin/tritonclip {hint}" for hint in greeting.hints)
    if gateway_url is not None:
        texts = " ".join(f'-F text="{sentence}"' for sentence in greeting.sentences)
        hints += f"\n  curl -s {gateway_url}/v1/similarity -F image=@samples/{greeting.image} {texts}"
        hints += f"\n\nThe page to play with: {gateway_url}"
    show(f"\nTry next, in another terminal:\n\n{hints}\n\nCtrl-C stops the server.\n")
