"""`pip install` into a clean environment, then a broker, a client's round trip and the pytest plugin in it."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.support.process import ROOT

INSTALL_S = 240.0

TEST_FILE = """
import pytest

def test_round_trip(automq_broker, automq_topic):
    automq_broker.produce(automq_topic, ["one", "two", None], key=b"k")
    records = automq_broker.consume(automq_topic)
    assert [record.value for record in records] == [b"one", b"two", None]
    assert automq_topic.startswith("test_round_trip-")

@pytest.mark.parametrize("in_process", [True, False])
def test_data_outlive_a_restart(automq_broker_factory, in_process):
    broker = automq_broker_factory(in_process=in_process, settings={"num.partitions": "2"})
    topic = broker.create_topic("kept", partitions=3)
    broker.produce(topic, [b"x"], partition=2)
    before = broker.bootstrap
    broker.stop() if in_process else broker.kill()
    broker.start()
    assert broker.bootstrap == before
    assert [record.value for record in broker.consume(topic, partition=2)] == [b"x"]
    broker.delete_topic(topic)

def test_wrong_setting_is_told(automq_broker_factory):
    from automq.testing import BrokerDidNotStart
    with pytest.raises(BrokerDidNotStart, match="no.such"):
        automq_broker_factory(settings={"no.such": "1"})
"""


def run(command: Sequence[str | pathlib.Path], folder: pathlib.Path, **options: object) -> str:
    """Standard output; an error shows both streams."""
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return str(ended.stdout)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A virtual environment with the package and pytest, and nothing of ours besides."""
    folder = tmp_path_factory.mktemp("clean")
    uv = pathlib.Path(sys.executable).with_name("uv")
    try:
        run([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], folder)
        python = folder / "venv/bin/python"
        # What every build needs: it tells whether an index can be reached at all.
        run(
            [uv, "pip", "install", "--quiet", "--python", python, "hatchling", "cython", "setuptools", "pytest"], folder
        )
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no package index is reachable here: {str(error)[-300:]}")
    run([uv, "pip", "install", "--quiet", "--python", python, "--no-build-isolation", ROOT], folder)
    return folder


def test_broker_installs_without_what_the_operator_needs(environment: pathlib.Path) -> None:
    python = environment / "venv/bin/python"
    listed = run(
        [python, "-c", "import importlib.metadata as m; print([d.name for d in m.distributions()])"], environment
    )

    assert "'automq-py'" in listed
    assert "'kopf'" not in listed
    assert "'kubernetes'" not in listed
    ended = subprocess.run(
        [python, "-m", "automq_operator"], cwd=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "automq-py[operator]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_installed_broker_says_whether_it_is_compiled(environment: pathlib.Path) -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    has_compiler = bool(shutil.which(compiler)) and (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists()

    shown = run([environment / "venv/bin/automq", "--version"], environment)

    assert ("(native core)" in shown) == has_compiler
    assert ("(pure Python: it was not compiled)" in shown) != has_compiler


@pytest.mark.parametrize(
    "variables", [{"CC": "there-is-no-such-compiler"}, {"AUTOMQ_PURE": "1"}], ids=["no compiler", "switched off"]
)
def test_wheel_that_could_not_be_compiled_is_for_every_platform(
    environment: pathlib.Path, tmp_path: pathlib.Path, variables: dict[str, str]
) -> None:
    uv = pathlib.Path(sys.executable).with_name("uv")
    python = environment / "venv/bin/python"

    run(
        [uv, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", python, "--out-dir", tmp_path, ROOT],
        environment,
        env={**os.environ, **variables},
    )

    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".so", ".pyd", ".c"))]


@contextmanager
def up(environment: pathlib.Path, folder: str) -> Iterator[str]:
    """`automq up` of the clean environment, to its end; its address."""
    broker = subprocess.Popen(
        [environment / "venv/bin/automq", "up", "--port", "0", "--data-dir", environment / folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=environment,
    )
    try:
        assert broker.stdout is not None
        bootstrap = ""
        while not bootstrap:
            line = broker.stdout.readline()
            assert line, "it ended"
            bootstrap = line.removeprefix("bootstrap: ").strip() if line.startswith("bootstrap: ") else ""
        yield bootstrap
    finally:
        broker.terminate()
        broker.communicate(timeout=60)
    assert broker.returncode == 0


def test_installed_broker_serves_and_the_command_line_uses_it(environment: pathlib.Path) -> None:
    automq = environment / "venv/bin/automq"
    with up(environment, "data") as bootstrap:
        run([automq, "produce", "greetings", "-b", bootstrap], environment, input="hello\n")
        assert run([automq, "consume", "greetings", "-f", "-e", "-b", bootstrap], environment) == "hello\n"


def readme_commands() -> list[str]:
    """What the README says to type under its heading 'Use it', as far as it concerns `make run`'s broker."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Use it") : text.index("Your tools work, too.")]
    typed = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    here = typed.index("<<'PY'\n")
    python = typed[here:].split("\n", 1)[1].removesuffix("\nPY")
    return [*typed[: typed.rindex("\n", 0, here)].splitlines(), python]


def test_what_the_readme_says_to_type_works(environment: pathlib.Path) -> None:
    uv, python = pathlib.Path(sys.executable).with_name("uv"), environment / "venv/bin/python"
    run([uv, "pip", "install", "--quiet", "--python", python, "confluent-kafka"], environment)
    *shell, program = readme_commands()
    assert [command.split()[0] for command in shell] == ["echo", ".venv/bin/automq"]
    with up(environment, "typed") as bootstrap:
        shown = [
            run(["sh", "-c", command.replace(".venv/", "venv/") + f" -b {bootstrap}"], environment) for command in shell
        ]
        assert shown[1] == "hello\n"
        assert "localhost:9092" in program
        assert run([python, "-c", program.replace("localhost:9092", bootstrap)], environment) == "b'hello'\n"


ORDER_SERVICE = """
from confluent_kafka import Producer

class OrderService:
    def __init__(self, bootstrap_servers, topic):
        self.producer, self.topic = Producer({"bootstrap.servers": bootstrap_servers}), topic

    def place(self, order):
        self.producer.produce(self.topic, order)
        assert self.producer.flush(20) == 0
"""


def test_tests_that_the_readme_shows_pass(environment: pathlib.Path) -> None:
    uv, python = pathlib.Path(sys.executable).with_name("uv"), environment / "venv/bin/python"
    run([uv, "pip", "install", "--quiet", "--python", python, "confluent-kafka"], environment)
    shown = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    folder = environment / "shown"
    folder.mkdir()
    (folder / "test_shown.py").write_text(ORDER_SERVICE + shown)
    (folder / "pytest.ini").write_text("[pytest]\n")
    assert "2 passed" in run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider"], folder)


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_plugin_gives_a_broker_to_anybodys_tests(environment: pathlib.Path, mode: str) -> None:
    folder = environment / f"project-{mode}"
    folder.mkdir()
    (folder / "test_it.py").write_text(TEST_FILE)
    (folder / "pytest.ini").write_text(f"[pytest]\nautomq_broker_mode = {mode}\n")

    shown = run([environment / "venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider"], folder)

    assert "4 passed" in shown
