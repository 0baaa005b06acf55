"""A TCP proxy that plays a network: it passes bytes on, holds them back, or cuts every connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 65_536


class Proxy:
    """One hop in front of `host:port`, on a free port of loopback."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        """From now on no byte passes, and nobody is told: what a network does that lost its cable."""
        self._open.clear()

    def speak(self) -> None:
        """Everything passes again, what was held back first."""
        self._refusing = False
        self._open.set()

    def cut(self, *, refuse: bool = False) -> None:
        """Resets every connection; with `refuse` new ones end at once, until `speak`."""
        self._refusing = refuse
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            with suppress(OSError):  # a reset, not a farewell
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends it with all its connections."""
        self._server.close()
        self.cut()
        self._open.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if self._refusing:
                    client.close()
                    continue
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._open.wait()
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        with self._lock:
            self._connections |= {client, server}
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                self._open.wait()
                sink.sendall(chunk)
        for connection in (source, sink):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._connections -= {source, sink}


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    """A proxy for as long as the block runs."""
    made = Proxy(host, port)
    try:
        yield made
    finally:
        made.close()
