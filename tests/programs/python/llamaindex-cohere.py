"""LlamaIndex's CohereEmbedding and CohereRerank."""

# lines
from llama_index.embeddings.cohere import CohereEmbedding
from llama_index.postprocessor.cohere_rerank import CohereRerank

embedding = CohereEmbedding(base_url="http://localhost:8080", api_key="tclip-KEY")
ranker = CohereRerank(base_url="http://localhost:8080", api_key="tclip-KEY", top_n=4)
# end
from inputs import DOCUMENTS, IMAGES, QUERY, SOME, TEXTS, answer
from llama_index.core.schema import NodeWithScore, TextNode


def rank():
    """Rank the documents."""
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
    found = ranker.postprocess_nodes(nodes, query_str=QUERY)
    return [[DOCUMENTS.index(each.node.text), each.score] for each in found]


answer(
    texts=lambda: embedding.get_text_embedding_batch(TEXTS),
    query=lambda: [embedding.get_query_embedding(TEXTS[0])],
    some=lambda: embedding.get_text_embedding_batch(SOME),
    images=lambda: [embedding.get_image_embedding(str(path)) for path in IMAGES],
    rerank=rank,
)
