"""Servers on this machine for the tests."""

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar, cast

Server = TypeVar("Server", bound=socketserver.BaseServer)


class WebServer(ThreadingHTTPServer):
    """A web server at a free port."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class QuietHandler(BaseHTTPRequestHandler):
    """A handler of GET requests that logs none."""

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        """Send the response."""
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


Response = Callable[[BaseHTTPRequestHandler], None]


class Mirror(WebServer):
    """A web server with a response for each path in `responses`, and 404 for any other path."""

    def __init__(self) -> None:
        super().__init__(_MirrorHandler)
        self.responses: dict[str, Response] = {}
        self.requested: list[str] = []  # paths
        self.stalled = threading.Event()  # set when a response has stalled
        self.disconnected = threading.Event()  # set when the client of an endless response disconnects

    @property
    def url(self) -> str:
        return f"{self.address}/mnist/"


class _MirrorHandler(QuietHandler):
    server: Mirror

    def answer(self) -> None:
        self.server.requested.append(self.path)
        self.server.responses.get(self.path, body(b"", 404))(self)


def body(content: bytes, status: int = 200, length: int | None = None, **headers: str) -> Response:
    """Return a response; `length` is the announced one, if it is not that of the content."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return respond


def stalled(content: bytes) -> Response:
    """Return a response that sends the content, and then nothing until the client disconnects."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)
        cast(Mirror, handler.server).stalled.set()
        silence(handler)

    return respond


def silence(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.settimeout(30)
    with contextlib.suppress(ConnectionResetError):  # the client was killed
        handler.rfile.read(1)  # returns when the client disconnects


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve requests in a thread until the block ends, then close the server."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
