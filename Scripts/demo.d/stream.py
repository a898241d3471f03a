"""A long TCP conversation: the host sends numbered lines, the tool checks
their order and sends each back, the host checks them again. One line at a
time: with several under way, TCP on a loaded machine sends one again out of
impatience, which would look like a lost frame.

The host tries to connect until it can, so that a rule added by hot swap shows
as soon as it works; both ends notice within a second when they are cut.
"""

import socket
import time

import program

PERIOD_SECONDS = 0.005
# One attempt; short, because before the rule exists every attempt ends so.
CONNECT_SECONDS = 0.25
# Linux would retransmit into a cut connection for a quarter of an hour.
GIVE_UP_MILLISECONDS = 1000

parser = program.arguments(__doc__)
parser.add_argument("role", choices=["host", "tool"])
parser.add_argument("--tool", required=True)
parser.add_argument("--port", type=int, default=7000)
args = parser.parse_args()


class Numbered:
    """Checks that lines 0, 1, 2… arrive once each and in order."""

    def __init__(self, result: program.Result):
        self._result, self._rest, self.next = result, b"", 0

    def receive(self, data: bytes):
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            number = int(line)
            if number < self.next:
                self._result.count("duplicates")
            elif number > self.next:
                self._result.count("gaps")
            self.next = max(self.next, number + 1)
        self._result.count("lines", len(lines))
        self._result.count("bytes", len(data))
        self._result.set(last_received=time.time())


def prepare(connection: socket.socket):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP_MILLISECONDS)


def converse_as_host(connection: socket.socket, result: program.Result):
    numbered, number = Numbered(result), 0
    connection.settimeout(0.1)  # to notice SIGTERM
    while not result.stop.is_set():
        connection.sendall(b"%d\n" % number)
        result.count("sent")
        number += 1
        next_line = time.monotonic() + PERIOD_SECONDS
        while numbered.next < number and not result.stop.is_set():
            try:
                data = connection.recv(65536)
            except TimeoutError as error:
                if error.errno is not None:  # TCP gave up; without errno, nothing came yet
                    raise
                continue
            if not data:
                raise ConnectionResetError("closed by the tool")
            numbered.receive(data)
        result.stop.wait(max(0, next_line - time.monotonic()))


def run_host(result: program.Result):
    while not result.stop.is_set():
        with socket.socket() as connection:
            prepare(connection)
            connection.settimeout(CONNECT_SECONDS)
            result.count("attempts")
            try:
                connection.connect((args.tool, args.port))
            except OSError:
                result.count("refused")
                result.stop.wait(0.05)
                continue
            result.count("connected")
            result.set(connected_at=time.time())
            try:
                converse_as_host(connection, result)
            except OSError as error:
                result.count("cut")
                result.set(cut_at=time.time(), cut_by=type(error).__name__)


def run_tool(result: program.Result):
    listener = socket.create_server((args.tool, args.port))
    listener.settimeout(0.1)
    result.set(listening=True)
    while not result.stop.is_set():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        result.count("connected")
        with connection:
            prepare(connection)
            connection.settimeout(0.1)
            numbered = Numbered(result)
            while not result.stop.is_set():
                try:
                    data = connection.recv(65536)
                    if not data:
                        break
                    numbered.receive(data)
                    connection.sendall(data)
                except TimeoutError as error:
                    if error.errno is not None:
                        result.count("cut")
                        break
                except OSError:
                    result.count("cut")
                    break


with program.Result(args.result, {
    "listening": False, "attempts": 0, "refused": 0, "connected": 0, "connected_at": None, "sent": 0,
    "lines": 0, "bytes": 0, "duplicates": 0, "gaps": 0, "last_received": None, "cut": 0, "cut_at": None,
}) as result:
    run_host(result) if args.role == "host" else run_tool(result)
