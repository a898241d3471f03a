"""Who is who: addresses bound to MAC addresses and sides, and what is remembered of the others."""


from frames import ARP, IP, MAC_A, UDP, ether

EVIL = "02:00:00:00:06:66"


def policy(devices):
    return f"""
version = 1
{devices}
[[allow]]
id = "link"
from = "10.0.0.1"
to = "10.0.0.2"
service = ["udp/1", "tcp/5000"]
"""


def arp(mac, address, op=1, claimed=None, target="10.0.0.9"):
    return bytes(ether(mac, "ff:ff:ff:ff:ff:ff") / ARP(op=op, hwsrc=claimed or mac, psrc=address, pdst=target))


def datagram(mac=MAC_A, number=0):
    return bytes(ether(mac) / IP(src="10.0.0.1", dst="10.0.0.2", id=number) / UDP(sport=9, dport=1))


def crosses(sender, receiver, frame):
    receiver.drain()
    sender.send(frame)
    return frame in receiver.receive(quiet=0.15, timeout=1)


def test_a_device_stays_on_its_side(bridge, network):
    running = bridge(policy(f"""
[devices.host]
addresses = ["10.0.0.1"]
mac = "{MAC_A}"
side = "outside"
[devices.tool]
addresses = ["10.0.0.2"]
side = "inside"
"""), net=network())
    a, b = running.network.a, running.network.b
    assert crosses(a, b, datagram()) and crosses(a, b, arp(MAC_A, "10.0.0.1"))
    # Somebody inside who says to be the host, by its address or by its MAC address; somebody outside who says to be the tool.
    for sender, receiver, frame, cause in (
            (b, a, bytes(ether(MAC_A) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=1)), "wrong-side"),
            (b, a, arp(MAC_A, "10.0.0.1"), "wrong-side"), (b, a, arp(MAC_A, "10.0.0.77"), "wrong-side"),
            (b, a, arp(EVIL, "10.0.0.1", op=2), "address-binding"), (a, b, arp(EVIL, "10.0.0.2", op=2), "wrong-side"),
            (a, b, arp(EVIL, "10.0.0.1", target="10.0.0.1"), "address-binding"), (a, b, datagram(EVIL), "address-binding")):
        before = running.denied().get(cause, 0)
        assert not crosses(sender, receiver, frame)
        assert running.denied()[cause] == before + 1
    # Each is told, once.
    running.wait_for(lambda: "10.0.0.2 is claimed by 02:00:00:00:06:66 (outside), against the policy (wrong-side)" in running.said(), "the log")
    latest = running.status()["identities"]["latest"]
    assert {(c["address"], c["mac"], c["side"], c["denied"]) for c in latest} >= {
        ("10.0.0.1", MAC_A, "inside", "wrong-side"), ("10.0.0.1", EVIL, "outside", "address-binding"),
        ("10.0.0.2", EVIL, "outside", "wrong-side")}


def test_the_first_one_seen_is_remembered(bridge, network):
    """Why: without a binding nothing is denied for it, but somebody must hear of it."""
    running = bridge(policy(""), net=network())
    a, b = running.network.a, running.network.b
    assert crosses(a, b, datagram()) and crosses(a, b, arp(MAC_A, "10.0.0.1"))
    running.wait_for(lambda: running.status()["identities"]["known"] == 1, "the first sight")
    assert running.status()["identities"]["changes"] == 0
    # Two devices claim one address, by turns.
    for _ in range(2):
        assert crosses(a, b, arp(EVIL, "10.0.0.1", op=2)) and crosses(a, b, arp(MAC_A, "10.0.0.1", op=2))
    running.wait_for(lambda: running.status()["identities"]["changes"] == 4, "the changes")
    latest = running.status()["identities"]["latest"]
    assert {(c["mac"], c["before_mac"], c["times"]) for c in latest} == {(EVIL, MAC_A, 2), (MAC_A, EVIL, 2)}
    assert f"10.0.0.1 is claimed by {EVIL} (outside); before, it was {MAC_A}'s (outside)" in running.said()
    # A MAC address moves to the other side, with another address.
    assert crosses(b, a, arp(EVIL, "10.0.0.5"))
    running.wait_for(lambda: "that MAC address was on the other side" in running.said(), "the move")


def test_a_flood_of_addresses_floods_nothing(bridge, network):
    running = bridge(policy(""), net=network())
    a, b = running.network.a, running.network.b
    head = arp(MAC_A, "10.0.0.1")
    for first in range(0, 80_000, 2000):
        a.send(*(head[:28] + (0x0B000000 + number).to_bytes(4, "big") + head[32:] for number in range(first, first + 2000)))
        b.receive(2000, timeout=0.05)
    changing = [head[:22] + number.to_bytes(6, "big") + head[28:] for number in range(0x020000000000, 0x020000000400)]
    running.wait_for(lambda: running.status()["identities"]["known"] > 1000, "the addresses")
    assert crosses(a, b, head)
    running.wait_for(lambda: "too many at once" in running.said(), "what was lost")
    a.send(*changing)
    running.wait_for(lambda: running.status()["identities"]["changes"] > 0, "changes")
    status = running.status()
    assert status["identities"]["known"] <= 65_536 and len(status["identities"]["latest"]) <= 32
    assert running.said().count("before, it was") <= 60
    assert crosses(a, b, datagram(number=7))
