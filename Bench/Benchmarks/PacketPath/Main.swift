import Benchmark

// The package asks for exactly this name.
nonisolated(unsafe) let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(
        metrics: [.wallClock], timeUnits: .microseconds, warmupIterations: 2, maxDuration: .seconds(2), maxIterations: 60)
    exactBenchmarks()
    verdictBenchmarks()
    classBenchBenchmarks()
}
