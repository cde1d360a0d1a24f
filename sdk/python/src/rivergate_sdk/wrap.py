"""Makes a plugin file of a former gateway's folder: python -m rivergate_sdk.wrap --help."""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tempfile
from pathlib import Path

from . import former
from .build import BuildError, build, copy_tree

# What the host itself reads under the plugin's prefix.
_HOSTS = frozenset(
    "ENABLED USE SHA256 BATCH_ROWS BATCH_BYTES BATCH_WAIT WINDOW ORDER TIMEOUT RETRY_MIN RETRY_MAX RETRY_ATTEMPTS MAX_BACKLOG ORGS START "
    "PASS_ENV MEMORY_MAX CPU_MAX OPEN_FILES RUN_AS PROCESS SELECT RENAME FILTER".split()
)


def variables(folder: Path, prefix: str) -> list[str]:
    """The variables under the plugin's prefix whose names stand in the code, or end a name that is put together."""
    found = set()
    for path in sorted(folder.rglob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        except (SyntaxError, UnicodeDecodeError) as error:
            raise BuildError(f"{path} is no Python of this version: {error}") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(re.findall(rf"\b{re.escape(prefix)}[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*\b", node.value))
    return sorted(v for v in found if v[len(prefix) :] not in _HOSTS)


def check(folder: Path) -> None:
    pusher = folder / "pusher.py"
    if not pusher.is_file():
        raise BuildError(f"there is no {pusher}: the folder of one former plugin is wanted")
    if not folder.name.isidentifier():
        raise BuildError(f"{folder.name} cannot be imported: rename the folder to letters, digits and _")
    try:
        tree = ast.parse(pusher.read_text(encoding="utf-8"), str(pusher))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise BuildError(f"{pusher} is no Python of this version: {error}") from error
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    names |= {alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    if "Pusher" not in names:
        raise BuildError(f"{pusher} has no class Pusher")


def wrap(folder: Path, output: Path, name: str, version: str, more: list[str], include: list[Path], pip: list[str]) -> list[str]:
    folder = folder.resolve()
    check(folder)
    prefix = "PLUGIN_" + name.upper().replace("-", "_") + "_"
    for variable in more:
        if not variable.startswith(prefix):
            raise BuildError(f"--variable {variable} does not begin with {prefix}: hand such a one on with {prefix}PASS_ENV")
    found = sorted({*variables(folder, prefix), *more})
    try:
        former.plugin(name, folder.name, version, found).check()
    except ValueError as error:
        raise BuildError(str(error)) from error
    requirements = [folder / "requirements.txt"] if (folder / "requirements.txt").is_file() else []
    with tempfile.TemporaryDirectory(prefix="rivergate-wrap-") as work:
        source = Path(work, "source")
        copy_tree(folder, source / "plugins" / folder.name)
        entry = f"from rivergate_sdk.former import run\n\n\ndef main() -> None:\n    run({name!r}, {folder.name!r}, {version!r}, {found!r})\n"
        (source / "rivergate_wrapped.py").write_text(entry)
        build(output, "rivergate_wrapped:main", [source, *include], requirements, pip)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rivergate_sdk.wrap", description="Make a plugin file of a former gateway's plugin folder.")
    parser.add_argument("folder", type=Path, help="the folder with pusher.py")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument("--variable", action="append", default=[], help="a variable that the code reads and that was not found in it; again for more")
    parser.add_argument("--include", type=Path, action="append", default=[], help="a module, package or folder that the code imports; again for more")
    parser.add_argument("--pip", action="append", default=[], metavar="ARGUMENT", help="handed on to pip; again for more")
    a = parser.parse_args()
    try:
        found = wrap(a.folder, a.output, a.name, a.version, a.variable, a.include, a.pip)
    except BuildError as error:
        print(f"rivergate_sdk.wrap: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"built {a.output}; variables: {', '.join(found) or 'none'}")


if __name__ == "__main__":
    main()
