// swift-tools-version: 6.1
// Benchmarks of the packet path, in a package of their own: whoever builds Sekisho does not build these.
//
//   cd Bench && swift package benchmark
import PackageDescription

let package = Package(
    name: "sekisho-bench",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(name: "sekisho", path: ".."),
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
    ],
    targets: [
        .executableTarget(
            name: "PacketPath",
            dependencies: [
                .product(name: "Benchmark", package: "benchmark"),
                .product(name: "SekishoCore", package: "sekisho"),
            ],
            path: "Benchmarks/PacketPath",
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")])
    ]
)
