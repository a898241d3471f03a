"""What an intruder on the outside wire tries to reach a tool or to learn about it: nmap, hping3, and frames of his own.

    MES, laptop ── a hub ── out0 [bridge] in0 ── tool

Bars: nothing of it arrives at the tool, each frame is denied by the cause that one would expect, and the MES's conversation
with the tool goes on all the while. The same attacks in monitor mode do arrive: the tests can fail.

What cannot be seen at layer 4, and is not claimed: a frame with the MES's IP and its MAC address that fits the
conversation (mes → tool, HSMS) is the MES's for all that the bridge can know. The forgeries here are wrong in one thing at
least. And where ARP and neighbour discovery pass, as here, anybody may ask in his own name who has an address: so the tool
is found, and not reached. `test_where_arp_does_not_pass_either` shows the policy for those who mind.
"""

import contextlib
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import Bridge, Host, Network, inside_netns, sh
from frames import ARP, ICMP, IP, LLC, SNAP, STP, TCP, UDP, Dot1Q, Dot3, Ether, IPv6, Raw

MES, TOOL, LAPTOP = "10.3.0.10", "10.3.0.21", "10.3.0.66"
MES6, TOOL6, LAPTOP6 = "fd00:3::10", "fd00:3::21", "fd00:3::66"
MES_MAC, TOOL_MAC, LAPTOP_MAC = "02:00:00:00:03:0a", "02:00:00:00:03:15", "02:00:00:00:03:42"
TIME = "10.3.0.30"  # a server outside that the tool asks; not bound
ROUTER = "10.3.0.1"
HSMS = 5000
BROADCAST = "ff:ff:ff:ff:ff:ff"


def policy(mode="enforce", ethertypes='["arp"]'):
    return f"""
version = 1
name = "evasion"
mode = "{mode}"
ethertypes = {ethertypes}
on_failure = {{ deadline_ms = 10000 }}  # that other tests keep the processors busy is no failure
[devices.mes]
addresses = ["{MES}", "{MES6}"]
mac = ["{MES_MAC}"]
[devices.tool]
addresses = ["{TOOL}", "{TOOL6}"]
mac = ["{TOOL_MAC}"]
side = "inside"
[state]
reply_s = 1
[[allow]]
id = "hsms"
from = "mes"
to = "tool"
service = ["hsms", "icmp/echo"]
[[allow]]
id = "time"
from = "tool"
to = "{TIME}"
service = ["ntp", "icmp/echo"]
"""


# --- What the bridge says to it ----------------------------------------------------------------------------------

NOT_IN_POLICY, FORGED = "not-in-policy", "address-binding"
LATER_FRAGMENT = "fragment-untracked"
REPLY_UNASKED, ERROR_UNTRACKED = "reply-unasked", "icmp-error-untracked"
WRONG_SIDE = "wrong-side"

# nmap: name -> arguments, and the causes that are seen. Scans are denied for the laptop's own address, but for those with
# flags that no stack sends.
# Nobody answers: it need not wait for long. That it asks by ARP first is tried below.
QUICK = "-n --disable-arp-ping --max-retries 0 --min-rate 300 --max-rtt-timeout 150ms --initial-rtt-timeout 100ms"
PATIENT = "-n --disable-arp-ping --max-retries 3 --initial-rtt-timeout 1s"
SOME = "-p 22,80,5000,5001"
NMAP = {
    "SYN": (f"-sS {SOME} {TOOL}", {NOT_IN_POLICY}),
    "connect": (f"-sT {SOME} {TOOL}", {NOT_IN_POLICY}),
    "ACK": (f"-sA {SOME} {TOOL}", {NOT_IN_POLICY}),
    "window": (f"-sW {SOME} {TOOL}", {NOT_IN_POLICY}),
    "Maimon": (f"-sM {SOME} {TOOL}", {NOT_IN_POLICY}),
    "FIN": (f"-sF {SOME} {TOOL}", {"tcp-flags"}),
    "NULL": (f"-sN {SOME} {TOOL}", {"tcp-flags"}),
    "XMAS": (f"-sX {SOME} {TOOL}", {"tcp-flags"}),
    "SYN+FIN": (f"-sS --scanflags SYNFIN {SOME} {TOOL}", {"tcp-flags"}),
    "UDP": (f"-sU -p 53,123,161,5000,47808 {TOOL}", {NOT_IN_POLICY}),
    "SCTP INIT": (f"-sY -p 5000 {TOOL}", {NOT_IN_POLICY}),
    "protocols": (f"-sO -p 1,2,6,17,41,47,50,51,132 {TOOL}", {NOT_IN_POLICY}),
    "many ports": (f"-sS -p 1-9999 --min-rate 5000 {TOOL}", {NOT_IN_POLICY}),
    "from port 20": (f"-sS -g 20 {SOME} {TOOL}", {NOT_IN_POLICY}),
    "from port 53": (f"-sU -g 53 {SOME} {TOOL}", {NOT_IN_POLICY}),
    "from port 5000": (f"-sS -g 5000 {SOME} {TOOL}", {NOT_IN_POLICY}),
    "from port 5000, ACK": (f"-sA -g 5000 {SOME} {TOOL}", {NOT_IN_POLICY}),
    "in fragments of 8": (f"-sS -f {SOME} {TOOL}", {"fragment-tiny", "fragment-overlap"}),
    "in fragments of 16": (f"-sS -f -f {SOME} {TOOL}", {"fragment-tiny", "fragment-overlap"}),
    "in fragments of 24": (f"-sS --mtu 24 --data-length 40 {SOME} {TOOL}", {NOT_IN_POLICY, LATER_FRAGMENT}),
    "wrong checksum": (f"-sS --badsum {SOME} {TOOL}", {NOT_IN_POLICY}),
    "with payload": (f"-sS --data-length 500 {SOME} {TOOL}", {NOT_IN_POLICY}),
    "loose source route": (["-sS", "--ip-options", f"L {LAPTOP}", *SOME.split(), TOOL], {"ip-options"}),
    "record route": (["-sS", "--ip-options", "R", *SOME.split(), TOOL], {NOT_IN_POLICY}),
    # Decoys have the laptop's MAC address: what is open to the MES is a forgery, what is not is not in the policy.
    "among decoys": (f"-sS -D {MES},10.3.0.99,ME {SOME} {TOOL}", {NOT_IN_POLICY, FORGED}),
    "with the MES's MAC address": (f"-sS --spoof-mac {MES_MAC} {SOME} {TOOL}", {NOT_IN_POLICY}),
    "operating system": (f"-sS -O --osscan-guess --max-os-tries 1 {SOME} {TOOL}", {NOT_IN_POLICY, "tcp-flags"}),
    "ping": (f"-sn -PE -PP -PM -PS22,5000 -PA5000 -PU5000 -PO {TOOL}", {NOT_IN_POLICY}),
    "sweep": (f"-sn -PE 10.3.0.16/29", {NOT_IN_POLICY}),
    "IPv6 SYN": (f"-6 -sS {SOME} {TOOL6}", {NOT_IN_POLICY}),
    "IPv6 XMAS": (f"-6 -sX {SOME} {TOOL6}", {"tcp-flags"}),
    "IPv6 UDP": (f"-6 -sU -p 53,5000 {TOOL6}", {NOT_IN_POLICY}),
    "IPv6 from port 5000": (f"-6 -sS -g 5000 {SOME} {TOOL6}", {NOT_IN_POLICY}),
    "IPv6 ping": (f"-6 -sn -PE -PS5000 {TOOL6}", {NOT_IN_POLICY}),
    "broadcast ping": ("--script broadcast-ping --script-args broadcast-ping.timeout=300ms,broadcast-ping.interface=eth0", {NOT_IN_POLICY}),
    "IPv6 multicast echo": (
        "-6 --script targets-ipv6-multicast-echo --script-args targets-ipv6-multicast-echo.interface=eth0", {NOT_IN_POLICY}),
}

