"""mem0's OpenAI embedder."""

# lines
embedder = {"provider": "openai", "config": {"openai_base_url": "http://localhost:8080/v1", "api_key": "tclip-KEY"}}
# end
from inputs import SOME, TEXTS, answer
from mem0.utils.factory import EmbedderFactory

embedding = EmbedderFactory.create(embedder["provider"], embedder["config"], None)
answer(
    query=lambda: [embedding.embed(TEXTS[0])],
    some=lambda: embedding.embed_batch(SOME),
)
