"""Numbered UDP datagrams at a fixed rate from the host to the tool, which
sends each back: TCP would repair a lost frame and hide it, this shows it."""

import select
import socket
import struct
import time

import program

PAYLOAD = struct.Struct("!Qd")  # number, when sent
TICK_SECONDS = 0.001
SO_RCVBUFFORCE = 33  # of Linux, but not of Python's socket module

parser = program.arguments(__doc__)
parser.add_argument("role", choices=["host", "tool"])
parser.add_argument("--tool", required=True)
parser.add_argument("--port", type=int, default=9000)
parser.add_argument("--rate", type=int, default=2000, help="datagrams a second")
args = parser.parse_args()


class Sequence:
    """Counts numbers that came, came twice or came late."""

    def __init__(self):
        self.received = self.disordered = 0
        self.next = 0

    def see(self, number: int):
        self.received += 1
        if number < self.next:
            self.disordered += 1
        self.next = max(self.next, number + 1)


def open_socket() -> socket.socket:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # A program that is not scheduled for a while must not look like a bridge
    # that loses frames.
    udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    udp.setblocking(False)
    return udp


def send(udp: socket.socket, data: bytes, *peer):
    """What cannot even be sent, as the link is down, is as lost as the rest."""
    try:
        udp.sendto(data, *peer) if peer else udp.send(data)
    except OSError:
        pass


def drain(udp: socket.socket):
    """Every datagram that is waiting."""
    while True:
        try:
            yield udp.recvfrom(2048)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error, reported late; nothing was received
            continue


def run_host(result: program.Result):
    udp = open_socket()
    udp.connect((args.tool, args.port))
    echoes, round_trips = Sequence(), program.Histogram()
    sent, began, last_written = 0, time.monotonic(), 0.0

    def receive(until: float):
        while (left := until - time.monotonic()) > 0:
            if select.select([udp], [], [], left)[0]:
                now = time.monotonic()
                for data, _ in drain(udp):
                    number, when = PAYLOAD.unpack(data)
                    echoes.see(number)
                    round_trips.add(now - when)

    def report():
        result.set(sent=sent, echoed=echoes.received, disordered=echoes.disordered,
                   rtt_ms=round_trips.milliseconds())

    while not result.stop.is_set():
        # As many as are due by now: the rate holds even if a tick was late.
        due = int((time.monotonic() - began) * args.rate)
        while sent < due:
            send(udp, PAYLOAD.pack(sent, time.monotonic()))
            sent += 1
        receive(time.monotonic() + TICK_SECONDS)
        if time.monotonic() - last_written > program.REFRESH_SECONDS:
            last_written = time.monotonic()
            report()
    receive(time.monotonic() + 0.5)  # the last ones are still under way
    report()


def run_tool(result: program.Result):
    udp = open_socket()
    udp.bind((args.tool, args.port))
    sequence = Sequence()
    result.set(listening=True)
    while not result.stop.is_set():
        if select.select([udp], [], [], 0.05)[0]:
            for data, peer in drain(udp):
                sequence.see(PAYLOAD.unpack(data)[0])
                send(udp, data, peer)
            result.set(received=sequence.received, disordered=sequence.disordered)


with program.Result(args.result, {
    "listening": False, "sent": 0, "received": 0, "echoed": 0, "disordered": 0, "rtt_ms": {},
}) as result:
    run_host(result) if args.role == "host" else run_tool(result)
