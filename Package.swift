// swift-tools-version: 6.1
// Sekisho: a transparent two-port bridge that lets only allowed conversations pass.
//
// A target is a layer: it may import only what stands above it in this file.
import PackageDescription

let swift: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
]

/// The packet path. Its `@_noLocks @_noAllocation` are proved in release builds: the
/// proof follows calls from file to file, and only they take a module as a whole. Exclusivity
/// is proved by the compiler there (structs of
/// `let` pointers and `inout`), so the run-time check, which costs up to ten
/// times the lookup (see docs/performance.md), is taken out.
let packetPath: [SwiftSetting] = swift + [
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]

let package = Package(
    name: "sekisho",
    products: [
        .executable(name: "sekisho", targets: ["sekisho"]),
        .executable(name: "c-forwarder", targets: ["c-forwarder"]),
        .executable(name: "path-cost", targets: ["path-cost"]),
        .executable(name: "fab-traffic", targets: ["fab-traffic"]),
        .executable(name: "learning", targets: ["learning"]),
        .executable(name: "detecting", targets: ["detecting"]),
        .library(name: "SekishoCore", targets: ["Frames", "Allowlist", "Policy", "Datapath", "Captures"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    ],
    targets: [
        // C headers that Swift cannot reach by itself.
        .target(name: "CLinux", linkerSettings: [.linkedLibrary("bpf"), .linkedLibrary("elf"), .linkedLibrary("z"), .linkedLibrary("seccomp")]),
        .target(name: "CTOML"),
        .systemLibrary(name: "CPcap", pkgConfig: "libpcap", providers: [.apt(["libpcap-dev"])]),

        // The packet path, lowest first.
        .target(name: "Frames", swiftSettings: packetPath),
        .target(name: "Allowlist", dependencies: ["Frames", "CLinux"], swiftSettings: packetPath),
        .target(
            name: "Datapath", dependencies: ["Frames", "Allowlist", "CLinux"],
            swiftSettings: packetPath, plugins: ["EmbedBPF"]),

        // The control side.
        .target(name: "Captures", dependencies: ["CPcap"], swiftSettings: swift),
        .target(name: "Policy", dependencies: ["Frames", "Allowlist", "CTOML"], swiftSettings: swift),
        .target(
            name: "Baseline",
            dependencies: ["Frames", "Allowlist", "Policy", .product(name: "GRDB", package: "GRDB.swift")],
            exclude: ["Page/baseline.html"], swiftSettings: swift, plugins: ["EmbedBPF"]),
        .target(
            name: "Evidence",
            dependencies: [
                "Policy", "Baseline", .product(name: "GRDB", package: "GRDB.swift"), .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: swift),
        .target(
            name: "Detection",
            dependencies: ["Frames", "Allowlist", "Policy", "Baseline", .product(name: "GRDB", package: "GRDB.swift")], swiftSettings: swift),
        .target(
            name: "Export",
            dependencies: [
                "Policy", "Baseline", "Evidence", "Detection", .product(name: "Logging", package: "swift-log"),
                .product(name: "GRDB", package: "GRDB.swift"), .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"), .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: swift),
        .target(
            name: "Report", dependencies: ["Policy", "Baseline", "Evidence", "Detection"], swiftSettings: swift),
        .target(
            name: "Control",
            dependencies: [
                "Datapath", "Policy", "Baseline", "Evidence", "Detection", "CLinux", .product(name: "Logging", package: "swift-log"),
                .product(name: "Crypto", package: "swift-crypto"), .product(name: "GRDB", package: "GRDB.swift"),
            ],
            swiftSettings: swift),
        .target(
            name: "Measure", dependencies: ["Datapath", "Policy", "Captures", "CLinux"], exclude: ["Report/report.html"],
            swiftSettings: swift, plugins: ["EmbedBPF"]),
        .executableTarget(
            name: "sekisho",
            dependencies: [
                "Control", "Datapath", "Policy", "Captures", "Measure", "Baseline", "Evidence", "Detection", "Export", "Report",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: swift),

        // The C twin of the packet path (docs/performance.md): what is compared with it does not come with the bridge.
        .target(name: "CTwin", path: "Bench/CTwin", cSettings: [.unsafeFlags(["-O3"], .when(configuration: .release))]),
        .executableTarget(
            name: "c-forwarder", dependencies: ["CTwin"], path: "Bench/c-forwarder", linkerSettings: [.linkedLibrary("bpf")]),
        .executableTarget(name: "c-selftest", dependencies: ["CTwin"], path: "Bench/c-selftest"),
        .executableTarget(
            name: "path-cost", dependencies: ["Datapath", "Allowlist", "Frames", "CTwin"], path: "Bench/PathCost",
            swiftSettings: packetPath),

        // A fab's traffic with the truth about it: learning and detection are measured against it.
        .target(name: "FabTraffic", dependencies: ["Frames", "Allowlist"], path: "Bench/FabTraffic", swiftSettings: swift),
        .executableTarget(
            name: "fab-traffic", dependencies: ["FabTraffic", "Frames"], path: "Bench/fab-traffic", swiftSettings: swift),
        .target(name: "FabLearning", dependencies: ["Baseline", "FabTraffic", "Captures", "Frames", "Allowlist"], path: "Bench/FabLearning", swiftSettings: swift),
        .executableTarget(
            name: "learning", dependencies: ["Baseline", "FabLearning", "FabTraffic", "Frames", "Allowlist"], path: "Bench/Learning",
            swiftSettings: swift),
        .executableTarget(
            name: "detecting", dependencies: ["Detection", "Baseline", "FabLearning", "FabTraffic", "Frames", "Allowlist"], path: "Bench/Detecting",
            swiftSettings: swift),

        // Builds BPF/ with the toolchain's clang and embeds the object.
        .executableTarget(name: "bpf-embed", swiftSettings: swift),
        .plugin(name: "EmbedBPF", capability: .buildTool(), dependencies: ["bpf-embed"]),

        .target(name: "TestSupport", dependencies: ["Frames"], path: "Tests/TestSupport", swiftSettings: swift),
        .executableTarget(
            name: "parse-capture", dependencies: ["Frames", "Captures"], path: "Tests/ParseCapture", swiftSettings: swift),
        .testTarget(name: "FramesTests", dependencies: ["Frames", "TestSupport"], swiftSettings: swift),
        .testTarget(name: "AllowlistTests", dependencies: ["Allowlist", "TestSupport"], swiftSettings: swift),
        .testTarget(name: "PolicyTests", dependencies: ["Policy", "Captures", "TestSupport"], swiftSettings: swift),
        .testTarget(
            name: "BaselineTests", dependencies: ["Baseline", "Policy", "Allowlist", "Frames", "TestSupport"], swiftSettings: swift),
        .testTarget(name: "ControlTests", dependencies: ["Control", "Baseline", "Detection", "Policy", "Allowlist", "Frames"], swiftSettings: swift),
        .testTarget(
            name: "EvidenceTests",
            dependencies: ["Evidence", "Policy", .product(name: "Crypto", package: "swift-crypto"), .product(name: "GRDB", package: "GRDB.swift")],
            swiftSettings: swift),
        .testTarget(
            name: "ExportTests",
            dependencies: [
                "Export", "Baseline", "Evidence", "Detection", "Policy", "Allowlist", "Frames", .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "GRDB", package: "GRDB.swift"),
            ],
            swiftSettings: swift),
        .testTarget(
            name: "DetectionTests",
            dependencies: ["Detection", "Baseline", "Policy", "Allowlist", "Frames", .product(name: "GRDB", package: "GRDB.swift")], swiftSettings: swift),
        .testTarget(
            name: "ReportTests", dependencies: ["Report", "Detection", "Evidence", "Baseline", "Policy", "Allowlist", "Frames"], exclude: ["unused.txt"],
            swiftSettings: swift),
        .testTarget(
            name: "MeasureTests", dependencies: ["Measure", "Policy", "Allowlist", "Frames", "TestSupport"], swiftSettings: swift),
        .testTarget(name: "FabTrafficTests", dependencies: ["FabTraffic", "Allowlist", "Frames"], swiftSettings: swift),
        .testTarget(name: "DatapathTests", dependencies: ["Datapath", "CLinux", "TestSupport"], swiftSettings: swift),
    ],
    cxxLanguageStandard: .cxx17
)
