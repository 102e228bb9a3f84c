"""The files that travel with the package: in a checkout they are links to where they are edited."""

from importlib.resources import files
from pathlib import Path

PACKAGE = Path(str(files(__package__)))
MODEL_REPOSITORY = (PACKAGE / "data" / "model_repository").resolve()  # what `export` publishes copies of
SAMPLES = (PACKAGE / "data" / "samples").resolve()  # photographs and sentences, drawn scenes and their labels
DEMO = (PACKAGE / "data" / "demo").resolve()  # the variant `demo`, in open_clip's local-dir layout
