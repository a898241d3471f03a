"""The tool's sub-fab unit: a Modbus/TCP server (pymodbus).

Says what its set point is: an attacker's write would show.
"""

import asyncio

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

import program

SET_POINT = 0  # holding register 0
REGISTERS = [22_000, 101, 102, 103, 104, 105, 106, 107]

parser = program.arguments(__doc__)
parser.add_argument("--address", required=True)
parser.add_argument("--port", type=int, default=502)
args = parser.parse_args()


async def serve(result: program.Result):
    async def on_access(function, start, address, count, registers, written):
        if written is not None:
            result.count("writes")
            if address == SET_POINT:
                result.set(set_point=written[0])

    server = ModbusTcpServer(
        SimDevice(id=1, simdata=SimData(0, values=REGISTERS, datatype=DataType.REGISTERS), action=on_access),
        address=(args.address, args.port),
    )
    await server.serve_forever(background=True)
    result.set(listening=True)
    while not result.stop.is_set():
        await asyncio.sleep(0.05)
    await server.shutdown()


with program.Result(args.result, {"listening": False, "set_point": REGISTERS[SET_POINT], "writes": 0}) as result:
    asyncio.run(serve(result))
