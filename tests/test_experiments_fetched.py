"""Sets that come over a network, in the formats that they come in: OpenML's API, MNIST's files."""

import hashlib
import json
import pickle
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from sklearn.datasets import _openml

from experiments import cli
from experiments.data.module import Data

NUMERIC, NOMINAL, STRING = "numeric", "nominal", "string"
IRIS, KINDS = sklearn.datasets.load_iris(return_X_y=True)


@pytest.fixture(autouse=True)
def _elsewhere(signals: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class OpenML:
    """The part of openml.org that scikit-learn asks, on this machine; it has one set, named toy."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = next((text for part, text in answers.items() if part in self.path), None)
                # 412 is how OpenML says that there is no such set.
                self.send_response(200 if found else 412)
                self.end_headers()
                self.wfile.write(found or b"{}")

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(
        self, columns: dict[str, str], rows: list[Any], targets: tuple[str, ...], arff: str = "ARFF"
    ) -> None:
        """Have a set: of each column its name and kind, ``{a,b}`` for one of classes."""
        lines = [f"@ATTRIBUTE {name} {kind}" for name, kind in columns.items()]
        body = "\n".join(["@RELATION toy", *lines, "@DATA", *rows]).encode()
        features = [
            {"index": i, "name": name, "data_type": NOMINAL if "{" in kind else kind.lower()}
            | {"is_target": str(name in targets).lower(), "is_ignore": "false", "is_row_identifier": "false"}
            | {"number_of_missing_values": str(sum(row.startswith("?") and i == 0 for row in rows))}
            for i, (name, kind) in enumerate(columns.items())
        ]
        about = {"format": arff, "status": "active", "url": f"{self.address}/file/1"}
        about |= {"version": "1", "md5_checksum": hashlib.md5(body).hexdigest()}
        quality = [{"name": "NumberOfInstances", "value": str(len(rows))}]
        found = {
            "/data/list/data_name/toy": {"data": {"dataset": [{"did": 1, "version": 1, "status": "active"}]}},
            "/data/features/": {"data_features": {"feature": features}},
            "/data/qualities/": {"data_qualities": {"quality": quality}},
            "/json/data/1": {"data_set_description": about},
        }
        self.answers.clear()
        self.answers.update({path: json.dumps(answer).encode() for path, answer in found.items()})
        self.answers["/file/1"] = body


@pytest.fixture
def openml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenML]:
    site = OpenML()
    for name in ("_SEARCH_NAME", "_DATA_INFO", "_DATA_FEATURES", "_DATA_QUALITIES"):
        monkeypatch.setattr(
            _openml, name, getattr(_openml, name).replace("https://www.openml.org", site.address)
        )
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "scikit_learn_data"))
    yield site
    site.server.shutdown()
    site.server.server_close()


def iris(openml: OpenML) -> None:
    names = "abc"
    rows = [",".join([*map(str, x), names[kind]]) for x, kind in zip(IRIS, KINDS, strict=True)]
    columns = {f"x{i}": NUMERIC for i in range(4)} | {"kind": "{a,b,c}"}
    openml.serve(columns, rows, ("kind",))


def test_a_table_of_openml_is_trained_on_and_kept(openml: OpenML, capsys: pytest.CaptureFixture[str]) -> None:
    iris(openml)
    options = ["--data", "openml:toy", "--fast", "--lr", "0.1", "--variants", "mini-batch"]
    assert cli.main(["compare", *options]) == 0
    assert "mini-batch 32" in capsys.readouterr().out
    own, shipped = Data("openml:toy"), Data("iris")
    np.testing.assert_array_equal(own.parts["test"].x, shipped.parts["test"].x)
    # From here on without a network.
    openml.answers.clear()
    assert cli.main(["compare", *options]) == 0


def test_a_target_of_numbers_and_a_column_of_classes(openml: OpenML) -> None:
    openml.serve(
        {"x": "{low,high}", "y": NUMERIC}, [f"{('low', 'high')[i % 2]},{i}" for i in range(40)], ("y",)
    )
    data = Data("openml:toy")
    assert data.regression
    assert len(data.parts["train"].x.unique()) == 2


def test_a_sparse_table(openml: OpenML) -> None:
    rows = [f"{{0 {i + 1}, 2 {'ab'[i % 2]}}}" for i in range(40)]
    openml.serve({"x0": NUMERIC, "x1": NUMERIC, "y": "{a,b}"}, rows, ("y",), "Sparse_ARFF")
    assert Data("openml:toy").shape == (2,)


@pytest.mark.parametrize(
    ("columns", "row", "targets", "words"),
    [
        ({"x": NUMERIC, "y": "{a,b}"}, "?,a", ("y",), "40 of the inputs, in 40 rows, are NaN or infinite"),
        ({"x": STRING, "y": "{a,b}"}, "'of words',a", ("y",), "STRING attributes are not supported"),
        ({"x": NUMERIC, "y": NUMERIC}, "1,2", ("x", "y"), "has 2 targets; give a set that has one"),
        ({"x": NUMERIC, "y": NUMERIC}, "1,2", (), "has no target; give a set that has one"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_one_line(
    columns: Any, row: str, targets: Any, words: str, openml: OpenML, capsys: pytest.CaptureFixture[str]
) -> None:
    openml.serve(columns, [row] * 40, targets)
    assert cli.main(["compare", "--data", "openml:toy"]) == 2
    line = capsys.readouterr().err
    assert "--data: openml:toy" in line
    assert words in line
    assert line.count("\n") == 1
    assert not list(Path("runs").glob("*"))


@pytest.mark.parametrize("name", ["nowhere", "no where", "a/../b"])
def test_a_table_that_openml_does_not_have_is_one_line(
    name: str, openml: OpenML, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", "--data", f"openml:{name}"]) == 2
    line = capsys.readouterr().err
    assert f"--data: openml:{name}" in line
    assert line.count("\n") == 1


def images(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return as many bytes as the shape asks for, darker the greater the class, and the classes."""
    classes = np.arange(shape[0]) % 10
    noise = np.random.default_rng(0).integers(0, 20, shape)
    return (noise + 20 * classes.reshape(-1, *[1] * (len(shape) - 1))).astype(np.uint8), classes


def torchvision() -> Any:
    return pytest.importorskip(
        "torchvision", reason="torchvision is an extra of 5 GB, which reads these files"
    )


def test_mnist_is_read_from_its_own_files(tmp_path: Path) -> None:
    torchvision()
    raw = tmp_path / "cache" / "torch_backprop" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    x, t = images((200, 28, 28))
    for part in ("train", "t10k"):
        for name, values in (
            (f"{part}-images-idx3-ubyte", x),
            (f"{part}-labels-idx1-ubyte", t.astype(np.uint8)),
        ):
            head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
            (raw / name).write_bytes(head + values.tobytes())
    data = Data("mnist", examples=100)
    assert (data.shape, data.outputs, len(data.parts["train"].x)) == ((1, 28, 28), 10, 60)
    assert cli.main(["compare", "--data", "mnist", "--fast", "--lr", "0.1", "--variants", "batch"]) == 0


def test_cifar10_is_read_from_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = torchvision().datasets.CIFAR10
    folder = tmp_path / "cache" / "torch_backprop" / kind.base_folder
    folder.mkdir(parents=True)
    x, t = images((50, 3072))

    def keep(name: str, content: dict[str, Any]) -> list[str]:
        text = pickle.dumps(content)
        (folder / name).write_bytes(text)
        return [name, hashlib.md5(text).hexdigest()]

    for attribute in ("train_list", "test_list"):
        kept = [keep(name, {"data": x, "labels": t.tolist()}) for name, _ in getattr(kind, attribute)]
        monkeypatch.setattr(kind, attribute, kept)
    name, digest = keep("batches.meta", {"label_names": list("0123456789")})
    monkeypatch.setattr(kind, "meta", kind.meta | {"filename": name, "md5": digest})
    data = Data("cifar10", examples=100)
    assert (data.shape, data.outputs) == ((3, 32, 32), 10)
    # The planes of one colour lie one after another in the files.
    rows = data.rows["train"]
    assert len(rows) == 60
    options = ["--model", "convolution", "--model.width", "2", "--fast", "--lr", "0.1", "--variants", "batch"]
    assert cli.main(["compare", "--data", "cifar10", *options]) == 0
