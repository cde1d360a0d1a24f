"""The process of a plugin: handshake, signals, the host's death, and the order in which all of it ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import grpc
import grpc.aio

from . import _byhand, _log, _stdio
from ._plugin import PROTOCOL_VERSIONS, Plugin
from ._server import Server
from ._wire import OPTIONS, register

DRAIN_TIME = 5.0  # seconds that instances get at SIGTERM
ORPHAN_TIME = 0.5  # when the host is dead: nobody waits for an acknowledgement any more
FLUSH_TIME = 0.25  # what the last acknowledgements get to leave
_PARENT_TICK = 0.2


def serve(plugin: Plugin) -> NoReturn:
    """Runs the plugin until the host ends it, and does not return. It belongs at the end of the main module.

    Started by hand, it explains itself; --version and --describe print what the plugin is, and --listen ADDRESS serves it for
    a host that does not start it, so that it can run under a debugger."""
    try:
        plugin.check()
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    if _stdio.HANDSHAKE is None:
        if (address := _byhand.listen_flag(sys.argv[1:])) is not None:
            _end(asyncio.run(_attachable(plugin, address)))
        sys.exit(_byhand.answer(plugin, sys.argv[1:]))
    # Asked before the handshake: a host that dies later leaves another number, one that died earlier breaks the handshake.
    parent = os.getppid()
    _end(asyncio.run(_started(plugin, _stdio.HANDSHAKE, parent)))


def _end(code: int) -> NoReturn:
    """Threads of the plugin's own that still run, and gRPC's, do not keep the process from ending."""
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


async def _started(plugin: Plugin, handshake: int, parent: int) -> int:
    # Before the handshake: from then on the host may stop the plugin at any moment.
    ending = _Ending()
    log = _log.set_up(plugin.name, as_json=True)
    server = Server(plugin, log)
    try:
        version = _version(os.environ.get("PLUGIN_PROTOCOL_VERSIONS", ""))
        with _socket_path() as path:
            credentials, certificate = _mutual_tls(os.environ.get("PLUGIN_CLIENT_CERT", ""))
            grpc_server = await _listen(server, f"unix:{path}", credentials)
            try:
                _watch_host(parent, os.environ.get("RIVERGATE_HOST_PID", ""), ending, path)
                os.write(handshake, f"1|{version}|unix|{path}|grpc|{certificate}\n".encode())
                os.close(handshake)
                return await ending.wait(server, grpc_server, log)
            finally:
                await grpc_server.stop(0)
    except (OSError, RuntimeError, ValueError) as error:
        log.error("plugin cannot be served: %s", error)
        return 1


async def _attachable(plugin: Plugin, address: str) -> int:
    """Serves a plugin that a person has started, for hosts that are told its address by RIVERGATE_PLUGIN_ATTACH."""
    ending = _Ending()
    try:
        target, shown, path = _byhand.local(address)
        server = Server(plugin, _log.set_up(plugin.name, as_json=False))
        previous = os.umask(0o177) if path else None  # the socket is its owner's alone
        try:
            grpc_server = await _listen(server, target, None)
        finally:
            if previous is not None:
                os.umask(previous)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"--listen {address}: {error}", file=sys.stderr)
        return 1
    print(
        f"{plugin.binary} {plugin.version} is served on {shown}. A host uses it when it is started with\n"
        f"  {plugin.prefix}ENABLED=true RIVERGATE_PLUGIN_ATTACH={plugin.name}={shown}\n"
        "Configuration and rows come from there. Ctrl-C finishes the batch in hand and ends.",
        file=sys.stderr, flush=True,
    )
    try:
        return await ending.wait(server, grpc_server, server.log)
    finally:
        await grpc_server.stop(0)
        if path:
            with contextlib.suppress(OSError):
                os.unlink(path)


async def _listen(server: Server, target: str, credentials: grpc.ServerCredentials | None) -> grpc.aio.Server:
    grpc_server = grpc.aio.server(options=OPTIONS)
    register(grpc_server, server)
    if credentials is None:
        port = grpc_server.add_insecure_port(target)
    else:
        port = grpc_server.add_secure_port(target, credentials)
    if port == 0:
        raise RuntimeError(f"{target} cannot be listened on")
    await grpc_server.start()
    return grpc_server


def _version(offered: str) -> int:
    """The newest protocol version that both sides speak. The Handshake call says the same."""
    versions = {int(v) for v in offered.split(",") if v.strip().isdigit()} or {1}
    for version in PROTOCOL_VERSIONS:
        if version in versions:
            return version
    raise ValueError(f"the host speaks protocol versions {offered}, this plugin {', '.join(map(str, PROTOCOL_VERSIONS))}")


@contextlib.contextmanager
def _socket_path() -> Iterator[str]:
    """A name for the socket in the host's private folder, or in one of our own. Nothing of it is left afterwards."""
    given = os.environ.get("PLUGIN_UNIX_SOCKET_DIR", "")
    folder = given or tempfile.mkdtemp(prefix="plugin-dir")
    path = os.path.join(folder, f"plugin{os.getpid()}")
    if len(os.fsencode(path)) > 107:
        raise ValueError(f"the path of the socket, {path}, is longer than 107 bytes")
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        if not given:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _mutual_tls(client: str) -> tuple[grpc.ServerCredentials | None, str]:
    """Accepts that client certificate alone, and makes one of our own for this process."""
    if not client:
        return None, ""
    try:
        from ._certificate import self_signed
    except ImportError:
        raise RuntimeError(
            "the host demands mutual TLS (RIVERGATE_PLUGIN_MTLS=on), for which this plugin was not built: add rivergate-sdk[mtls] to its requirements, or set RIVERGATE_PLUGIN_MTLS=auto"
        ) from None
    key, certificate, der = self_signed()
    credentials = grpc.ssl_server_credentials([(key, certificate)], client.encode(), require_client_auth=True)
    return credentials, base64.b64encode(der).decode().rstrip("=")


