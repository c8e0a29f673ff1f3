"""A web server of a test's own, for certificates by hash and URL. Run as a program it serves a directory, and writes a line for each request
("192.0.2.1 /left.der 200") before it answers. A file that is named "hang" is never answered.
"""
import http.server
import pathlib
import sys
import threading

from netns import Namespace, wait_until


class WebServer:
    """In `where`, at `address`."""

    def __init__(self, where: Namespace, address: str, port: int = 8080):
        self.base = f"http://{address}:{port}/"
        self.files = where.lab.scratch / f"{where.label}-web"
        self.files.mkdir()
        self._log = where.lab.scratch / f"{where.label}-web-requests"
        self.process = where.spawn(sys.executable, __file__, address, str(port), self.files, self._log, name=f"{where.label}-web-server")
        wait_until(self._log.exists, 5, "the web server answers")

    def put(self, name: str, content: bytes) -> str:
        """Its URL."""
        (self.files / name).parent.mkdir(exist_ok=True)
        (self.files / name).write_bytes(content)
        return self.base + name

    def clear(self) -> None:
        for one in self.files.rglob("*"):
            if one.is_file():
                one.unlink()

    def requests(self) -> list[tuple[str, str, int]]:
        """Client, path and answer of each, in order."""
        lines = (line.split() for line in self._log.read_text().splitlines())
        return [(client, path, int(code)) for client, path, code in lines]


def main(address: str, port: str, files: str, log: str) -> None:
    lock = threading.Lock()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words, **options):
            super().__init__(*words, directory=files, **options)

        def log_request(self, code="-", size="-") -> None:
            with lock, open(log, "a") as asked:
                asked.write(f"{self.client_address[0]} {self.path} {int(code)}\n")

        def do_GET(self) -> None:
            if pathlib.PurePosixPath(self.path.split("?")[0]).name == "hang":
                self.rfile.read()
            else:
                super().do_GET()

    server = http.server.ThreadingHTTPServer((address, int(port)), Handler)
    pathlib.Path(log).touch()
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
