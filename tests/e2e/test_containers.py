"""What Dockerfile and compose.yaml say, done without Docker: the same commands in an environment of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from runner.deploy import serving
from tests.deploy import helpers
from tests.deploy.test_http import ask, jpeg
from tests.e2e.processes import free_port, wait_until

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
#: Where psycopg2 is, unless it is installed: pip install --target DIR psycopg2-binary
EXTRA = os.environ.get("RUNNER_TEST_PACKAGES", "")


def stages():
    """Stage → its instructions, (name, rest)."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            if name == "FROM":
                current = found.setdefault(rest.rpartition(" AS ")[2], [])
            current.append((name, rest))
    return found


def of(stage, name):
    return [rest for instruction, rest in stages()[stage] if instruction == name]


@pytest.mark.parametrize("stage", ["serve", "train"])
def test_images_run_as_a_user_without_privileges_from_the_package_s_python(stage):
    names = [name for name, _ in stages()[stage]]
    assert of(stage, "USER") == ["runner"]
    assert "--uid 1000 runner" in " ".join(of(stage, "RUN"))
    assert names.index("USER") > max(place for place, name in enumerate(names) if name == "RUN")
    [python] = {re.fullmatch(r"python:(3\.\d+)-slim AS .+", rest)[1] for rest in of(stage, "FROM")}
    assert python in ("3.10", "3.11", "3.12")
    assert json.loads(of(stage, "ENTRYPOINT")[0])[:3] == ["python", "-m", "runner"]


def test_an_image_is_built_from_the_wheel_s_sources_alone(tmp_path):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    admitted = {line[1:] for line in lines if line.startswith("!")}
    assert admitted == {"pyproject.toml", "README.md", "LICENSE", "conf", "hydra_plugins", "runner"}
    assert "**/.env" in lines
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_services_listen_on_this_machine_alone_and_name_no_password():
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "${POSTGRES_PASSWORD:?" in COMPOSE["services"]["database"]["environment"]["POSTGRES_PASSWORD"]
    assert "PASSWORD" not in str(COMPOSE["services"]["mlflow"]["command"])
    targets = {service["build"]["target"] for service in COMPOSE["services"].values() if "build" in service}
    assert targets <= stages().keys()


def test_the_whole_file_is_read_with_the_password_alone_as_for_any_service():
    variables = re.findall(r"\$\{(\w+)(:[-?])?", (ROOT / "compose.yaml").read_text())
    assert {name for name, default in variables if default != ":-"} == {"POSTGRES_PASSWORD"}


