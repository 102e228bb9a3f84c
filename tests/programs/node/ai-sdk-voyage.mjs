// Vercel's AI SDK with the community's provider for Voyage.

// lines
import { embedMany } from "ai";
import { createVoyage } from "voyage-ai-provider";

const voyage = createVoyage({ baseURL: "http://localhost:8080/v1", apiKey: "tclip-KEY" });
// end
import { SOME, TEXTS, answer } from "./inputs.mjs";

const model = voyage.embeddingModel ? voyage.embeddingModel("voyage-3.5") : voyage.textEmbeddingModel("voyage-3.5");
await answer({
  texts: async () => (await embedMany({ model, values: TEXTS })).embeddings,
  some: async () => (await embedMany({ model, values: SOME })).embeddings,
});
