// A thread that can be waited for.

import Glibc

public final class PThread {
    private var thread = pthread_t()

    public init(_ body: @escaping @Sendable () -> Void) {
        let argument = Unmanaged.passRetained(Body(body)).toOpaque()
        pthread_create(&thread, nil, { argument in
            Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().body()
            return nil
        }, argument)
    }

    public func join() { pthread_join(thread, nil) }

    private final class Body {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}
