"""LangChain's OpenAIEmbeddings, which sends tokens, and lists of them in parts of 1,000."""

# lines
from langchain_openai import OpenAIEmbeddings

embeddings = OpenAIEmbeddings(base_url="http://localhost:8080/v1", api_key="tclip-KEY")
# end
from inputs import MANY, TEXTS, answer

answer(
    texts=lambda: embeddings.embed_documents(TEXTS),
    query=lambda: [embeddings.embed_query(TEXTS[0])],
    many=lambda: embeddings.embed_documents(MANY),
)
