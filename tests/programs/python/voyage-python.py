"""Voyage's SDK for Python."""

# lines
import voyageai

client = voyageai.Client(base_url="http://localhost:8080/v1", api_key="tclip-KEY")
# end
from inputs import DOCUMENTS, IMAGES, MANY, QUERY, TEXTS, answer
from PIL import Image


def rank():
    """Rank the documents."""
    return [[each.index, each.relevance_score] for each in client.rerank(QUERY, DOCUMENTS, model="rerank-2.5").results]


def multimodal(inputs):
    """Embed inputs of one part each."""
    return client.multimodal_embed(inputs, model="voyage-multimodal-3").embeddings


answer(
    texts=lambda: client.embed(TEXTS, model="voyage-3.5").embeddings,
    many=lambda: client.embed(MANY, model="voyage-3.5").embeddings,
    texts_multimodal=lambda: multimodal([[text] for text in TEXTS]),
    images=lambda: multimodal([[Image.open(path)] for path in IMAGES]),
    rerank=rank,
)