class _Ending:
    """What ends the process: a signal, or the host's death."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[str] = self._loop.create_future()
        self._again = asyncio.Event()  # a second signal, or the host's death, cuts the time short
        self.orphaned = False
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._told, number.name)

    def _told(self, what: str) -> None:
        if self._first.done():
            self._again.set()
        else:
            self._first.set_result(what)

    def orphan(self) -> None:
        self.orphaned = True
        self._told("")

    async def wait(self, server: Server, grpc_server: grpc.aio.Server, log: logging.Logger) -> int:
        if what := await self._first:
            log.info("plugin is stopping", extra={"signal": what})
        draining = asyncio.ensure_future(server.drain(""))
        again = asyncio.ensure_future(self._again.wait())
        await asyncio.wait((draining, again), timeout=ORPHAN_TIME if self.orphaned else DRAIN_TIME, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        in_order = draining.done()
        if not in_order:
            draining.cancel()
            server.stop()
            await asyncio.wait((draining,), timeout=FLUSH_TIME)  # a plain function that does not return is left behind
        await grpc_server.stop(FLUSH_TIME)
        error = draining.exception() if in_order and not draining.cancelled() else None
        if error is not None or not in_order:
            log.error("plugin did not stop in good order: %s", error or "an instance was still delivering")
            return 1
        return 0


def _watch_host(parent: int, host_pid: str, ending: _Ending, path: str) -> None:
    """Ends the process with the host. A killed host cannot say goodbye; what remains of it is that its children get another
    parent. The host's pid, when it is given, covers a wrapper between the two.

    It is a thread: the plugin's own code may hold the event loop up, and an orphan must end nevertheless."""
    loop = asyncio.get_running_loop()
    host = int(host_pid) if host_pid.isdigit() else 0

    def watch() -> None:
        _until_orphaned(parent, host)
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ending.orphan)
        time.sleep(ORPHAN_TIME + 2)  # what is allowed for an end in order, which then ends this thread as well
        with contextlib.suppress(OSError):
            os.unlink(path)
        os._exit(1)

    threading.Thread(target=watch, name="host-watch", daemon=True).start()


def _until_orphaned(parent: int, host: int) -> None:
    pids = {parent, host or parent}
    poll = select.poll()
    descriptors = []
    try:
        for pid in pids:
            descriptors.append(os.pidfd_open(pid))
            poll.register(descriptors[-1], select.POLLIN)
    except (AttributeError, OSError):
        descriptors = []  # no pidfd here, or a process is gone already: look now and then
    while True:
        # Also after the watch has begun: a pid that was given away before that would be somebody else's.
        if os.getppid() != parent or host and _gone(host):
            return
        if descriptors:
            poll.poll()
            return
        time.sleep(_PARENT_TICK)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


