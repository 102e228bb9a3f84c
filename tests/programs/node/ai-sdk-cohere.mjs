// Vercel's AI SDK with its provider for Cohere.

// lines
import { createCohere } from "@ai-sdk/cohere";
import { embedMany, rerank } from "ai";

const cohere = createCohere({ baseURL: "http://localhost:8080/v2", apiKey: "tclip-KEY" });
// end
import { DOCUMENTS, QUERY, SOME, TEXTS, answer } from "./inputs.mjs";

const model = cohere.embedding("embed-v4.0");
await answer({
  texts: async () => (await embedMany({ model, values: TEXTS })).embeddings,
  some: async () => (await embedMany({ model, values: SOME })).embeddings,
  rerank: async () =>
    (await rerank({ model: cohere.reranking("rerank-v3.5"), query: QUERY, documents: DOCUMENTS })).ranking.map(
      ({ originalIndex, score }) => [originalIndex, score],
    ),
});
