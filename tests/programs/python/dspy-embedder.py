"""DSPy's Embedder."""

# lines
import dspy

embedder = dspy.Embedder("openai/text-embedding-3-small", api_base="http://localhost:8080/v1", api_key="tclip-KEY")
# end
from inputs import SOME, TEXTS, answer

answer(texts=lambda: embedder(TEXTS), some=lambda: embedder(SOME))
