"""Haystack's NvidiaTextEmbedder, NvidiaDocumentEmbedder and NvidiaRanker."""

# lines
from haystack.utils import Secret
from haystack_integrations.components.embedders.nvidia import NvidiaDocumentEmbedder, NvidiaTextEmbedder
from haystack_integrations.components.rankers.nvidia import NvidiaRanker

key = Secret.from_token("tclip-KEY")
texts = NvidiaTextEmbedder(model="demo", api_url="http://localhost:8080/v1", api_key=key)
documents = NvidiaDocumentEmbedder(model="demo", api_url="http://localhost:8080/v1", api_key=key)
ranker = NvidiaRanker(model="demo", api_url="http://localhost:8080/v1", api_key=key)
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
    logits=rank,
)
