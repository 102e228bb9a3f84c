"""Cohere's SDK for Python, both versions of its API."""

# lines
import cohere

first = cohere.Client(base_url="http://localhost:8080", api_key="tclip-KEY")
second = cohere.ClientV2(base_url="http://localhost:8080", api_key="tclip-KEY")
# end
from inputs import DATA_URLS, DOCUMENTS, QUERY, SOME, TEXTS, answer

MODEL, RANKER = "embed-v4.0", "rerank-v3.5"
KIND = {"model": MODEL, "input_type": "search_document"}


def rank(client):
    """Rank the documents."""
    found = client.rerank(model=RANKER, query=QUERY, documents=DOCUMENTS)
    return [[each.index, each.relevance_score] for each in found.results]


def mixed():
    """Embed images by the second version's `inputs`."""
    inputs = [
        {"content": [{"type": "image_url", "image_url": {"url": DATA_URLS[0]}}]},
        {"content": [{"type": "image_url", "image_url": {"url": DATA_URLS[1]}}]},
    ]
    return second.embed(inputs=inputs, embedding_types=["float"], **KIND).embeddings.float_


answer(
    texts_v1=lambda: first.embed(texts=TEXTS, **KIND).embeddings,
    texts=lambda: second.embed(texts=TEXTS, embedding_types=["float"], **KIND).embeddings.float_,
    some=lambda: second.embed(texts=SOME, embedding_types=["float"], **KIND).embeddings.float_,
    images=lambda: [
        second.embed(model=MODEL, input_type="image", images=[url], embedding_types=["float"]).embeddings.float_[0]
        for url in DATA_URLS
    ],
    images_in_inputs=mixed,
    rerank=lambda: rank(second),
    rerank_v1=lambda: rank(first),
)
