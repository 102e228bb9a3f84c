"""What the package shows, and what it does not pull in."""

import json
import pickle
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

import tritonclip
from tritonclip import (
    ClosedError,
    ConfigError,
    ConnectError,
    InputError,
    ProtocolError,
    StatusError,
    TritonClipError,
    _errors,
    protocol,
)
from tritonclip.protocol import statuses

CLIENT = Path(__file__).parents[3] / "client"


def in_a_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60).stdout


def test_all_is_what_the_package_shows() -> None:
    shown = json.loads(in_a_new_process("import json, tritonclip; print(json.dumps(dir(tritonclip)))"))
    public = {name for name in shown if not name.startswith("_")} | {"__version__"}
    assert public == {*tritonclip.__all__, "labels", "protocol"}  # the two are modules
    assert tritonclip.__all__ == sorted(tritonclip.__all__)


def test_the_protocol_shows_what_its_modules_are_and_define() -> None:
    names = in_a_new_process("import tritonclip.protocol; print(*dir(tritonclip.protocol))").split()
    shown = {name for name in names if not name.startswith("_")}
    modules = {"connection", "messages", "names", "proxies", "statuses", "transport"}
    assert shown == {*protocol.__all__} | modules
    assert protocol.__all__ == sorted(protocol.__all__)
    for module in ("grpc_codec", "http_codec", "grpc_transport", "http_transport", *modules):
        assert f"\n    {module} " in str(protocol.__doc__)


def test_every_public_error_is_in_the_tree_of_the_docstring() -> None:
    assert _errors.__doc__ is not None
    errors = [value for value in vars(tritonclip).values() if isinstance(value, type) and issubclass(value, Exception)]
    errors = [error for error in errors if not issubclass(error, Warning)]
    assert len(errors) == 16
    for error in errors:
        assert issubclass(error, TritonClipError)
        assert f" {error.__name__}" in _errors.__doc__
    assert set(statuses.ERROR_BY_CODE.values()) == {error for error in errors if issubclass(error, StatusError)} - {
        StatusError
    }
    assert not issubclass(ConnectError, StatusError)
    assert issubclass(ConfigError, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        InputError("reason", noun="image", index=3),
        ConnectError("grpc://x:1", "refused"),
        ClosedError("the client is closed"),
        ProtocolError("odd"),
        statuses.status_error("UNAVAILABLE", "full", "compare"),
        statuses.status_error("UNAVAILABLE", "full", "compare", retry_after=3.0),
    ],
)
def test_errors_survive_pickling(error: TritonClipError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    "reason",
    [
        "truncated",
        "image 0: truncated",
        "in ensemble 'embed_image', image 7: truncated",
        "in ensemble 'embed_image', [request id: <id_unknown>] image 7: truncated",
    ],
)
def test_a_refused_item_has_one_position_in_its_message(reason: str) -> None:
    error = statuses.refused_item(statuses.status_error("INVALID_ARGUMENT", reason), noun="image", index=12)
    assert str(error) == "image 12: truncated"


@pytest.mark.parametrize("module", ["tritonclip", "tritonclip.testing", "tritonclip.cli"])
def test_importing_it_pulls_in_nothing_heavy(module: str) -> None:
    heavy = ["torch", "open_clip", "gevent", "geventhttpclient", "tritonclient.http", "aiohttp", "scipy", "pandas"]
    code = f"import {module}, json, sys; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    assert json.loads(in_a_new_process(code)) == []


@pytest.mark.parametrize(("url", "absent"), [("grpc://localhost:1", "httpx"), ("http://localhost:1", "grpc")])
def test_a_transport_is_imported_only_where_it_is_chosen(url: str, absent: str) -> None:
    code = f"import tritonclip, sys; tritonclip.Client({url!r}); print({absent!r} in sys.modules)"
    assert in_a_new_process(code).strip() == "False"


def test_it_is_typed_and_has_a_command() -> None:
    assert resources.files("tritonclip").joinpath("py.typed").is_file()
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"tritonclip": "tritonclip.cli:main"}


def test_dependencies_stay_small() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0].split("[")[0] for requirement in project["dependencies"]}
    assert names == {"grpcio", "httpx", "numpy", "packaging", "pillow", "protobuf", "tqdm", "tritonclient"}