def test_verbs_have_a_service_whose_entry_point_they_follow_at_once():
    services = COMPOSE["services"]
    assert services["runner"]["entrypoint"] == ["python", "-m", "runner"]
    assert services["runner"]["volumes"] == services["train"]["volumes"]
    assert "docker compose run --rm runner runs" in (ROOT / "docs" / "containers.md").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel, from what `.dockerignore` lets through and by the commands of the Dockerfile."""
    folder = tmp_path_factory.mktemp("built")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source = ROOT / line[1:]
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / line[1:])
    install, build = of("wheel", "RUN")
    assert install.split()[-1] == "hatchling"
    words = shlex.split(build.replace("/dist", str(folder / "dist")))
    subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True, capture_output=True)
    return folder / "dist"


def test_the_wheel_of_an_image_has_what_the_project_names_and_the_image_every_engine(built):
    [wheel] = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"hydra_plugins/runner_search.py", "runner/__main__.py", "runner/conf/config.yaml"} <= set(names)
    [extras] = re.findall(r"\.whl\)\[(.+?)\]", " ".join(of("train", "RUN")))
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    # Clusters, GPUs and what builds runner itself are no matter of an image for CPUs.
    assert set(extras.split(",")) == project.keys() - {"gpu", "slurm", "ray", "bench", "docs", "dev"}


def test_what_is_trained_by_compose_is_in_the_folder_from_which_it_is_served():
    train, serve = (COMPOSE["services"][name]["volumes"] for name in ("train", "serve"))
    assert "./outputs:/work/outputs" in train
    [model] = serve
    assert model["source"].startswith("${EXPORT:-./EXPORT")
    assert (model["target"], model["read_only"], model["bind"]) == ("/model", True, {"create_host_path": False})
    assert "EXPORT=./outputs/RUN/export docker compose up serve" in (ROOT / "docs" / "containers.md").read_text()


@pytest.mark.slow
def test_the_serving_image_s_commands_make_a_server_without_paddle_and_mlflow(built, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "image"], check=True, timeout=120)
    python = tmp_path / "image" / "bin" / "python"
    for line in of("serve", "RUN"):
        if line.startswith("python"):
            command = line.replace("python", str(python), 1).replace("/dist", str(built))
            done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=600)
            if "No matching distribution" in done.stderr or "Connection" in done.stderr:
                pytest.skip(f"pip cannot install here: {done.stderr[-200:]}")
            assert done.returncode == 0, done.stderr
    absent = "import importlib.util as u; print([n for n in ('paddle', 'mlflow', 'torch') if u.find_spec(n)])"
    assert subprocess.run([python, "-c", absent], capture_output=True, text=True).stdout == "[]\n"
    helpers.export(tmp_path / "model")
    port = str(free_port())
    words = [*json.loads(of("serve", "ENTRYPOINT")[0]), *json.loads(of("serve", "CMD")[0])]
    there = {"python": str(python), "/model": str(tmp_path / "model"), "8080": port, "0.0.0.0": "127.0.0.1"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    server = subprocess.Popen([there.get(word, word) for word in words], cwd=tmp_path, env=environment)
    try:
        health = of("serve", "HEALTHCHECK")[0].partition(" CMD ")[2].replace("8080", port)
        command = [there.get(word, word) for word in json.loads(health)]
        assert f":{port}{serving.HEALTH}" in command[-1]
        wait_until(lambda: subprocess.run(command, capture_output=True).returncode == 0, 60, server)
        status, answer = ask(int(port), content=jpeg())
        assert (status, answer["class"] in helpers.CLASSES) == (200, True)
    finally:
        server.terminate()
    assert server.wait(20) == 143
    assert subprocess.run(command, capture_output=True).returncode != 0, "a health check that cannot fail"


@pytest.fixture
def postgres(tmp_path_factory):
    """The address of a database of its own, on a port of loopback."""
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (EXTRA, os.environ.get("PYTHONPATH"))))}
    driver = subprocess.run([sys.executable, "-c", "import psycopg2"], env=environment, capture_output=True)
    if found is None or driver.returncode:
        pytest.skip("needs PostgreSQL, and psycopg2 installed or in the folder RUNNER_TEST_PACKAGES")
    folder, port = Path("/tmp") / f"runner-postgres-{os.getpid()}", free_port()
    folder.mkdir()
    user = []
    if os.geteuid() == 0:
        # PostgreSQL does not run as root.
        shutil.chown(folder, "postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    binaries = Path(found).resolve().parent
    try:
        initdb = [*user, str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "mlflow", "--auth=trust"]
        subprocess.run(initdb, check=True, capture_output=True)
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
        command = [*user, str(binaries / "postgres"), "-D", str(folder / "data"), *options]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 60, server)
        time.sleep(1)
        create = [str(binaries / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
        subprocess.run(create, check=True, capture_output=True)
        yield f"127.0.0.1:{port}", environment
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of a finished run that no store has yet."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "mlflow.json").unlink()
    return tmp_path / "run"


@pytest.mark.slow
def test_mlflow_of_the_compose_file_runs_on_postgresql(postgres, run, tmp_path):
    from tests.tracking.test_mlflow import deliver

    address, environment = postgres
    service = COMPOSE["services"]["mlflow"]
    port = free_port()
    there = {"python": sys.executable, "0.0.0.0": "127.0.0.1", "5000": str(port), "/artifacts": str(tmp_path / "files")}
    words = [there.get(word, word) for word in [*service["entrypoint"], *service["command"]]]
    stated = {name: re.sub(r"\$\{.+?\}", "any", value) for name, value in service["environment"].items()}
    store = stated["MLFLOW_BACKEND_STORE_URI"].replace("@database/", f"@{address}/")
    assert address in store
    server = subprocess.Popen(
        words, env=environment | stated | {"MLFLOW_BACKEND_STORE_URI": store}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        health = [there.get(word, word).replace(":5000", f":{port}") for word in service["healthcheck"]["test"][1:]]
        wait_until(lambda: subprocess.run(health, capture_output=True).returncode == 0, 120, server)
        mirror = deliver(run, f"http://127.0.0.1:{port}")
        assert mirror.client.get_run(mirror.values["run_id"]).info.status == "FINISHED"
        assert list((tmp_path / "files").rglob("config.yaml"))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 9)
        server.wait(20)
