"""Pydantic AI's Embedder."""

# lines
from pydantic_ai import Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url="http://localhost:8080/v1", api_key="tclip-KEY")
embedder = Embedder(OpenAIEmbeddingModel("text-embedding-3-small", provider=provider))
# end
from inputs import MANY, TEXTS, answer

answer(
    texts=lambda: embedder.embed_documents_sync(TEXTS).embeddings,
    query=lambda: embedder.embed_query_sync(TEXTS[0]).embeddings,
    many=lambda: embedder.embed_documents_sync(MANY).embeddings,
)
