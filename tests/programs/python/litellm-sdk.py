"""LiteLLM's SDK."""

# lines
import litellm

openai = {"model": "openai/text-embedding-3-small", "api_base": "http://localhost:8080/v1", "api_key": "tclip-KEY"}
cohere = {"model": "cohere/rerank-v3.5", "api_base": "http://localhost:8080", "api_key": "tclip-KEY"}
infinity = {"model": "infinity/rerank", "api_base": "http://localhost:8080", "api_key": "tclip-KEY"}
jina = {"model": "jina_ai/rerank", "api_base": "http://localhost:8080", "api_key": "tclip-KEY"}
vllm = {"model": "hosted_vllm/rerank", "api_base": "http://localhost:8080", "api_key": "tclip-KEY"}
# end
from inputs import DOCUMENTS, MANY, QUERY, TEXTS, answer


def embed(texts, where=openai):
    """Embed texts."""
    return [row["embedding"] for row in litellm.embedding(input=texts, **where).data]


def rerank(where):
    """Rank the documents."""
    found = litellm.rerank(query=QUERY, documents=DOCUMENTS, **where)
    return [[each["index"], each["relevance_score"]] for each in found.results]


answer(
    texts=lambda: embed(TEXTS),
    many=lambda: embed(MANY),
    rerank_cohere=lambda: rerank(cohere),
    rerank_infinity=lambda: rerank(infinity),
    rerank_jina=lambda: rerank(jina),
    rerank_vllm=lambda: rerank(vllm),
)
