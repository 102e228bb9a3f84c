"""LlamaIndex's OpenAIEmbedding and OpenAILikeEmbedding."""

# lines
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

embedding = OpenAIEmbedding(api_base="http://localhost:8080/v1", api_key="tclip-KEY")
like = OpenAILikeEmbedding(model_name="demo", api_base="http://localhost:8080/v1", api_key="tclip-KEY")
# end
from inputs import SOME, TEXTS, answer

answer(
    texts=lambda: embedding.get_text_embedding_batch(TEXTS),
    query=lambda: [embedding.get_query_embedding(TEXTS[0])],
    some=lambda: embedding.get_text_embedding_batch(SOME),
    texts_like=lambda: like.get_text_embedding_batch(TEXTS),
)
