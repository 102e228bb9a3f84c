"""LangChain's NVIDIAEmbeddings and NVIDIARerank."""

# lines
from langchain_nvidia_ai_endpoints import NVIDIAEmbeddings, NVIDIARerank

embeddings = NVIDIAEmbeddings(base_url="http://localhost:8080/v1", api_key="tclip-KEY")
ranker = NVIDIARerank(base_url="http://localhost:8080/v1", api_key="tclip-KEY")
# end
from inputs import DOCUMENTS, QUERY, SOME, TEXTS, answer
from langchain_core.documents import Document


def rank():
    """Rank the documents."""
    found = ranker.compress_documents([Document(text) for text in DOCUMENTS], QUERY)
    return [[DOCUMENTS.index(each.page_content), each.metadata["relevance_score"]] for each in found]


answer(
    texts=lambda: embeddings.embed_documents(TEXTS),
    query=lambda: [embeddings.embed_query(TEXTS[0])],
    some=lambda: embeddings.embed_documents(SOME),
    logits=rank,
)
