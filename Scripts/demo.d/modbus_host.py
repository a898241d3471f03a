"""The facility's monitor: a Modbus/TCP client (pymodbus) that polls holding
registers fifty times a second."""

import time

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

import program

PERIOD_SECONDS = 0.02

parser = program.arguments(__doc__)
parser.add_argument("--tool", required=True)
parser.add_argument("--port", type=int, default=502)
args = parser.parse_args()

# No retries: one lost answer is one error in the result, not a longer poll.
client = ModbusTcpClient(args.tool, port=args.port, timeout=1, retries=0)

with program.Result(args.result, {
    "polls": 0, "errors": 0, "connects": 0, "longest_gap_ms": 0.0, "rtt_ms": {},
}) as result:
    round_trips = program.Histogram()
    last_answer = None
    next_poll = time.monotonic()
    while not result.stop.is_set():
        try:
            if not client.connected and client.connect():
                result.count("connects")
            asked = time.monotonic()
            answer = client.read_holding_registers(0, count=8, device_id=1)
            now = time.monotonic()
            if answer.isError():
                result.count("errors")
            else:
                result.count("polls")
                round_trips.add(now - asked)
                if last_answer is not None:
                    gap = (now - last_answer) * 1e3
                    result.set(longest_gap_ms=max(gap, result["longest_gap_ms"]))
                last_answer = now
                result.set(rtt_ms=round_trips.milliseconds())
        except (ModbusException, OSError):
            result.count("errors")
            client.close()
        next_poll = max(next_poll + PERIOD_SECONDS, time.monotonic())
        result.stop.wait(next_poll - time.monotonic())
