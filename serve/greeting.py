"""The first answer a newcomer sees: a photograph and three sentences through the running server."""

from pathlib import Path

from serve.errors import ServeError
from tritonclip import Client, TritonClipError

PHOTO = Path(__file__).resolve().parents[1] / "samples" / "photos" / "cat.jpg"
SENTENCES = ("a photo of a cat", "a cup of coffee on a table", "a rocket on its launch pad")


def greet(url: str, gateway_url: str | None = None) -> None:
    """Print the scores of the sample photograph, and what to try next; ServeError where the server fails at it."""
    try:
        with Client(url) as client:
            scores = client.compare(PHOTO, SENTENCES)
    except TritonClipError as error:
        raise ServeError(f"the sample request failed: {error}") from error
    print(f"\n{PHOTO.name} against three sentences:\n\n  cosine   logit  probability")
    for index, sentence in enumerate(SENTENCES):
        cosine, logit, probability = (
            float(values[0, index]) for values in (scores.cosine, scores.logits, scores.probabilities)
        )
        print(f"  {cosine:6.3f}  {logit:6.2f}  {probability:11.3f}  {sentence}")
    folder = PHOTO.parent.relative_to(PHOTO.parents[2])
    print(
        f"""
Try next, in another terminal:

  .venv/bin/tritonclip rank {folder}/coffee.jpg "a cup of coffee" "a cat" "an astronaut"
  .venv/bin/tritonclip classify '{folder}/*.jpg' --labels cat,coffee,rocket,astronaut
  .venv/bin/tritonclip status

{_gateway_hints(gateway_url, folder) if gateway_url else ""}
Ctrl-C stops the server.
""",
        flush=True,
    )


def _gateway_hints(url: str, folder: Path) -> str:
    return f"""
  curl -s {url}/v1/similarity -F image=@{folder}/cat.jpg -F text="a cat" -F text="a rocket"

A page to play with: {url}
"""
