/// What an exporter is: takes what happened, and delivers it to a system of somebody else's.
import AsyncHTTPClient
import NIOHTTP1
import NIOPosix
import NIOSSL
