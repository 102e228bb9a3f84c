"""infinity's InfinityVisionAPI, which knows no key and so asks a gateway without keys."""

# lines
from infinity_client.vision_client import InfinityVisionAPI

client = InfinityVisionAPI(url="http://localhost:8080")
# end
from inputs import IMAGES, TEXTS, answer
from PIL import Image


def embed(asked):
    """Wait for the vectors, each of them a row of its own in base64, which is the default."""
    return [row.reshape(-1) for row in asked.result()[0]]


answer(
    texts=lambda: [row.tolist() for row in embed(client.embed("demo", TEXTS))],
    images=lambda: [row.tolist() for row in embed(client.image_embed("demo", [Image.open(path) for path in IMAGES]))],
)