# hping3, the same way.
HPING = {
    "SYN": (f"-S -p 5000 {TOOL}", {NOT_IN_POLICY}),
    "SYN from port 5000, kept": (f"-S -s 5000 -k -p 5000 {TOOL}", {NOT_IN_POLICY}),
    "ACK from port 53": (f"-A -s 53 -k -p 5000 {TOOL}", {NOT_IN_POLICY}),
    "FIN": (f"-F -p 5000 {TOOL}", {"tcp-flags"}),
    "NULL": (f"-p 5000 {TOOL}", {"tcp-flags"}),
    "XMAS": (f"-F -P -U -p 5000 {TOOL}", {"tcp-flags"}),
    "every flag": (f"-F -S -R -P -A -U -X -Y -p 5000 {TOOL}", {"tcp-flags"}),
    "TCP header of impossible length": (f"-S -O 1 -p 5000 {TOOL}", {"tcp-header"}),
    "wrong checksum": (f"-S -b -p 5000 {TOOL}", {NOT_IN_POLICY}),
    "as the MES": (f"-S -a {MES} -p 5000 {TOOL}", {FORGED}),
    "as the tool itself": (f"-S -a {TOOL} -s 5000 -k -p 5000 {TOOL}", {NOT_IN_POLICY}),
    "as anybody": (f"-S --rand-source -p 5000 {TOOL}", {NOT_IN_POLICY}),
    "in fragments": (f"-S -f -d 40 -p 5000 {TOOL}", {"fragment-tiny", "fragment-overlap", LATER_FRAGMENT}),
    "a datagram in fragments": (f"-2 -p 5000 -d 3000 {TOOL}", {NOT_IN_POLICY, LATER_FRAGMENT}),
    "fragment without its first": (f"-2 -p 5000 -x -g 1480 -d 64 {TOOL}", {LATER_FRAGMENT}),
    "UDP": (f"-2 -s 53 -k -p 5000 {TOOL}", {NOT_IN_POLICY}),
    "ping": (f"-1 {TOOL}", {NOT_IN_POLICY}),
    "timestamp": (f"-1 --icmp-ts {TOOL}", {NOT_IN_POLICY}),
    "address mask": (f"-1 --icmp-addr {TOOL}", {NOT_IN_POLICY}),
    "ping with routes recorded": (f"-1 -G {TOOL}", {NOT_IN_POLICY}),
    "loose source route": (f"-S --lsrr {LAPTOP} -p 5000 {TOOL}", {"ip-options"}),
    "strict source route": (f"-S --ssrr {LAPTOP} -p 5000 {TOOL}", {"ip-options"}),
    "GRE": (f"-0 -H 47 -d 32 {TOOL}", {NOT_IN_POLICY}),
    "IP in IP": (f"-0 -H 4 -d 40 {TOOL}", {NOT_IN_POLICY}),
}


# --- Frames of the intruder's own, each with its cause -----------------------------------------------------------


def ether(source=LAPTOP_MAC, destination=TOOL_MAC, **fields):
    return Ether(src=source, dst=destination, **fields)


def as_laptop(**fields):
    return ether() / IP(src=LAPTOP, dst=TOOL, **fields)


def as_mes(**fields):
    """With both addresses of the MES: nothing can be wrong but what stands behind them."""
    return ether(MES_MAC) / IP(src=MES, dst=TOOL, **fields)


def half_mes(**fields):
    """The MES's IP address, the laptop's MAC address."""
    return ether() / IP(src=MES, dst=TOOL, **fields)


SYN = TCP(sport=40000, dport=HSMS, flags="S")


