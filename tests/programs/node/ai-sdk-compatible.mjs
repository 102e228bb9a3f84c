// Vercel's AI SDK with its provider for servers that are compatible with OpenAI.

// lines
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany } from "ai";

const provider = createOpenAICompatible({ name: "tritonclip", baseURL: "http://localhost:8080/v1", apiKey: "tclip-KEY" });
const model = provider.embeddingModel("demo");
// end
import { MANY, TEXTS, answer } from "./inputs.mjs";

await answer({
  texts: async () => (await embedMany({ model, values: TEXTS })).embeddings,
  many: async () => (await embedMany({ model, values: MANY })).embeddings,
});
