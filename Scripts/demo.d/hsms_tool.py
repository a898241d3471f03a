"""The tool: SECS/GEM equipment, passive HSMS (secsgem)."""

import secsgem.common
import secsgem.gem
import secsgem.hsms
import secsgem.secs

import program

CHUCK_TEMPERATURE = 10  # the status variable the host reads with S1F3

parser = program.arguments(__doc__)
parser.add_argument("--address", required=True)
parser.add_argument("--port", type=int, default=5000)
args = parser.parse_args()

equipment = secsgem.gem.GemEquipmentHandler(
    secsgem.hsms.HsmsSettings(
        address=args.address,
        port=args.port,
        connect_mode=secsgem.hsms.HsmsConnectMode.PASSIVE,
        device_type=secsgem.common.DeviceType.EQUIPMENT,
    ),
    initial_control_state="ONLINE",
)
temperature = secsgem.gem.StatusVariable(
    CHUCK_TEMPERATURE, "ChuckTemperature", "mK", secsgem.secs.variables.U4, use_callback=False
)
temperature.value = 295_150
equipment.status_variables[CHUCK_TEMPERATURE] = temperature


def listening() -> bool:
    # secsgem listens from a thread of its own and does not say when.
    wanted = f":{args.port:04X}"
    with open("/proc/self/net/tcp") as table:
        return any(fields[1].endswith(wanted) and fields[3] == "0A" for fields in map(str.split, table))


with program.Result(args.result, {"listening": False, "connected": 0, "selected": 0, "disconnected": 0}) as result:
    equipment.protocol.events.connected += lambda _: result.count("connected")
    equipment.protocol.events.communicating += lambda _: result.count("selected")
    equipment.protocol.events.disconnected += lambda _: result.count("disconnected")
    equipment.enable()
    while not result.stop.wait(0.05):
        result.set(listening=listening())
