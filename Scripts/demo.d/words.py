"""Words for what was measured."""


def ports(ports: dict) -> str:
    def one(tally: dict) -> str:
        outcomes = [name for name in ("connected", "refused", "no answer") if tally.get(name)]
        return " and ".join(outcomes) or "not tried"
    return ", ".join(f"{port} {one(tally)}" for port, tally in ports.items())


def times(times: dict) -> str:
    return f"RTT p50 {times['p50']:.1f} ms, p99 {times['p99']:.1f} ms" if times else "no round trip"


def swap(applied: dict) -> str:
    words = [f"{verb} in {applied[key]:{form}} {unit}" for verb, key, form, unit in (
        ("built", "build_ms", ".1f", "ms"), ("swapped", "swap_us", ".0f", "µs")) if key in applied]
    return ", ".join(words) or f"answered in {(applied['answered'] - applied['asked']) * 1e3:.0f} ms"
