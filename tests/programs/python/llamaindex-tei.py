"""LlamaIndex's TextEmbeddingsInference."""

# lines
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

embedding = TextEmbeddingsInference(model_name="demo", base_url="http://localhost:8080", auth_token="tclip-KEY")
# end
from inputs import SOME, TEXTS, answer

answer(
    texts=lambda: embedding.get_text_embedding_batch(TEXTS),
    some=lambda: embedding.get_text_embedding_batch(SOME),
)
