// Vercel's AI SDK with its provider for OpenAI.

// lines
import { createOpenAI } from "@ai-sdk/openai";
import { embed, embedMany } from "ai";

const openai = createOpenAI({ baseURL: "http://localhost:8080/v1", apiKey: "tclip-KEY" });
const model = openai.embedding("text-embedding-3-small");
// end
import { MANY, SOME, TEXTS, answer } from "./inputs.mjs";

await answer({
  query: async () => [(await embed({ model, value: TEXTS[0] })).embedding],
  texts: async () => (await embedMany({ model, values: TEXTS })).embeddings,
  some: async () => (await embedMany({ model, values: SOME })).embeddings,
  many: async () => (await embedMany({ model, values: MANY })).embeddings,
});
