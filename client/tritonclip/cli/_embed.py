"""``tritonclip embed``: vectors of images or of texts.

JSON has an entry for each item, with its features or its error, and "truncated" where a text was cut. CSV and the table
leave failed items out. NPY is float32 [N, D] in the order given, with NaN in the rows of failed items, so that row
numbers stay true.
"""

import argparse

from tritonclip._client import Client
from tritonclip._results import Embeddings
from tritonclip.cli import _output, _sources
from tritonclip.cli._usage import UsageError

_SHOWN = 4


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Embed what the arguments name; returns how many items failed."""
    _output.check_format(arguments.format, (*_output.TABULAR, "npy"))
    texts = list(arguments.text) + (_sources.read_lines(arguments.texts_from) if arguments.texts_from else [])
    if bool(arguments.images) == bool(texts):
        raise UsageError("give images, or texts by --text or --texts-from (one of both: their vectors go apart)")
    if arguments.format == "npy":
        _output.refuse_terminal(arguments.output)
    if texts:
        names = texts
        result = client.embed_texts(
            texts,
            on_error="return",
            on_truncation=arguments.on_truncation,
            progress=_output.show_progress(len(texts)),
        )
    else:
        images = _sources.find_images(arguments.images)
        names = [image.name for image in images]
        items = [image.item for image in images]
        result = client.embed_images(items, on_error="return", progress=_output.show_progress(len(items)))
    if arguments.format == "npy":
        _output.write_array(result.features, arguments.output)
    else:
        fingerprint = client.manifest().fingerprint
        _output.write_text(_render(arguments.format, names, result, fingerprint), arguments.output)
    return _output.report_failures(result.errors, names)


def _render(format_: str, names: list[str], result: Embeddings, fingerprint: str | None) -> str:
    good = [index for index in range(len(names)) if index not in result.errors]
    width = result.features.shape[1]
    if format_ == "json":
        cut = {index: {"truncated": True} for index in result.truncated}
        items = [
            {"input": name, "error": str(result.errors[index])}
            if index in result.errors
            else {"input": name, "features": result.features[index].tolist()} | cut.get(index, {})
            for index, name in enumerate(names)
        ]
        return _output.to_json({"fingerprint": fingerprint, "width": width, "items": items})
    if format_ == "csv":
        header = ["input", *(f"f{column}" for column in range(width))]
        return _output.to_csv(header, [[names[index], *result.features[index].tolist()] for index in good])
    shown = [
        [names[index], width, " ".join(f"{value:+.4f}" for value in result.features[index][:_SHOWN]) + " …"]
        for index in good
    ]
    return _output.to_table(["input", "width", "features"], shown)
