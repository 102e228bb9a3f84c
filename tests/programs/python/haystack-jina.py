"""Haystack's JinaTextEmbedder, JinaDocumentEmbedder, JinaDocumentImageEmbedder and JinaRanker."""

# lines
from haystack.utils import Secret
from haystack_integrations.components.embedders.jina import JinaDocumentEmbedder, JinaDocumentImageEmbedder
from haystack_integrations.components.embedders.jina import JinaTextEmbedder
from haystack_integrations.components.rankers.jina import JinaRanker

key = Secret.from_token("tclip-KEY")
texts = JinaTextEmbedder(base_url="http://localhost:8080/v1/embeddings", api_key=key)
documents = JinaDocumentEmbedder(base_url="http://localhost:8080/v1/embeddings", api_key=key)
images = JinaDocumentImageEmbedder(base_url="http://localhost:8080/v1/embeddings", api_key=key)
ranker = JinaRanker(base_url="http://localhost:8080/v1/rerank", api_key=key)
# end
from haystack import Document
from inputs import DOCUMENTS, IMAGES, QUERY, SOME, TEXTS, answer


def embed(several):
    """Embed documents."""
    return [found.embedding for found in documents.run([Document(content=text) for text in several])["documents"]]


def embed_images():
    """Embed image files."""
    files = [Document(meta={"file_path": str(path)}) for path in IMAGES]
    return [found.embedding for found in images.run(files)["documents"]]


def rank():
    """Rank the documents."""
    found = ranker.run(query=QUERY, documents=[Document(content=text) for text in DOCUMENTS])["documents"]
    return [[DOCUMENTS.index(each.content), each.score] for each in found]


answer(
    query=lambda: [texts.run(TEXTS[0])["embedding"]],
    texts=lambda: embed(TEXTS),
    some=lambda: embed(SOME),
    images=embed_images,
    rerank=rank,
)
