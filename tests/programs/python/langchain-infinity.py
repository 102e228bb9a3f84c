"""LangChain's InfinityEmbeddings, of langchain-community."""

# lines
from langchain_community.embeddings import InfinityEmbeddings

embeddings = InfinityEmbeddings(model="demo", infinity_api_url="http://localhost:8080")
# end
from inputs import SOME, TEXTS, answer

answer(texts=lambda: embeddings.embed_documents(TEXTS), some=lambda: embeddings.embed_documents(SOME))
