"""LangChain's CohereEmbeddings and CohereRerank."""

# lines
from langchain_cohere import CohereEmbeddings, CohereRerank

embeddings = CohereEmbeddings(model="embed-v4.0", base_url="http://localhost:8080", cohere_api_key="tclip-KEY")
ranker = CohereRerank(model="rerank-v3.5", base_url="http://localhost:8080", cohere_api_key="tclip-KEY")
# end
from inputs import DOCUMENTS, QUERY, SOME, TEXTS, answer


def rank():
    """Rank the documents."""
    return [[each["index"], each["relevance_score"]] for each in ranker.rerank(DOCUMENTS, QUERY)]


answer(
    texts=lambda: embeddings.embed_documents(TEXTS),
    some=lambda: embeddings.embed_documents(SOME),
    rerank=rank,
)
