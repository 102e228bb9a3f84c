"""Chroma's OpenAIEmbeddingFunction and HuggingFaceEmbeddingServer."""

# lines
from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer, OpenAIEmbeddingFunction

openai = OpenAIEmbeddingFunction(api_base="http://localhost:8080/v1", api_key="tclip-KEY")
server = HuggingFaceEmbeddingServer(url="http://localhost:8080/embed", api_key="tclip-KEY")
# end
from inputs import MANY, TEXTS, answer

answer(texts=lambda: openai(TEXTS), many=lambda: openai(MANY), texts_tei=lambda: server(TEXTS))
