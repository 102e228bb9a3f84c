"""Classifiers of one's own classes on the features of the deployed model: a head, trained in minutes without a GPU.

>>> from pathlib import Path
>>> from tritonclip import Client
>>> from tritonclip.training import read_texts, train_head
>>> with Client("grpc://localhost:8001") as client:
...     found = train_head(client, Path("birds"), "birds", cache=Path("cache"), texts=read_texts(Path("labels.txt")))
>>> found.measured.scores.accuracy, found.head.write(Path("heads/birds"))

How images become a head: ``_data`` reads and splits them, ``_embedding`` asks the server for their vectors (``_cache``
keeps those), ``_selection`` compares strengths of a ``_regression`` around the labels' texts, and ``_measuring`` says
what came of it, on images not trained on. ``tritonclip-server head`` serves what ``_head`` writes. ``fit`` and
``measure`` also take features that are there already.

Needs ``pip install "tritonclip[train]"``.
"""

from tritonclip.training._cache import other_models
from tritonclip.training._charts import draw_report, draw_wrong
from tritonclip.training._data import Samples, Texts, read_texts, texts_of_label_set
from tritonclip.training._difference import Difference
from tritonclip.training._head import Head, read_head
from tritonclip.training._measuring import measure
from tritonclip.training._regression import Linear
from tritonclip.training._rejection import Rejection
from tritonclip.training._results import Calibration, CurvePoint, Measured, Scores, Training
from tritonclip.training._selection import Fit, Trial, fit
from tritonclip.training._training import train_head

__all__ = [
    "Calibration",
    "CurvePoint",
    "Difference",
    "Fit",
    "Head",
    "Linear",
    "Measured",
    "Rejection",
    "Samples",
    "Scores",
    "Texts",
    "Training",
    "Trial",
    "draw_report",
    "draw_wrong",
    "fit",
    "measure",
    "other_models",
    "read_head",
    "read_texts",
    "texts_of_label_set",
    "train_head",
]
