"""The tool: SECS/GEM equipment, passive HSMS (secsgem)."""

import time

import secsgem.common
import secsgem.gem
import secsgem.hsms
import secsgem.secs
from secsgem.hsms.connection_state_machine import ConnectionState
from secsgem.hsms.protocol import HsmsProtocol

import program

CHUCK_TEMPERATURE = 10  # the status variable the host reads with S1F3

parser = program.arguments(__doc__)
parser.add_argument("--address", required=True)
parser.add_argument("--port", type=int, default=5000)
args = parser.parse_args()


class Protocol(HsmsProtocol):
    """secsgem 0.3.0 begins to handle messages a moment before it takes note of
    the connection they came by. A Select.req that arrives in that moment is
    answered and then forgotten: the host believes itself selected, the tool
    rejects all it says."""

    def _on_connection_message_received(self, source, message):
        patience = time.monotonic() + 1
        while self.connection_state.current == ConnectionState.NOT_CONNECTED and time.monotonic() < patience:
            time.sleep(0.001)
        super()._on_connection_message_received(source, message)


class Settings(secsgem.hsms.HsmsSettings):
    def create_protocol(self) -> HsmsProtocol:
        return Protocol(self)


equipment = secsgem.gem.GemEquipmentHandler(
    Settings(
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
