"""The factory's host (MES): SECS/GEM host, active HSMS (secsgem).

Selects, establishes communication (S1F13), then asks about ten times a
second, in turn: are you there (S1F1), a status variable (S1F3), linktest.
"""

import itertools
import time

import secsgem.common
import secsgem.gem
import secsgem.hsms

import program

CHUCK_TEMPERATURE = 10
PERIOD_SECONDS = 0.1
# SEMI E37's usual 45 s (T3) would outlast the demo: a reply that takes this
# long is lost as far as anybody watching is concerned.
REPLY_TIMEOUT_SECONDS = 3

parser = program.arguments(__doc__)
parser.add_argument("--tool", required=True)
parser.add_argument("--port", type=int, default=5000)
args = parser.parse_args()

host = secsgem.gem.GemHostHandler(
    secsgem.hsms.HsmsSettings(
        address=args.tool,
        port=args.port,
        connect_mode=secsgem.hsms.HsmsConnectMode.ACTIVE,
        device_type=secsgem.common.DeviceType.HOST,
        t3=REPLY_TIMEOUT_SECONDS,
        t6=REPLY_TIMEOUT_SECONDS,
    )
)

asks = itertools.cycle([
    host.are_you_there,
    lambda: host.send_and_waitfor_response(host.stream_function(1, 3)([CHUCK_TEMPERATURE])),
    host.protocol.send_linktest_req,
])

with program.Result(args.result, {
    "connected": 0, "selected": 0, "communicating": False, "select_ms": None,
    "sent": 0, "answered": 0, "disconnected": 0, "rtt_ms": {},
}) as result:
    began = time.monotonic()

    def on_selected(_):
        result.count("selected")
        if result["select_ms"] is None:
            result.set(select_ms=(time.monotonic() - began) * 1e3)

    host.protocol.events.connected += lambda _: result.count("connected")
    host.protocol.events.communicating += on_selected
    host.protocol.events.disconnected += lambda _: result.count("disconnected")
    host.events.handler_communicating += lambda _: result.set(communicating=True)
    host.enable()

    round_trips = program.Histogram()
    while not result.stop.wait(PERIOD_SECONDS):
        if not result["communicating"]:
            continue
        asked = time.monotonic()
        result.count("sent")
        if next(asks)() is not None:
            round_trips.add(time.monotonic() - asked)
            result.count("answered")
            result.set(rtt_ms=round_trips.milliseconds())
