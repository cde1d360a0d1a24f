"""Makes one executable file of a plugin: python -m rivergate_sdk.build --help.

The file is a shiv archive: the plugin's code, its requirements and this SDK. It needs a python3 of the minor version it was
built with on the PATH, and unpacks itself once into a private cache, under the hash of its content."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_PREAMBLE = '"""Takes standard output away before any code of the plugin runs."""\nimport rivergate_sdk._stdio\n'
_DATE = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".venv", "venv", ".mypy_cache", ".pytest_cache", "*.egg-info")


class BuildError(Exception):
    pass


def build(output: Path, entry: str, sources: list[Path], requirements: list[Path], pip: list[str]) -> None:
    """entry is module:function. Each source is a module or a package, or a folder whose content is taken."""
    with tempfile.TemporaryDirectory(prefix="rivergate-build-") as work:
        site = Path(work, "site-packages")
        site.mkdir()
        for file in requirements:
            _pip(site, [*pip, "--requirement", str(file)], str(file))
        _add_sdk(site, pip)
        for source in sources:
            _copy(source, site)
        preamble = Path(work, "rivergate_preamble.py")
        preamble.write_text(_PREAMBLE)
        packed = Path(work, "packed")
        _run(
            [sys.executable, "-m", "shiv", "--site-packages", str(site), "--entry-point", entry, "--preamble", str(preamble), "--reproducible",
             "--python", "/usr/bin/env python3", "--output-file", str(packed)],
            "shiv",
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = output.with_name(f".{output.name}.{os.getpid()}")
        try:
            _with_boot(packed, unfinished)
            unfinished.chmod(0o755)
            unfinished.replace(output)
        finally:
            unfinished.unlink(missing_ok=True)


def _add_sdk(site: Path, pip: list[str]) -> None:
    """The SDK that builds is the SDK in the file, with the versions of its own requirements that it was tried with here."""
    shutil.rmtree(site / "rivergate_sdk", ignore_errors=True)
    shutil.copytree(_PACKAGE, site / "rivergate_sdk", ignore=_LEFT_OUT)
    missing = [name for name, module in (("grpcio", "grpc"), ("protobuf", "google/protobuf")) if not (site / module).is_dir()]
    if missing:
        _pip(site, [*pip, *(f"{name}=={importlib.metadata.version(name)}" for name in missing)], "the SDK's own requirements")


def _copy(source: Path, site: Path) -> None:
    if not source.exists():
        raise BuildError(f"there is no {source}")
    if source.is_file():
        shutil.copy(source, site / source.name)
    elif (source / "__init__.py").exists():
        shutil.copytree(source, site / source.resolve().name, ignore=_LEFT_OUT, dirs_exist_ok=True)
    else:
        shutil.copytree(source, site, ignore=_LEFT_OUT, dirs_exist_ok=True)


def copy_tree(source: Path, target: Path) -> None:
    """Without what tools leave behind."""
    shutil.copytree(source, target, ignore=_LEFT_OUT)


def _pip(site: Path, arguments: list[str], what: str) -> None:
    _run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--upgrade", "--target", str(site), *arguments],
        f"pip, for {what}",
    )


def _run(command: list[str], what: str) -> None:
    # Its output would mix with what the caller prints: it is shown when it is needed.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{what} failed:\n{done.stdout.strip()}")


def _with_boot(packed: Path, output: Path) -> None:
    """shiv's archive with our first code, which finds the right Python and a cache that nobody else can write."""
    boot = (_PACKAGE / "_boot.py").read_text()
    filled = f"BUILT_FOR = ({sys.version_info[0]}, {sys.version_info[1]}, {sysconfig.get_platform()!r})"
    boot = boot.replace('BUILT_FOR = (0, 0, "platform")', filled)
    with zipfile.ZipFile(packed) as old, open(output, "wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                data = boot.encode() if entry.filename == "__main__.py" else old.read(entry)
                copy = zipfile.ZipInfo(entry.filename, _DATE)
                copy.external_attr = entry.external_attr
                copy.compress_type = zipfile.ZIP_DEFLATED
                new.writestr(copy, data)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rivergate_sdk.build", description="Make one executable plugin file.")
    parser.add_argument("--output", type=Path, required=True, help="the file to write, such as bin/rivergate-pusher-acme")
    parser.add_argument("--entry", required=True, metavar="MODULE:FUNCTION", help="the function that calls serve")
    parser.add_argument("--source", type=Path, action="append", required=True, help="a module, a package, or a folder whose content is taken; again for more")
    parser.add_argument("--requirements", type=Path, action="append", default=[], help="a requirements file; again for more")
    parser.add_argument("--pip", action="append", default=[], metavar="ARGUMENT", help="handed on to pip, such as --pip=--no-index; again for more")
    a = parser.parse_args()
    try:
        build(a.output, a.entry, a.source, a.requirements, a.pip)
    except BuildError as error:
        print(f"rivergate_sdk.build: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"built {a.output} ({a.output.stat().st_size / (1 << 20):.1f} MiB)")


if __name__ == "__main__":
    main()
