"""Where a model's tokenizer comes from: open_clip itself, the hub or its cache, or a folder."""

import logging
from pathlib import Path
from typing import Any

import open_clip
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer

from tritonclip_server.export.errors import TokenizerUnavailable, UnsupportedModel
from tritonclip_server.export.variants import LocalVariant, Variant, model_config


def load_tokenizer(variant: Variant, folder: Path | None = None) -> Any:
    """open_clip's SimpleTokenizer or HFTokenizer for a variant; `folder` has the files of the latter.

    Raises TokenizerUnavailable, naming what was tried and which option helps, and UnsupportedModel where a folder was
    given and the model has no use for one.
    """
    config = model_config(variant).get("text_cfg", {})
    name = config.get("hf_tokenizer_name", "")
    if folder is not None and not name:
        raise UnsupportedModel(f"{variant.architecture} has open_clip's own tokenizer: leave --tokenizer out")
    if folder is not None and not folder.is_dir():
        raise TokenizerUnavailable(f"{folder}: no such folder")
    logging.disable(logging.ERROR)  # open_clip reports every step through the root logger
    try:
        if folder is None:
            return open_clip.get_tokenizer(variant.source)
        return HFTokenizer(
            str(folder),
            context_length=config.get("context_length", DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=config.get("tokenizer_mode"),
            **config.get("tokenizer_kwargs", {}),
        )
    except ImportError as error:
        raise TokenizerUnavailable(
            f"the tokenizer of {variant.architecture} needs {error.name or 'transformers'}: "
            "pip install 'tritonclip-server[export]'"
        ) from error
    except Exception as error:  # transformers, the hub's client and tokenizers raise a dozen kinds here
        raise TokenizerUnavailable(_message(variant, config, folder, error)) from error
    finally:
        logging.disable(logging.NOTSET)


def _message(variant: Variant, config: dict[str, Any], folder: Path | None, error: Exception) -> str:
    name = config.get("hf_tokenizer_name", "")
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if folder is not None:
        return f"{folder} holds no tokenizer that loads: {reason}"
    if isinstance(variant, LocalVariant) or not name:
        return f"the tokenizer of {variant.name} does not load: {reason}"
    tower = " and, for its text tower, config.json" if config.get("hf_model_name") else ""
    return (
        f"the tokenizer {name} of {variant.architecture} could not be loaded from the hub nor from the local hub cache "
        f"({reason}). Give --tokenizer DIR with its tokenizer.json and tokenizer_config.json{tower}, or point "
        "HF_HOME at a cache that holds them"
    )
