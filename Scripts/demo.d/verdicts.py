"""The checks that do not rest on the captures alone."""

import words
from console import Console


def hsms(console: Console, host: dict):
    console.check(
        "hsms", host["selected"] == 1 and host["disconnected"] == 0 and host["sent"] == host["answered"] > 0,
        f"selected in {host['select_ms']:.0f} ms, {host['sent']} messages, {host['answered']} answered, "
        f"{host['disconnected']} disconnects, {words.times(host['rtt_ms'])}", **host)


def modbus(console: Console, host: dict):
    console.check(
        "modbus", host["errors"] == 0 and host["connects"] == 1 and host["polls"] > 0,
        f"{host['polls']} polls, {host['errors']} errors, {host['connects'] - 1} reconnects, "
        f"longest gap {host['longest_gap_ms']:.0f} ms, {words.times(host['rtt_ms'])}", **host)


def swaps(console: Console, applied: list[dict], host: dict, tool: dict, stream: dict,
          resent: dict[str, int | None], dropped: int, missing: int):
    """`host` and `tool`: the probe's two ends; `missing`: frames that the
    captures have on one side only although the policy allows them."""
    lost = {"to the tool": host["sent"] - tool["received"], "back": tool["received"] - host["echoed"]}
    disordered = host["disordered"] + tool["disordered"] + stream["gaps"] + stream["duplicates"]
    # On a machine so busy that an answer takes 200 ms, TCP sends again what
    # was never lost. That is forgiven if, and only if, the captures have every
    # single frame on both sides.
    patient = all(count == 0 for count in resent.values())
    impatient = not patient and None not in resent.values() and not missing
    slowest = max((one["swap_us"] for one in applied if "swap_us" in one), default=float("nan"))
    console.check(
        "swaps",
        host["sent"] > 0 and not any(lost.values()) and not disordered and not dropped and (patient or impatient),
        f"{len(applied)} swaps, the slowest {slowest:.0f} µs; of {host['sent']} numbered datagrams "
        + ", ".join(f"{count} lost on the way {way}" for way, count in lost.items())
        + f", {disordered} out of order; TCP segments sent again: "
        + ", ".join(f"{name} {'(no connection)' if count is None else count}" for name, count in resent.items())
        + (" (though every original crossed)" if impatient else "") + f"; Sekisho dropped {dropped}",
        slowest_swap_us=slowest, sent=host["sent"], received=tool["received"], echoed=host["echoed"],
        disordered=disordered, resent=resent, dropped=dropped, applied=applied)


def links(console: Console, before: dict[str, int], after: dict[str, int], events: int):
    changes = sum(after[name] - count for name, count in before.items())
    console.check(
        "links", changes == 0 and events == 0,
        f"{changes} carrier changes on {len(after)} ends of the cables, {events} link events over the swaps",
        carrier_changes=changes, link_events=events)


def alerts(console: Console, alerts: list[dict], addresses, told_ms: float, limit_ms: float):
    """One, of the laptop, that names it and whom it pretends to be."""
    stories = [alert["story"] for alert in alerts]
    held = len(alerts) == 1 and told_ms <= limit_ms and alerts[0]["device"].get("mac") == addresses.laptop_mac and all(
        word in stories[0] for word in (addresses.laptop, addresses.mes, addresses.tool))
    kinds = ", ".join(behaviour["kind"] for alert in alerts for behaviour in alert["behaviours"])
    console.check(
        "alert", held, f"{len(alerts)} alert{'s' if len(alerts) != 1 else ''} ({kinds}), found {told_ms:.0f} ms after its first frame; "
        + (f"it names {addresses.laptop}, {addresses.mes} and {addresses.tool}" if held else "; ".join(stories)),
        told_ms=told_ms, alerts=alerts)


def response(console: Console, orders: list[dict], addresses, frames: int):
    own = [order for order in orders if addresses.laptop_mac in order["macs"]]
    console.check(
        "respond", len(own) == len(orders) == 1 and frames > 0,
        f"{', '.join(order['device'] for order in orders) or 'nobody'} in quarantine, for {orders[0]['until'] - orders[0]['since'] if orders else 0} s; "
        f"{frames} frames stopped by it", orders=orders, frames=frames)


def end(console: Console, left: dict):
    console.check(
        "clean", left["exit_status"] == 0 and not left["xdp_left_on"] and not left["socket_left"],
        f"exit status {left['exit_status']}, XDP left on {' and '.join(left['xdp_left_on']) or 'no port'}, "
        f"control socket {'left behind' if left['socket_left'] else 'gone'}", **left)
