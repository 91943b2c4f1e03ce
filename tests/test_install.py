"""What somebody gets who installs the project on a machine that has nothing of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: The last command of each help page's example; files are those of `tadasu world samples`.
WITHOUT_EXTRAS = {
    "doctor": 0,
    "methods": 0,
    "policy list": 0,
    "policy show kids": 0,
    "policy check kids": 0,
    "screen 'a cat'": 0,
    "screen 'a p1stol'": 1,
    "evaluate suites": 0,
    "world samples": 0,
    "concepts list --bank {bank}": 0,
    "concepts add dagger --images samples/daggers --bank mine": 0,
    "screen 'a cat' --embedder minilm": 3,
    "demo": 3,
    "generate 'a cat'": 3,
    "compare 'a cat' --negative 'a dog'": 3,
    "judge samples/picture.png": 3,
    "judge samples/picture.png --detector opennsfw": 3,
    "judge samples/picture.png --detector nudenet": 3,
    "judge missing.png": 2,
    "audit samples/downloads": 3,
    "known add known.safetensors samples/downloads": 3,
    "known list known.safetensors": 3,
    "edit erase pistol": 3,
    "edit replace pistol=cat": 3,
    "edit moderate weapons": 3,
    "edit debias firefighter woman=0.2": 3,
    "edit show edit.safetensors": 3,
    "edit check edit.safetensors": 3,
    "edit preview edit.safetensors": 3,
    "edit export edit.safetensors --format kohya --out x.safetensors": 3,
    "edit apply edit.safetensors --out model": 3,
    "edit prior samples/captions.csv": 3,
    "edit suggest log.csv": 3,
    "align --image samples/picture.png --text what": 3,
    "calibrate align world": 3,
    "calibrate detector world": 3,
    "evaluate run samples/evaluation.yaml": 3,
    "evaluate answers world/image-harm -n 1": 3,
    "world check": 3,
}


def environment() -> dict[str, str]:
    """This process's, as a user's shell would have it."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "PYTHONPATH", "VIRTUAL_ENV")
    }


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the built wheel and no extra."""
    place = tmp_path_factory.mktemp("bare")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--wheel-dir", str(place), str(ROOT)]
    subprocess.run(wheel, check=True, env=environment(), timeout=600)
    venv.create(place / "venv", with_pip=True)
    (built,) = place.glob("tadasu-*.whl")
    install = [str(place / "venv/bin/pip"), "install", "--quiet", "-c"]
    command = [*install, str(ROOT / "constraints.txt"), str(built)]
    subprocess.run(command, check=True, env=environment(), timeout=900)
    built.unlink()
    return place / "venv/bin"


@pytest.mark.slow
def test_without_extras_every_command_works_or_names_what_is_missing(
    bare: Path, tmp_path: Path
) -> None:
    import shlex

    def tadasu(words: str) -> subprocess.CompletedProcess[str]:
        command = [str(bare / "tadasu"), *shlex.split(words)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
        )

    where = "import tadasu.world; print(tadasu.world.bank())"
    found = subprocess.run([str(bare / "python"), "-c", where], capture_output=True, text=True)
    assert tadasu("world samples").returncode == 0
    wrong = {}
    for words, code in WITHOUT_EXTRAS.items():
        done = tadasu(words.replace("{bank}", found.stdout.strip()))
        missing = done.returncode == 3 and "pip install 'tadasu[" not in done.stderr
        if done.returncode != code or missing or "Traceback" in done.stderr:
            wrong[words] = (done.returncode, done.stderr[-400:])
    assert wrong == {}
    assert not {"demo", "out", "model", "evaluation"} & {each.name for each in tmp_path.iterdir()}


@pytest.mark.slow
def test_the_library_names_the_missing_extra(bare: Path) -> None:
    program = "import tadasu as td\ntry: td.attach\nexcept td.errors.MissingPart as e: print(e)"
    done = subprocess.run([str(bare / "python"), "-c", program], capture_output=True, text=True)
    assert "pip install 'tadasu[diffusers]'" in done.stdout, done.stderr


@pytest.mark.slow
def test_make_check_passes_in_a_clean_environment(tmp_path: Path) -> None:
    """Set up as the README says, without CI: types must not depend on what CI installs."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists() and ("/world/" not in name or name.endswith(".py")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    done = subprocess.run(
        ["make", "check", f"PYTHON={sys.executable}"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
