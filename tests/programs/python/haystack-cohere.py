"""Haystack's CohereTextEmbedder, CohereDocumentEmbedder and CohereRanker."""

# lines
from haystack.utils import Secret
from haystack_integrations.components.embedders.cohere import CohereDocumentEmbedder, CohereTextEmbedder
from haystack_integrations.components.rankers.cohere import CohereRanker

key = Secret.from_token("tclip-KEY")
texts = CohereTextEmbedder(api_base_url="http://localhost:8080", api_key=key)
documents = CohereDocumentEmbedder(api_base_url="http://localhost:8080", api_key=key)
ranker = CohereRanker(api_base_url="http://localhost:8080", api_key=key)
# end
from haystack import Document
from inputs import DOCUMENTS, QUERY, SOME, TEXTS, answer


def embed(several):
    """Embed documents."""
    return [found.embedding for found in documents.run([Document(content=text) for text in several])["documents"]]


def rank():
    """Rank the documents."""
    found = ranker.run(query=QUERY, documents=[Document(content=text) for text in DOCUMENTS])["documents"]
    return [[DOCUMENTS.index(each.content), each.score] for each in found]


answer(
    query=lambda: [texts.run(TEXTS[0])["embedding"]],
    texts=lambda: embed(TEXTS),
    some=lambda: embed(SOME),
    rerank=rank,
)
