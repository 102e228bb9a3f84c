"""Hugging Face's InferenceClient."""

# lines
from huggingface_hub import InferenceClient

text = InferenceClient(model="http://localhost:8080/embed", api_key="tclip-KEY")
image = InferenceClient(
    model="http://localhost:8080/v1/models/demo/zero-shot-image-classification", api_key="tclip-KEY"
)
# end
from inputs import IMAGES, LABELS, TEXTS, answer

answer(
    texts=lambda: [text.feature_extraction(one)[0] for one in TEXTS],
    labels=lambda: {each.label: each.score for each in image.zero_shot_image_classification(str(IMAGES[0]), LABELS)},
)
