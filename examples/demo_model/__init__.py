"""A small CLIP trained on drawn scenes: the variant `demo`, whose answers mean something with no download.

    scenes (colour, shape, size, background) ──captions──> pairs ──loop──> demo/ ──quality──> figures

`python -m examples.demo_model --help` has the commands. Nothing that is served imports this; the exporter reads what
it wrote.
"""
