"""Agno's OpenAIEmbedder."""

# lines
from agno.knowledge.embedder.openai import OpenAIEmbedder

embedder = OpenAIEmbedder(base_url="http://localhost:8080/v1", api_key="tclip-KEY")
# end
import asyncio

from inputs import SOME, TEXTS, answer

answer(
    query=lambda: [embedder.get_embedding(TEXTS[0])],
    some=lambda: asyncio.run(embedder.async_get_embeddings_batch_and_usage(SOME))[0],
)
