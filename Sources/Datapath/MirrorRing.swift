// Copies of frames on their way to the mirror port: whole frames of any length, from one worker to the thread that sends them.
//
//   worker ─ copy ─► │ length · frame │ length · frame │ … │ skip to the start │ ─► MirrorPort ─► third port
//
// One writer, one reader. When there is no room the copy is not made, and counted: the wire waits for nobody.

import CLinux
import Frames
import Glibc
import Synchronization

/// Owns the memory. Unchecked: one writer, one reader, and the words between them are atomic.
final class MirrorRing: @unchecked Sendable {
    fileprivate let memory: UnsafeMutableRawPointer
    /// See `Layout`.
    fileprivate let words: UnsafeMutablePointer<Atomic<UInt64>>
    fileprivate let capacity: Int

    /// - Parameter capacity: bytes, a power of two: a millisecond of 10 Gbit/s is 1.2 MB.
    init(capacity: Int = 4 << 20) {
        precondition(capacity >= 4096 && capacity & (capacity - 1) == 0)
        self.capacity = capacity
        memory = .allocate(byteCount: capacity, alignment: 4096)
        // Touched now, so that no frame waits for the kernel to find the memory.
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: capacity)
        words = UnsafeMutableRawPointer.allocate(byteCount: 384, alignment: 128).bindMemory(to: Atomic<UInt64>.self, capacity: 48)
        for i in 0..<48 { (words + i).initialize(to: Atomic(0)) }
    }

    deinit {
        memory.deallocate()
        words.deallocate()
    }

    /// The worker's end; it must not outlive this.
    var writer: MirrorWriter { MirrorWriter(memory: memory, words: words, capacity: capacity) }

    /// Frames that found no room.
    var lost: UInt64 { words[Layout.lost].load(ordering: .relaxed) }

    // MARK: The thread that sends

    /// The frames that wait, where they lie, until `release`.
    ///
    /// - Parameter list: filled with at most `most`.
    /// - Returns: where the next one begins.
    func look(_ list: inout [iovec], most: Int) -> UInt64 {
        list.removeAll(keepingCapacity: true)
        let put = words[Layout.put].load(ordering: .acquiring)
        var at = words[Layout.taken].load(ordering: .relaxed)
        while at < put, list.count < most {
            let place = Int(truncatingIfNeeded: at) & (capacity - 1)
            let length = (memory + place).load(as: UInt64.self)
            if length == Layout.skip {
                at += UInt64(capacity - place)
                continue
            }
            list.append(iovec(iov_base: memory + place + Layout.head, iov_len: Int(length)))
            at += UInt64(Layout.room(Int(length)))
        }
        return at
    }

    func release(_ upTo: UInt64) { words[Layout.taken].store(upTo, ordering: .releasing) }

}

/// How the memory is laid out. Outside the class: naming a class's type is not for the packet path.
private enum Layout {
    // Words: bytes put in; on a line of their own, frames that found no room; on another, bytes taken out.
    @inline(__always) static var put: Int { 0 }
    @inline(__always) static var lost: Int { 16 }
    @inline(__always) static var taken: Int { 32 }
    /// In front of each frame: its length, padded so that frames begin at multiples of 8.
    @inline(__always) static var head: Int { 8 }
    /// Instead of a length: the next frame is at the start.
    @inline(__always) static var skip: UInt64 { .max }

    @inline(__always)
    static func room(_ length: Int) -> Int { (head &+ length &+ 7) & ~7 }
}

/// For the packet path: trivial.
struct MirrorWriter: BitwiseCopyable {
    fileprivate let memory: UnsafeMutableRawPointer
    fileprivate let words: UnsafeMutablePointer<Atomic<UInt64>>
    fileprivate let capacity: Int

    /// A place for a frame, to be filled in and shown with `commit`; nil: there is no room, which is counted.
    @inline(__always)
    func place(_ length: Int) -> UnsafeMutableRawPointer? {
        var put = words[Layout.put].load(ordering: .relaxed)
        let free = UInt64(capacity) &- (put &- words[Layout.taken].load(ordering: .acquiring))
        let room = Layout.room(length)
        var at = Int(truncatingIfNeeded: put) & (capacity &- 1)
        let left = capacity &- at
        let skipped = room > left ? left : 0
        guard UInt64(room &+ skipped) <= free else {
            words[Layout.lost].store(words[Layout.lost].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
            return nil
        }
        if skipped > 0 {
            // Everything is a multiple of 8, so there is room for this word.
            (memory + at).storeBytes(of: Layout.skip, as: UInt64.self)
            put &+= UInt64(skipped)
            words[Layout.put].store(put, ordering: .releasing)
            at = 0
        }
        (memory + at).storeBytes(of: UInt64(length), as: UInt64.self)
        return memory + at + Layout.head
    }

    /// Release: the frame is written before the count that shows it.
    @inline(__always)
    func commit(_ length: Int) {
        words[Layout.put].store(
            words[Layout.put].load(ordering: .relaxed) &+ UInt64(Layout.room(length)), ordering: .releasing)
    }
}
