"""What a person gets who starts the plugin."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import stat
import sys
from typing import TextIO

from ._plugin import PROTOCOL_VERSIONS, SDK, Plugin
from ._settings import variable
from ._version import VERSION


def listen_flag(arguments: list[str]) -> str | None:
    if len(arguments) == 2 and arguments[0] in ("--listen", "-listen"):
        return arguments[1]
    if len(arguments) == 1 and arguments[0].startswith(("--listen=", "-listen=")):
        return arguments[0].split("=", 1)[1]
    return None


def answer(plugin: Plugin, arguments: list[str]) -> int:
    match arguments:
        case ["--version" | "-version" | "version"]:
            versions = ", ".join(map(str, PROTOCOL_VERSIONS))
            print(f"{plugin.binary} {plugin.version} (sdk {VERSION}, protocol {versions})")
            return 0
        case ["--describe" | "-describe"]:
            described = {
                "name": plugin.name, "version": plugin.version, "kind": "pusher", "author": plugin.author, "summary": plugin.summary,
                "needs_trigger": plugin.needs_trigger, "protocol_versions": list(PROTOCOL_VERSIONS), "sdk": SDK,
                "config_schema": json.loads(plugin.check().schema()),
            }
            print(json.dumps(described, indent=2, ensure_ascii=False))
            return 0
        case ["--help" | "-help" | "-h" | "help"]:
            explain(plugin, sys.stdout)
            return 0
    explain(plugin, sys.stderr)
    return 1


def explain(plugin: Plugin, out: TextIO) -> None:
    print(
        f"""{plugin.binary} {plugin.version}: {plugin.summary}

This is a plugin of Rivergate. A host starts it: put the file into the host's plugin folder
(RIVERGATE_PLUGIN_DIR, bin/plugins) under the name {plugin.binary}, set {plugin.prefix}ENABLED=true
and start the host with rivergate serve.

  --version         print the version
  --describe        print what the plugin is and the JSON Schema of its configuration, as JSON
  --listen ADDRESS  serve at 127.0.0.1:7000 or unix:/path until SIGINT or SIGTERM, for a host that is told
                    RIVERGATE_PLUGIN_ATTACH={plugin.name}=ADDRESS: so it can run under a debugger
  --help            print this

To try it out:   rivergate plugin run {plugin.binary}    send rows from a terminal and see what becomes of them
To check it:     rivergate conformance {plugin.binary}   every rule of the plugin contract

Its log goes to standard error; RIVERGATE_LOG_LEVEL (debug) is the lowest level with --listen, else the host says it.""",
        file=out,
    )
    fields = plugin.check().fields
    if not fields:
        return
    print("\nVariables:", file=out)
    names = [variable(plugin.prefix, f.name) for f in fields]
    for name, f in zip(names, fields):
        about = f.doc + (" Required." if f.required else "") + (f" Default: {f.default}." if f.default else "")
        print(f"  {name:<{max(map(len, names))}}  {f.kind:<8}  {about}", file=out)


def local(address: str) -> tuple[str, str, str]:
    """What gRPC listens on, the address as a host is told it, and the path of the socket if it is one. Whoever reaches the
    address can give rows to the plugin, so it is never one that other machines reach."""
    if address.startswith("unix:"):
        if address == "unix:":
            raise ValueError("give a path, such as unix:/tmp/acme.sock")
        path = os.path.abspath(address[len("unix:") :])
        _free(path)
        return f"unix:{path}", f"unix:{path}", path
    host, separator, port = address.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    if not separator or not port.isdigit():
        raise ValueError("give 127.0.0.1:7000 or unix:/path")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"give a loopback address, such as 127.0.0.1:{port}, or unix:/path; on any other, strangers could send rows")
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return shown, shown, ""


def _free(path: str) -> None:
    """What a killed process left behind is a socket on which nobody answers."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise ValueError("another process serves there")
