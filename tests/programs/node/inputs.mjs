// What every JavaScript program here embeds and ranks, and how it says what came back.
import { readFileSync, writeFileSync } from "node:fs";

const inputs = JSON.parse(readFileSync(process.env.INPUTS, "utf8"));
export const { texts: TEXTS, query: QUERY, documents: DOCUMENTS, labels: LABELS, images: IMAGES } = inputs;
export const MANY = Array.from({ length: inputs.many.count }, (_, number) => inputs.many.template.replace("{}", number));
export const SOME = MANY.slice(0, inputs.many.some);
export const DATA_URLS = IMAGES.map((path) => `data:image/jpeg;base64,${readFileSync(path).toString("base64")}`);

// Carry out each case, and write what it gives, or its error, with its seconds, as JSON to the file in ANSWER.
export async function answer(cases) {
  const said = {};
  for (const [name, run] of Object.entries(cases)) {
    const begun = performance.now();
    try {
      said[name] = { result: await run() };
    } catch (error) {
      said[name] = { error: `${error}`.slice(0, 2000) };
    }
    said[name].seconds = (performance.now() - begun) / 1000;
  }
  writeFileSync(process.env.ANSWER, JSON.stringify(said));
}
