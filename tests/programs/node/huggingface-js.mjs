// Hugging Face's client for JavaScript.

// lines
import { InferenceClient } from "@huggingface/inference";

const text = new InferenceClient("tclip-KEY", { endpointUrl: "http://localhost:8080/embed" });
const image = new InferenceClient("tclip-KEY", {
  endpointUrl: "http://localhost:8080/v1/models/demo/zero-shot-image-classification",
});
// end
import { readFileSync } from "node:fs";
import { IMAGES, LABELS, TEXTS, answer } from "./inputs.mjs";

await answer({
  texts: () => text.featureExtraction({ inputs: TEXTS }),
  labels: async () =>
    Object.fromEntries(
      (
        await image.zeroShotImageClassification({
          inputs: { image: new Blob([readFileSync(IMAGES[0])]) },
          parameters: { candidate_labels: LABELS },
        })
      ).map(({ label, score }) => [label, score]),
    ),
});
