"""What can go wrong between labelled images and a model of one's own.

FinetuneError         every failure that fine-tuning itself reports; the command prints it and exits 1
├── BadData           images or classes that nothing can be learned from; the message names them
│   └── Unreadable    one image cannot be read; before training such are left out, later on they end the run
├── BadRecipe         numbers that do not fit each other, the data or the machine
└── OtherRun          the output folder is finished already, or belongs to another run

The parts that are used raise their own: ExportError (variants, weights, prompts) and tritonclip's ConfigError (data).
"""


class FinetuneError(Exception):
    """A failure that fine-tuning reports in one line."""


class BadData(FinetuneError):
    """Images or classes that nothing can be learned from."""


class Unreadable(BadData):
    """An image that cannot be read; the message says why."""


class BadRecipe(FinetuneError):
    """Numbers that do not fit each other, the data or the machine."""


class OtherRun(FinetuneError):
    """An output folder that is finished, or belongs to another run."""
