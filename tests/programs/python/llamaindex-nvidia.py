"""LlamaIndex's NVIDIAEmbedding and NVIDIARerank."""

# lines
from llama_index.embeddings.nvidia import NVIDIAEmbedding
from llama_index.postprocessor.nvidia_rerank import NVIDIARerank

embedding = NVIDIAEmbedding(base_url="http://localhost:8080/v1", api_key="tclip-KEY")
ranker = NVIDIARerank(base_url="http://localhost:8080/v1", api_key="tclip-KEY")
# end
from inputs import DOCUMENTS, QUERY, SOME, TEXTS, answer
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
    logits=rank,
)