def tcp_frames():
    own = {"S": NOT_IN_POLICY, "A": NOT_IN_POLICY, "SA": NOT_IN_POLICY, "FA": NOT_IN_POLICY, "R": NOT_IN_POLICY, "PA": NOT_IN_POLICY}
    impossible = {flags: "tcp-flags" for flags in ("", "F", "FPU", "SF", "SR", "SFRA", "P", "U", "FSRPAUEC", "SFA", "RF")}
    for flags, cause in (own | impossible).items():
        for port in (20, 53, 5000, 40000):
            yield f"TCP {flags or 'NULL'} from port {port}", as_laptop() / TCP(sport=port, dport=HSMS, flags=flags), cause
    for flags, cause in impossible.items():
        yield f"the MES's TCP {flags or 'NULL'}", as_mes() / TCP(sport=40000, dport=HSMS, flags=flags), cause
    for flags in own:
        yield f"TCP {flags} with the MES's IP address", half_mes() / TCP(sport=40000, dport=HSMS, flags=flags), FORGED
        yield (f"TCP {flags} with the MES's MAC address",
               ether(MES_MAC) / IP(src=LAPTOP, dst=TOOL) / TCP(sport=40000, dport=HSMS, flags=flags), NOT_IN_POLICY)
        yield f"the MES's TCP {flags} to port 22", as_mes() / TCP(sport=40000, dport=22, flags=flags), NOT_IN_POLICY
        # As if the tool were the client, and HSMS the MES's port.
        yield f"the MES's TCP {flags} from port 5000", as_mes() / TCP(sport=HSMS, dport=40000, flags=flags), NOT_IN_POLICY
    yield "the MES's segment to a MAC address that is not the tool's", ether(MES_MAC, "02:00:00:00:03:99") / IP(src=MES, dst=TOOL) / SYN, FORGED
    yield "the MES's segment to everybody's MAC address", ether(MES_MAC, BROADCAST) / IP(src=MES, dst=TOOL) / SYN, FORGED
    yield "from a group's MAC address", ether("03:00:00:00:00:01") / IP(src=MES, dst=TOOL) / SYN, "ethernet-header"
    for source in (TOOL, "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "10.3.0.0", "10.3.0.255", "192.0.2.1"):
        yield f"SYN from {source}", ether() / IP(src=source, dst=TOOL) / SYN, NOT_IN_POLICY
    yield "the MES's SYN with a header too short", as_mes() / TCP(sport=40000, dport=HSMS, flags="S", dataofs=4), "tcp-header"
    yield "the MES's SYN with a header too long", as_mes() / TCP(sport=40000, dport=HSMS, flags="S", dataofs=15), "tcp-header"
    yield "a SYN with a wrong checksum", as_laptop(chksum=0xBAD) / SYN, NOT_IN_POLICY


def other_transport_frames():
    for port in (20, 53, 123, 5000):
        yield f"UDP from port {port}", as_laptop() / UDP(sport=port, dport=HSMS) / b"hello", NOT_IN_POLICY
    yield "the MES's UDP to the port of its TCP", as_mes() / UDP(sport=40000, dport=HSMS) / b"hello", NOT_IN_POLICY
    yield "UDP longer than its packet", as_mes() / UDP(sport=40000, dport=HSMS, len=99) / b"hello", "udp-length"
    yield "UDP shorter than its header", as_mes() / UDP(sport=40000, dport=HSMS, len=7) / b"hello", "udp-length"
    for number in (2, 4, 41, 46, 47, 50, 51, 89, 103, 112, 115, 255):
        yield f"the MES's protocol {number}", as_mes(proto=number) / Raw(bytes(IP(src=MES, dst=TOOL) / SYN)), NOT_IN_POLICY
    yield "the MES's SCTP", as_mes(proto=132) / Raw(struct.pack(">HHII", 40000, HSMS, 0, 0) + b"\1\0\0\x14" + bytes(16)), NOT_IN_POLICY
    yield "the MES's UDP-Lite", as_mes(proto=136) / Raw(struct.pack(">HHHH", 40000, HSMS, 8, 0)), NOT_IN_POLICY
    # The time server has no MAC address in the policy. What it answers unasked, nobody has asked.
    time = ether(LAPTOP_MAC) / IP(src=TIME, dst=TOOL)
    yield "an answer of the time server, unasked", time / UDP(sport=123, dport=40123) / Raw(bytes(48)), REPLY_UNASKED
    yield "an echo reply of the time server, unasked", time / ICMP(type=0, id=7, seq=7) / b"pong", REPLY_UNASKED
    yield "a question of the time server", time / UDP(sport=40000, dport=123) / Raw(bytes(48)), NOT_IN_POLICY
    yield "the time server from another port", time / UDP(sport=124, dport=40123) / Raw(bytes(48)), NOT_IN_POLICY


def icmp_frames():
    for kind in (8, 0, 13, 14, 15, 17, 9, 10, 5):
        yield f"ICMP {kind}", as_laptop() / ICMP(type=kind), NOT_IN_POLICY
    for kind in (13, 15, 17, 9, 4):
        yield f"the MES's ICMP {kind}", as_mes() / ICMP(type=kind), NOT_IN_POLICY
    yield "the MES's echo, with its IP address only", half_mes() / ICMP(type=8), FORGED
    # Errors: about a conversation there is, and about others.
    back = IP(src=TOOL, dst=MES) / TCP(sport=HSMS, dport=45678, flags="A")
    def error(kind, code, about, source=ROUTER):
        return ether() / IP(src=source, dst=TOOL, proto=1) / Raw(bytes([kind, code, 0, 0, 0, 0, 0, 0]) + bytes(about))
    yield "a redirect about the conversation", error(5, 1, back), NOT_IN_POLICY
    yield "a source quench about the conversation", error(4, 0, back), NOT_IN_POLICY
    yield "unreachable, of a router", error(3, 1, back), ERROR_UNTRACKED
    yield "port unreachable, of a router", error(3, 3, back), "icmp-error-unrelated"
    yield "port unreachable, of the MES", error(3, 3, back, MES), FORGED
    yield "unreachable, about somebody else", error(3, 1, IP(src=TOOL, dst=LAPTOP) / SYN), NOT_IN_POLICY
    yield "unreachable, to who did not send", error(3, 1, IP(src=MES, dst=TOOL) / SYN), "icmp-error-unrelated"
    yield "an error with a message in it", error(11, 0, bytes(back) + bytes(600)), "icmp-header"
    yield "an error about nothing", error(11, 0, b""), "icmp-header"
    yield "an error about an error", error(3, 1, IP(src=TOOL, dst=MES, proto=1) / Raw(b"\3\1" + bytes(26))), "icmp-error-unrelated"


def fragment_frames():
    whole = bytes(SYN) + bytes(60)
    for name, ip in (("the laptop's", as_laptop), ("the MES's", as_mes)):
        def piece(offset, data, more=True, proto=6, ip=ip):
            return ip(proto=proto, id=77, frag=offset // 8, flags="MF" if more else "") / Raw(data)
        yield f"{name} tiny fragment", piece(0, whole[:8]), "fragment-tiny"
        yield f"{name} fragment that ends before the flags", piece(0, whole[:16]), "fragment-tiny"
        yield f"{name} fragment over the flags", piece(8, whole[8:32]), "fragment-overlap"
        yield f"{name} last fragment over the flags", piece(8, whole[8:], more=False), "fragment-overlap"
        yield f"{name} fragment over the end of the header", piece(16, whole[16:32]), "fragment-overlap"
        yield f"{name} last fragment, before the first", piece(24, whole[24:], more=False), LATER_FRAGMENT
        yield f"{name} middle fragment, before the first", piece(24, whole[24:48]), LATER_FRAGMENT
        yield f"{name} fragment of nothing", piece(0, b""), "fragment-length"
        yield f"{name} fragment of 25 bytes", piece(48, bytes(25)), "fragment-length"
        yield f"{name} ping of death", piece(65528, bytes(64), more=False, proto=1), "fragment-length"
        yield f"{name} UDP fragment over its header", piece(8, bytes(16), proto=17), "fragment-overlap"
        yield f"{name} later ICMP fragment", piece(1480, bytes(64), more=False, proto=1), LATER_FRAGMENT
    yield "the laptop's first fragment, whole", as_laptop(proto=6, id=78, flags="MF") / Raw(whole[:24]), NOT_IN_POLICY
    # Teardrop: the second lies within the first.
    yield "the laptop's teardrop, first", as_laptop(proto=17, id=79, flags="MF") / Raw(bytes(UDP(sport=1, dport=HSMS, len=64)) + bytes(28 + 4)), NOT_IN_POLICY
    yield "the laptop's teardrop, second", as_laptop(proto=17, id=79, frag=3) / Raw(bytes(4)), LATER_FRAGMENT


def ip_frames():
    source_routes = {"loose": "8307040a030042 00", "strict": "8907040a030042 00", "behind a nop": "01830704 0a030042"}
    for name, option in source_routes.items():
        yield f"a {name} source route", as_mes(options=Raw(bytes.fromhex(option.replace(" ", "")))) / SYN, "ip-options"
    for name, option in {"of length 0": "07000000", "of length 1": "94010000", "beyond the header": "07ff0400"}.items():
        yield f"an option {name}", as_mes(options=Raw(bytes.fromhex(option))) / SYN, "ip-options"
    yield "record route", as_laptop(options=Raw(bytes.fromhex("070704 00000000 00".replace(" ", "")))) / SYN, NOT_IN_POLICY
    yield "router alert", as_laptop(options=Raw(bytes.fromhex("94040000"))) / SYN, NOT_IN_POLICY
    yield "a header of 4 words", as_mes(ihl=4) / SYN, "ip-header"
    yield "version 6 in IPv4", as_mes(version=6) / SYN, "ip-header"
    yield "a length beyond the frame", as_mes(len=1000) / SYN, "truncated"
    yield "a length below the header's", as_mes(len=19) / SYN, "ip-length"
    yield "a frame that ends in the IP header", bytes(as_mes() / SYN)[:30], "truncated"
    yield "IPv4 in an IPv6 frame", ether(MES_MAC, type=0x86DD) / IP(src=MES, dst=TOOL) / SYN / Raw(bytes(40)), "ip-header"


def ipv6_frames():
    mes = dict(src=MES6, dst=TOOL6)
    def chain(*headers, source=LAPTOP6, mac=LAPTOP_MAC, inner=SYN, **fields):
        """Extension headers as (number, its bytes behind "next header")."""
        numbers = [number for number, _ in headers] + [6]
        body = b"".join(bytes([following]) + rest for following, (_, rest) in zip(numbers[1:], headers))
        return ether(mac) / IPv6(src=source, dst=TOOL6, nh=numbers[0], **fields) / Raw(body + bytes(inner))
    hop, options, routing0, routing2 = (0, bytes(7)), (60, bytes(7)), (43, bytes(7)), (43, b"\0\2" + bytes(5))
    atomic = (44, b"\0" + struct.pack(">HI", 0, 7))
    def fragment(offset, more):
        return (44, b"\0" + struct.pack(">HI", offset | more, 7))
    both = dict(source=MES6, mac=MES_MAC)
    yield "IPv6 SYN", ether() / IPv6(src=LAPTOP6, dst=TOOL6) / SYN, NOT_IN_POLICY
    yield "IPv6 SYN with the MES's IP address", ether() / IPv6(**mes) / SYN, FORGED
    yield "IPv6 SYN with the MES's IP address and extensions", chain(hop, options, source=MES6), FORGED
    yield "the MES's IPv6 SYN to port 22", ether(MES_MAC) / IPv6(**mes) / TCP(dport=22, flags="S"), NOT_IN_POLICY
    yield "the MES's IPv6 XMAS", ether(MES_MAC) / IPv6(**mes) / TCP(dport=HSMS, flags="FPU"), "tcp-flags"
    for name, headers in {"hop-by-hop": (hop,), "options": (options,), "routing of type 2": (routing2,), "atomic fragment": (atomic,),
                          "four": (hop, options, routing2, options)}.items():
        yield f"IPv6 extensions: {name}", chain(*headers), NOT_IN_POLICY
    for name, headers in {"seven": (options,) * 7, "forty": (options,) * 40, "hop-by-hop twice": (hop, hop),
                          "hop-by-hop not first": (options, hop), "source route": (routing0,), "two fragment headers": (atomic, atomic)}.items():
        yield f"IPv6 extensions: {name}", chain(*headers, **both), "ipv6-extensions"
    yield "IPv6 extensions: beyond the packet", chain((60, b"\xff" + bytes(6)), **both), "ipv6-extensions"
    yield "IPv6 extensions: the header in the next fragment", chain(fragment(0, 1), (60, b"\3" + bytes(6)), inner=b"", **both), "fragment-tiny"
    yield "IPv6 tiny fragment", chain(fragment(0, 1), inner=bytes(SYN)[:8], **both), "fragment-tiny"
    yield "IPv6 fragment over the flags", chain(fragment(8, 1), inner=bytes(16), **both), "fragment-overlap"
    yield "IPv6 fragment before the first", chain(fragment(24, 0), inner=bytes(16), **both), LATER_FRAGMENT
    yield "IPv6 fragment beyond 65535", chain(fragment(65528, 0), inner=bytes(64), **both), "fragment-length"
    yield "IPv6 in IPv6", ether(MES_MAC) / IPv6(**mes, nh=41) / Raw(bytes(IPv6(**mes) / SYN)), NOT_IN_POLICY
    yield "IPv4 in IPv6", ether(MES_MAC) / IPv6(**mes, nh=4) / Raw(bytes(IP(src=MES, dst=TOOL) / SYN)), NOT_IN_POLICY
    yield "IPv6 without a next header", ether(MES_MAC) / IPv6(**mes, nh=59) / Raw(bytes(SYN)), NOT_IN_POLICY
    yield "IPv6 jumbo", ether(MES_MAC) / IPv6(**mes, nh=0, plen=0) / Raw(b"\6\0\xc2\4\0\1\0\0" + bytes(SYN)), "ipv6-extensions"
    yield "IPv6 longer than its frame", ether(MES_MAC) / IPv6(**mes, plen=999) / SYN, "truncated"
    for kind, name in {128: "echo", 130: "listener query", 133: "router solicitation", 134: "router advertisement", 137: "redirect",
                       139: "node information", 143: "listener report"}.items():
        yield f"ICMPv6 {name}", ether() / IPv6(src=LAPTOP6, dst=TOOL6, nh=58, hlim=255) / Raw(bytes([kind, 0]) + bytes(30)), NOT_IN_POLICY
    yield "ICMPv6 echo to all nodes", ether(LAPTOP_MAC, "33:33:00:00:00:01") / IPv6(src=LAPTOP6, dst="ff02::1", nh=58) / Raw(b"\x80\0" + bytes(6)), NOT_IN_POLICY


def tag_frames():
    inner = IP(src=LAPTOP, dst=TOOL) / SYN
    for vlan in (0, 1, 100, 4095):
        yield f"tag {vlan}", ether() / Dot1Q(vlan=vlan, prio=7) / inner, NOT_IN_POLICY
    yield "old service tag", ether(type=0x9100) / Dot1Q(vlan=5) / inner, NOT_IN_POLICY
    yield "QinQ", ether(type=0x88A8) / Dot1Q(vlan=1, type=0x8100) / Dot1Q(vlan=100) / inner, NOT_IN_POLICY
    yield "double tag, for a switch to take one off", ether() / Dot1Q(vlan=1, type=0x8100) / Dot1Q(vlan=100) / inner, NOT_IN_POLICY
    forged = IP(src=MES, dst=TOOL) / SYN
    yield "the MES's IP address behind two tags", ether() / Dot1Q(vlan=1, type=0x8100) / Dot1Q(vlan=100) / forged, FORGED
    yield "the MES's IP address behind a priority tag", ether() / Dot1Q(vlan=0, prio=7) / forged, FORGED
    for count in (3, 8):
        tags = ether(MES_MAC)
        for number in range(count):
            tags = tags / Dot1Q(vlan=number + 1)
        yield f"the MES's segment behind {count} tags", tags / forged, "vlan-depth"
    yield "a tag and half a header behind it", bytes(ether(MES_MAC) / Dot1Q(vlan=1) / forged)[:28], "truncated"


def llc_frames():
    packet = IP(src=MES, dst=TOOL) / SYN
    for mac in (LAPTOP_MAC, MES_MAC):
        name = "the MES's" if mac == MES_MAC else "the laptop's"
        for oui in (0, 0xF8):
            for code in (0x0800, 0x86DD, 0x0806, 0x8100):
                snap = Dot3(src=mac, dst=TOOL_MAC) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=oui, code=code)
                yield f"{name} SNAP {oui:06x} {code:04x}", snap / packet, "llc-encapsulated"
        yield f"{name} IP over LLC", Dot3(src=mac, dst=TOOL_MAC) / LLC(dsap=6, ssap=6, ctrl=3) / packet, "llc-encapsulated"
    yield "SNAP behind a tag", ether(MES_MAC) / Dot1Q(vlan=1, type=66) / Raw(bytes.fromhex("aaaa030000000800")) / packet / Raw(bytes(18)), "llc-encapsulated"
    yield "LLC longer than its frame", ether(type=1000) / Raw(bytes.fromhex("424203") + bytes(43)), "truncated"
    yield "LLC of no length", ether(type=0) / Raw(bytes(46)), "llc-header"
    yield "neither length nor type", ether(type=0x5FF) / Raw(bytes(46)), "ethernet-header"
    yield "NetBEUI", Dot3(src=LAPTOP_MAC, dst="03:00:00:00:00:01") / LLC(dsap=0xF0, ssap=0xF0, ctrl=3) / Raw(bytes(40)), "ethertype"
    yield "raw IPX", Dot3(src=LAPTOP_MAC, dst=BROADCAST) / Raw(b"\xff\xff" + bytes(40)), "ethertype"


def arp_frames():
    for operation, name in ((1, "request"), (2, "reply")):
        for address in (MES, TOOL):
            for source, claimed in ((LAPTOP_MAC, LAPTOP_MAC), (MES_MAC if address == MES else TOOL_MAC, LAPTOP_MAC),
                                    (LAPTOP_MAC, MES_MAC if address == MES else TOOL_MAC)):
                yield (f"ARP {name} from {source}: {address} is {claimed}", ether(source, BROADCAST) / ARP(
                    op=operation, psrc=address, hwsrc=claimed, pdst=TOOL, hwdst=TOOL_MAC), WRONG_SIDE or FORGED if source == TOOL_MAC else FORGED)
        yield f"gratuitous ARP {name}: the MES is here", ether(LAPTOP_MAC, BROADCAST) / ARP(op=operation, psrc=MES, pdst=MES, hwsrc=LAPTOP_MAC), FORGED
    yield "ARP behind a tag", ether() / Dot1Q(vlan=1) / ARP(op=2, psrc=MES, pdst=TOOL, hwsrc=LAPTOP_MAC), FORGED
    for operation in (0, 3, 4, 8, 9, 0xFFFF):
        yield f"ARP operation {operation}", ether() / ARP(op=operation, psrc=LAPTOP, pdst=TOOL, hwsrc=LAPTOP_MAC), "arp-header"
    yield "ARP of another hardware", ether() / ARP(hwtype=6, psrc=MES, pdst=TOOL, hwsrc=LAPTOP_MAC), "arp-header"
    yield "ARP cut short", bytes(ether() / ARP(psrc=MES, pdst=TOOL, hwsrc=LAPTOP_MAC))[:40], "truncated"
    def neighbour(kind, target, options=b"", source=LAPTOP6, mac=LAPTOP_MAC, hops=255, code=0):
        body = bytes([kind, code, 0, 0, 0x20 if kind == 136 else 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, target) + options
        return ether(mac, "33:33:00:00:00:01") / IPv6(src=source, dst="ff02::1", nh=58, hlim=hops) / Raw(body)
    here = bytes([2, 1]) + bytes.fromhex(LAPTOP_MAC.replace(":", ""))
    yield "neighbour advertisement: the MES is here", neighbour(136, MES6, here), FORGED
    yield "the same from the MES's IP address", neighbour(136, MES6, here, MES6), FORGED
    yield "the same from the MES's MAC address", neighbour(136, MES6, here, MES6, MES_MAC), FORGED
    yield "the same without the option", neighbour(136, MES6), FORGED
    yield "neighbour advertisement: the tool is here", neighbour(136, TOOL6, here), FORGED
    yield "neighbour solicitation with the MES's IP address", neighbour(135, TOOL6, b"\1" + here[1:], MES6), FORGED
    yield "neighbour advertisement from afar", neighbour(136, MES6, here, hops=64), "neighbour-header"
    yield "neighbour advertisement of two minds", neighbour(136, MES6, here + here, MES6, MES_MAC), "neighbour-header"
    yield "neighbour advertisement of code 1", neighbour(136, MES6, here, code=1), "neighbour-header"


def impostor_frames():
    """Not wrong in itself, but said by somebody else."""
    yield "the tool's own segment", ether(TOOL_MAC, MES_MAC) / IP(src=TOOL, dst=MES) / TCP(sport=HSMS, dport=40000, flags="A"), WRONG_SIDE
    yield "the tool's own echo reply", ether(TOOL_MAC, MES_MAC) / IP(src=TOOL, dst=MES) / ICMP(type=0), WRONG_SIDE or REPLY_UNASKED
    yield "the tool's own question", ether(TOOL_MAC) / IP(src=TOOL, dst=TIME) / UDP(sport=123, dport=123) / Raw(bytes(48)), WRONG_SIDE
    yield "the tool's own ARP", ether(TOOL_MAC, BROADCAST) / ARP(op=2, psrc=TOOL, pdst=MES, hwsrc=TOOL_MAC, hwdst=MES_MAC), WRONG_SIDE
    # A tool that is just starting would give its address up.
    for address, address6 in ((TOOL, TOOL6), (MES, MES6)):
        yield f"an ARP probe for {address}", ether(LAPTOP_MAC, BROADCAST) / ARP(psrc="0.0.0.0", pdst=address, hwsrc=LAPTOP_MAC), FORGED
        body = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, address6)
        yield (f"duplicate address detection of {address6}",
               ether(LAPTOP_MAC, "33:33:ff:00:00:21") / IPv6(src="::", dst="ff02::1:ff00:21", nh=58, hlim=255) / Raw(body), FORGED)


def discovery_frames():
    for name, address, mac, port in (
        ("BACnet", "10.3.0.255", BROADCAST, 47808), ("EtherNet/IP", "255.255.255.255", BROADCAST, 44818),
        ("DHCP", "255.255.255.255", BROADCAST, 67), ("NetBIOS", "10.3.0.255", BROADCAST, 137), ("SSDP", "239.255.255.250", "01:00:5e:7f:ff:fa", 1900),
        ("mDNS", "224.0.0.251", "01:00:5e:00:00:fb", 5353), ("LLMNR", "224.0.0.252", "01:00:5e:00:00:fc", 5355),
        ("WS-Discovery", "239.255.255.250", "01:00:5e:7f:ff:fa", 3702), ("OPC UA", "224.0.0.251", TOOL_MAC, 4840)):
        for source, mac_of in ((LAPTOP, LAPTOP_MAC), (MES, MES_MAC), ("0.0.0.0", LAPTOP_MAC)):
            yield f"{name} from {source}", ether(mac_of, mac) / IP(src=source, dst=address) / UDP(sport=port, dport=port) / b"who is there?", NOT_IN_POLICY
    yield "IGMP query", ether(LAPTOP_MAC, "01:00:5e:00:00:01") / IP(src=LAPTOP, dst="224.0.0.1", proto=2, options=Raw(b"\x94\4\0\0")) / Raw(b"\x11\0\0\0\0\0\0\0"), NOT_IN_POLICY
    yield "broadcast ping", ether(LAPTOP_MAC, BROADCAST) / IP(src=LAPTOP, dst="10.3.0.255") / ICMP(), NOT_IN_POLICY
    yield "a SYN to everybody", ether(LAPTOP_MAC, BROADCAST) / IP(src=LAPTOP, dst="10.3.0.255") / SYN, NOT_IN_POLICY
    for name, kind, mac in (
        ("PROFINET DCP", 0x8892, "01:0e:cf:00:00:00"), ("LLDP", 0x88CC, "01:80:c2:00:00:0e"), ("EtherCAT", 0x88A4, BROADCAST),
        ("EAPOL", 0x888E, "01:80:c2:00:00:03"), ("GOOSE", 0x88B8, "01:0c:cd:01:00:00"), ("PTP", 0x88F7, "01:1b:19:00:00:00"),
        ("PPPoE", 0x8863, BROADCAST), ("MPLS", 0x8847, TOOL_MAC), ("MACsec", 0x88E5, TOOL_MAC), ("HomePlug", 0x88E1, BROADCAST),
        ("LLTD", 0x88D9, BROADCAST), ("wake on LAN", 0x0842, BROADCAST), ("RARP", 0x8035, BROADCAST), ("loopback", 0x9000, TOOL_MAC),
        ("ATA over Ethernet", 0x88A2, BROADCAST), ("nothing known", 0xFFFF, BROADCAST)):
        yield name, ether(LAPTOP_MAC, mac, type=kind) / Raw(bytes(46)), "ethertype"
    yield "spanning tree", Dot3(src=LAPTOP_MAC, dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(), "ethertype"
    yield "CDP", Dot3(src=LAPTOP_MAC, dst="01:00:0c:cc:cc:cc") / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0xC, code=0x2000) / Raw(bytes(22)), "ethertype"


FAMILIES = {
    "TCP": tcp_frames, "other transport": other_transport_frames, "ICMP": icmp_frames, "fragments": fragment_frames, "IP": ip_frames,
    "IPv6": ipv6_frames, "tags": tag_frames, "LLC": llc_frames, "ARP": arp_frames, "impostors": impostor_frames, "discovery": discovery_frames}


def cases(family):
    """name -> (frame, cause): as long as a NIC would send it."""
    made = {}
    for name, frame, cause in FAMILIES[family]():
        data = bytes(frame)
        is_cut = cause == "truncated" and len(data) < 54  # padding would lengthen it
        made[name] = (data if is_cut else data.ljust(60, b"\0"), cause)
    return made


# --- The lab -----------------------------------------------------------------------------------------------------


class Conversation:
    """HSMS's shape: a length and a message, echoed by the tool, over real sockets; all the while."""

    PORT = 61000  # the client's: above what kernels give out

    def __init__(self, mes, tool):
        self.exchanges, self.failure, self.going = 0, None, True
        self.changed = threading.Condition()
        with inside_netns(tool):
            self.listener = socket.create_server((TOOL, HSMS))
        with inside_netns(mes):
            self.client = socket.socket()
        self.client.bind((MES, self.PORT))
        for target in (self.serve, self.talk):
            threading.Thread(target=target, daemon=True).start()

    def serve(self):
        # The intruder gets in in monitor mode: he, too, is answered.
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.listener.accept()
                threading.Thread(target=self.echo, args=(peer,), daemon=True).start()

    @staticmethod
    def echo(peer):
        with contextlib.suppress(OSError), peer:
            while data := peer.recv(4096):
                peer.sendall(data)

    def talk(self):
        try:
            self.client.settimeout(20)
            self.client.connect((TOOL, HSMS))
            while self.going:
                message = struct.pack(">I", 60) + self.exchanges.to_bytes(60, "big")
                self.client.sendall(message)
                got = b""
                while len(got) < len(message):
                    data = self.client.recv(len(message) - len(got))
                    assert data, "the tool has closed the connection"
                    got += data
                assert got == message
                with self.changed:
                    self.exchanges += 1
                    self.changed.notify_all()
                    self.changed.wait_for(lambda: not self.going, 0.005)
        except Exception as error:
            self.failure = error

    def goes_on(self):
        """Three more exchanges, by the one connection there has ever been."""
        with self.changed:
            least = self.exchanges + 3
            assert self.changed.wait_for(lambda: self.exchanges >= least or self.failure, 20), "the MES waits for an answer"
        assert self.failure is None, f"the conversation is over: {self.failure!r}"

    def close(self):
        with self.changed:
            self.going = False
            self.changed.notify_all()
        self.client.close()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


# What hosts say by themselves when IPv6 begins, and would be counted among the attacks.
QUIET = "table ip6 quiet { chain out { type filter hook output priority 0; icmpv6 type { 131, 132, 133, 143 } drop; }; }"


class Lab:
    MARK = 0x5E5E

    def __init__(self, binary, sekisho, policy):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sekisho-"))
        self.net = Network()
        self.bridge = self.conversation = None
        self.marks = 0
        try:
            self.hub, self.tool = self.net.outer, self.net.inner
            self.mes, self.laptop = self.net.bridge + "m", self.net.bridge + "l"
            # A hub: all hear all, which suits the intruder best, and a forged MAC address turns nobody's frames away.
            sh(f"ip netns exec {self.hub} sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
            sh(f"ip -n {self.hub} link add br0 type bridge stp_state 0 mcast_snooping 0")
            for host in (self.mes, self.laptop):
                sh(f"ip netns add {host}")
                self.net.made.append(host)
                port = "mes" if host == self.mes else "laptop"
                sh(f"ip -n {self.hub} link add {port} type veth peer name eth0 netns {host}")
                # Else the checksums would be left to a NIC that is not there.
                sh(f"ip netns exec {host} ethtool -K eth0 tx off tso off gso off gro off")
            for port in ("a0", "mes", "laptop"):
                sh(f"ip -n {self.hub} link set {port} master br0 up")
                sh(f"ip -n {self.hub} link set {port} type bridge_slave learning off")
            sh(f"ip -n {self.hub} link set br0 up")
            hosts = [(self.mes, "eth0", MES, MES6, MES_MAC), (self.laptop, "eth0", LAPTOP, LAPTOP6, LAPTOP_MAC), (self.tool, "b0", TOOL, TOOL6, TOOL_MAC)]
            for host, port, ip, ip6, mac in hosts:
                self.nft(host, QUIET)
                sh(f"ip -n {host} link set {port} address {mac} addrgenmode none")
                for key, value in (("disable_ipv6", 0), ("accept_ra", 0), ("router_solicitations", 0)):
                    sh(f"ip netns exec {host} sysctl -qw net.ipv6.conf.{port}.{key}={value}")
                sh(f"ip -n {host} link set lo up")
                sh(f"ip -n {host} link set {port} up")
                sh(f"ip -n {host} address add {ip}/24 brd + dev {port}")
                sh(f"ip -n {host} address add {ip6}/64 dev {port} nodad")
                # Known for good: an attack that arrives, in monitor mode, shall not end the conversation.
                for _, _, other, other6, its_mac in hosts:
                    if other != ip:
                        for address in (other, other6):
                            sh(f"ip -n {host} neighbour add {address} lladdr {its_mac} dev {port} nud permanent")
            self.wire, self.cable = self.net.b, self.net.a
            self.bridge = Bridge(binary, sekisho, self.net, policy, self.folder, "--idle", "sleep")
            self.conversation = Conversation(self.mes, self.tool)
            self.conversation.goes_on()
            # For as long as `reply_s` after a start nobody knows what has been asked before.
            time.sleep(1.2)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def nft(host, text):
        done = subprocess.run(["ip", "netns", "exec", host, "nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr

    def run(self, *command):
        """A program on the laptop; what it said."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.laptop, *command], capture_output=True, text=True, errors="replace", timeout=120)
        return done.stdout + done.stderr

    def counts(self, name="denied"):
        return {cause["cause"]: cause["frames"] for cause in self.bridge.status()[name]}

    def arrived(self):
        """What came to the tool so far that is not the MES's own."""
        self.marks += 1
        # The MES pings: that is allowed whatever came before, and keeps its place behind the attack.
        mark = bytes(ether(MES_MAC) / IP(src=MES, dst=TOOL) / ICMP(type=8, id=self.MARK) / Raw(struct.pack(">Q", self.marks) + bytes(24)))
        frames = []
        for _ in range(40):
            self.cable.send(mark)
            end = time.monotonic() + 0.5  # behind a flood the ring may be full, and the ping lost
            while time.monotonic() < end:
                for got in self.wire.receive(1, timeout=0.5):
                    if got == mark:
                        return frames
                    if not self.is_the_mes(got):
                        frames.append(got)
        raise AssertionError("the MES's ping does not arrive")

    @staticmethod
    def is_the_mes(data):
        if data[6:12] != bytes.fromhex(MES_MAC.replace(":", "")):
            return False
        frame = Ether(data)
        if ICMP in frame and frame[ICMP].id == Lab.MARK:
            return True
        if IP in frame and TCP in frame:
            return (frame[IP].src, frame[IP].dst, frame[TCP].sport, frame[TCP].dport) == (MES, TOOL, Conversation.PORT, HSMS)
        return ARP in frame and (frame[ARP].psrc, frame[ARP].hwsrc) == (MES, MES_MAC)

    def close(self):
        if self.conversation:
            self.conversation.close()
        if self.bridge:
            self.bridge.stop()
            self.bridge.kill()
        self.net.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running(binary, sekisho, **options):
    if not shutil.which("nft"):
        pytest.skip("needs the program nft (Debian package nftables)")
    made = Lab(binary, sekisho, policy(**options))
    try:
        yield made
        made.conversation.goes_on()
    finally:
        made.close()
    assert made.bridge.process.returncode == 0


@pytest.fixture(scope="module")
def lab(privileged, binary, sekisho):
    with running(binary, sekisho) as made:
        yield made


@pytest.fixture(scope="module")
def watched(privileged, binary, sekisho):
    """In monitor mode: everything passes. A lab of its own, since the tool goes on answering for a while."""
    with running(binary, sekisho, mode="monitor") as made:
        yield made


@pytest.fixture
def nmap():
    if not shutil.which("nmap"):
        pytest.skip("needs the program nmap (Debian package nmap)")


@pytest.fixture
def hping3():
    if not shutil.which("hping3"):
        pytest.skip("needs the program hping3 (Debian package hping3)")


def in_own_name(data):
    """ARP and neighbour discovery in which the laptop names itself: these pass, and let nothing else pass."""
    frame = Ether(data)
    if ARP in frame:
        return frame[ARP].psrc == LAPTOP
    return IPv6 in frame and (frame[IPv6].src, frame[IPv6].nh, data[54]) == (LAPTOP6, 58, 135)


def difference(before, after):
    return {cause: after[cause] - before.get(cause, 0) for cause in after if after[cause] != before.get(cause, 0)}


# --- His own frames ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_frames(lab, family):
    """Why: each is denied, and by the cause that tells a person what was tried."""
    def judged(frames):
        before = lab.counts()
        lab.cable.send(*frames)
        return lab.arrived(), difference(before, lab.counts())

    wrong = []
    for cause in {cause for _, cause in cases(family).values()}:
        alike = {name: frame for name, (frame, its) in cases(family).items() if its == cause}
        if judged(alike.values()) != (([], {cause: len(alike)}) if cause else (list(alike.values()), {})):
            for name, frame in alike.items():
                arrived, denied = judged([frame])
                if (len(arrived), denied) != ((0, {cause: 1}) if cause else (1, {})):
                    wrong.append(f"{name}: {denied or 'passed'}, expected {cause}; {len(arrived)} arrived: {frame.hex()}")
            wrong = wrong or [f"{cause}: not always"]
    assert not wrong, f"{len(wrong)} of {len(cases(family))}:\n" + "\n".join(wrong)
    lab.conversation.goes_on()


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_arrive_in_monitor_mode(watched, family):
    """Why: what arrives neither way says nothing about the bridge."""
    before = watched.counts("would_deny")
    frames = cases(family)
    watched.cable.send(*(frame for frame, _ in frames.values()))
    arrived = watched.arrived()
    missing = [name for name, (frame, _) in frames.items() if frame not in arrived]
    assert not missing, missing
    noted = difference(before, watched.counts("would_deny"))
    for cause in {cause for _, cause in frames.values() if cause}:
        # The tool's answers to all this are noted as well.
        assert noted[cause] >= sum(each == cause for _, each in frames.values()), cause
    watched.conversation.goes_on()


# --- nmap and hping3 ---------------------------------------------------------------------------------------------


def words(arguments):
    return arguments.split() if isinstance(arguments, str) else list(arguments)


def attack(lab, *command):
    """What it said, what arrived of it, and what the bridge denied meanwhile."""
    lab.arrived()
    before = lab.counts()
    said = lab.run(*command)
    arrived = lab.arrived()
    return said, [frame.hex() for frame in arrived if not in_own_name(frame)], difference(before, lab.counts())


def scan(lab, name, how=QUICK):
    arguments = words(NMAP[name][0])
    return attack(lab, "nmap", *how.split(), *([] if "-sn" in arguments else ["-Pn"]), *arguments)


def hping(lab, name):
    return attack(lab, "hping3", "-c", "3", "-i", "u1000", "-n", "-I", "eth0", *words(HPING[name][0]))


@pytest.mark.parametrize("name", NMAP)
def test_nmap(lab, nmap, name):
    """Why: what everybody uses must find nothing, and be seen."""
    said, arrived, denied = scan(lab, name)
    assert not arrived, f"{len(arrived)} frames arrived: {arrived[:3]}"
    assert not re.search(r"/\w+ +(open|closed|unfiltered) ", said), said
    assert set(denied) == NMAP[name][1], f"{denied}\n{said}"
    lab.conversation.goes_on()


@pytest.mark.parametrize("name", HPING)
def test_hping3(lab, hping3, name):
    said, arrived, denied = hping(lab, name)
    assert not arrived, f"{len(arrived)} frames arrived: {arrived[:3]}"
    assert set(denied) == HPING[name][1], f"{denied}\n{said}"
    assert sum(denied.values()) >= 3, f"{denied}\n{said}"
    lab.conversation.goes_on()


MONITORED = {
    "SYN": r"5000/tcp +open ", "connect": r"5000/tcp +open ", "ACK": r"5000/tcp +unfiltered ", "FIN": r"22/tcp +closed ",
    "UDP": r"/udp +closed ", "protocols": r"6 +open +tcp", "from port 5000": r"5000/tcp +open ", "in fragments of 8": r"5000/tcp +open ",
    "in fragments of 24": r"5000/tcp +open ", "among decoys": r"5000/tcp +open ", "record route": r"5000/tcp +open ", "IPv6 SYN": r"5000/tcp +closed ",
    "ping": r"1 host up",
}


@pytest.mark.parametrize("name", MONITORED)
def test_nmap_finds_the_tool_in_monitor_mode(watched, nmap, name):
    """Why: a scan that finds nothing where nothing is in its way would be no test."""
    said, arrived, _ = scan(watched, name, PATIENT)
    assert arrived and re.search(MONITORED[name], said), said
    watched.conversation.goes_on()


@pytest.mark.parametrize("name", ["SYN", "XMAS", "as the MES", "in fragments", "a datagram in fragments", "loose source route", "GRE"])
def test_hping3_arrives_in_monitor_mode(watched, hping3, name):
    said, arrived, _ = hping(watched, name)
    assert len(arrived) >= 3, said
    watched.conversation.goes_on()


# --- The idle scan -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def zombie(lab):
    """The MES numbers its packets one by one, as old stacks do: what it is made to send can be counted by anybody."""
    lab.nft(lab.mes, "table ip zombie { chain out { type filter hook output priority 0; tcp flags & rst == rst drop; }; }")
    wire, going = Host(lab.mes, "eth0"), threading.Event()
    going.set()

    def answer():
        number = 100
        while going.is_set():
            for data in wire.receive(1, timeout=0.05):
                frame = Ether(data)
                if IP not in frame or TCP not in frame or frame[IP].dst != MES or frame[TCP].flags != "SA":
                    continue
                number += 1
                wire.send(
                    ether(MES_MAC, TOOL_MAC if frame[IP].src == TOOL else LAPTOP_MAC) / IP(src=MES, dst=frame[IP].src, id=number)
                    / TCP(sport=frame[TCP].dport, dport=frame[TCP].sport, seq=frame[TCP].ack, flags="R"))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        going.clear()
        thread.join(5)
        wire.socket.close()
        lab.nft(lab.mes, "delete table ip zombie")


def idle_scan(lab):
    with zombie(lab):
        return attack(lab, "nmap", "-n", "-Pn", "-sI", f"{MES}:80", "-p", "22,5000", TOOL)


def test_idle_scan(lab, nmap):
    """Why: it shows what is open to the MES without a packet from the laptop's own address."""
    said, arrived, denied = idle_scan(lab)
    assert "Idle scan using zombie" in said, said
    assert not re.search(r" open ", said), said
    assert not arrived, f"{len(arrived)} frames arrived: {arrived[:3]}"
    assert {FORGED, NOT_IN_POLICY} >= set(denied) >= {FORGED}, denied
    lab.conversation.goes_on()


def test_idle_scan_in_monitor_mode(watched, nmap):
    said, arrived, _ = idle_scan(watched)
    assert arrived and re.search(r"5000/tcp +open ", said), said
    watched.conversation.goes_on()


# --- Who asks in his own name ------------------------------------------------------------------------------------


def test_where_arp_passes_the_tool_is_found_and_not_reached(lab, nmap):
    said, arrived, denied = attack(lab, "nmap", "-n", "-sn", "-PR", TOOL)
    assert "Host is up" in said and not arrived and not denied, f"{denied}\n{said}"


@pytest.fixture
def silent(privileged, binary, sekisho):
    with running(binary, sekisho, ethertypes="[]") as made:
        yield made


def test_where_arp_does_not_pass_either(silent, nmap):
    """Why: hosts that know each other's MAC addresses need no ARP, and then nothing at all comes from the laptop."""
    before = silent.counts()
    for arguments in (f"-sn -PR {TOOL}", f"-sn -PR 10.3.0.16/29", f"-6 -sn {TOOL6}", f"-sS {SOME} {TOOL}"):
        said = silent.run("nmap", "-n", "--max-retries", "0", *arguments.split())
        assert "0 hosts up" in said, said
    silent.cable.send(*(frame for frame, cause in cases("ARP").values() if cause == FORGED))
    assert silent.arrived() == []
    # ARP, neighbour discovery, and the pings that nmap tries where nobody has answered them.
    assert "ethertype" in difference(before, silent.counts())
    silent.conversation.goes_on()
