"""Haystack's OpenAITextEmbedder and OpenAIDocumentEmbedder."""

# lines
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

key = Secret.from_token("tclip-KEY")
texts = OpenAITextEmbedder(api_base_url="http://localhost:8080/v1", api_key=key)
documents = OpenAIDocumentEmbedder(api_base_url="http://localhost:8080/v1", api_key=key)
# end
from haystack import Document
from inputs import SOME, TEXTS, answer


def embed(several):
    """Embed documents."""
    return [found.embedding for found in documents.run([Document(content=text) for text in several])["documents"]]


answer(query=lambda: [texts.run(TEXTS[0])["embedding"]], texts=lambda: embed(TEXTS), some=lambda: embed(SOME))
