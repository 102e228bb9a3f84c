"""OpenAI's SDK for Python."""

# lines
from openai import OpenAI

client = OpenAI(base_url="http://localhost:8080/v1", api_key="tclip-KEY")
# end
from inputs import DATA_URLS, MANY, TEXTS, answer

MODEL = "text-embedding-3-small"


def embed(items: list[str]) -> list[list[float]]:
    """Embed strings as the SDK asks by default: base64 on the wire."""
    return [row.embedding for row in client.embeddings.create(model=MODEL, input=items).data]


answer(
    texts=lambda: embed(TEXTS),
    many=lambda: embed(MANY),
    images=lambda: embed(DATA_URLS),
)
