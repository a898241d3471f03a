// One file of several, as tar has it (POSIX.1-1988 ustar): what Sekisho packs, `tar xf` unpacks, should Sekisho not be there.
// The first file is a manifest with the SHA-256 of all others.

import Crypto
import Foundation
import Policy

/// What is in an archive.
public struct ArchiveManifest: Codable, Sendable {
    public struct File: Codable, Sendable {
        public var name: String
        public var bytes: UInt64
        public var sha256: String
        /// What it is, or where it was.
        public var about: String

        public init(name: String, bytes: UInt64, sha256: String, about: String) {
            self.name = name
            self.bytes = bytes
            self.sha256 = sha256
            self.about = about
        }
    }

    /// "backup" or "support".
    public var kind: String
    /// Of this layout; a later one is refused.
    public var format = 1
    public var created: Date
    public var sekishoVersion: String
    public var files: [File]

    public init(kind: String, created: Date, sekishoVersion: String, files: [File]) {
        self.kind = kind
        self.created = created
        self.sekishoVersion = sekishoVersion
        self.files = files
    }

    static let name = "manifest.json"
    static let newestFormat = 1
    /// A longer one is no manifest.
    static let mostBytes = 1 << 20
}

/// Why an archive cannot be made or used.
public struct ArchiveError: Error, CustomStringConvertible, Sendable {
    public let description: String
    public init(_ text: String) { description = text }
}

extension SHA256.Digest {
    var hex: String { map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
}

enum Tar {
    static let block = 512

    /// - Parameter name: at most 100 bytes.
    static func header(_ name: String, bytes: UInt64, time: Date) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: block)
        func put(_ text: String, at place: Int) { header.replaceSubrange(place..<place + text.utf8.count, with: text.utf8) }
        func octal(_ number: UInt64, _ digits: Int) -> String {
            let text = String(number, radix: 8)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        put(name, at: 0)
        put("0000600\u{0}0000000\u{0}0000000\u{0}", at: 100)
        if bytes < 1 << 33 {
            put(octal(bytes, 11), at: 124)
        } else {
            // As GNU tar writes what eleven octal digits cannot say.
            header[124] = 0x80
            for i in 0..<8 { header[128 + i] = UInt8(truncatingIfNeeded: bytes >> UInt64(56 - 8 * i)) }
        }
        put(octal(UInt64(max(0, time.timeIntervalSince1970)), 11), at: 136)
        put("        0", at: 148)
        put("ustar\u{0}00", at: 257)
        put(octal(header.reduce(0) { $0 + UInt64($1) }, 6) + "\u{0} ", at: 148)
        return header
    }

    static func padding(_ bytes: UInt64) -> [UInt8] { [UInt8](repeating: 0, count: Int((UInt64(block) - bytes % UInt64(block)) % UInt64(block))) }

    static let end = [UInt8](repeating: 0, count: 2 * block)

    /// - Returns: nil at the end.
    static func read(_ header: [UInt8]) throws(ArchiveError) -> (name: String, bytes: UInt64)? {
        if header.allSatisfy({ $0 == 0 }) { return nil }
        func number(_ range: Range<Int>) -> UInt64? {
            UInt64(String(decoding: header[range].filter { $0 != 0 && $0 != 0x20 }, as: UTF8.self), radix: 8)
        }
        let sum = header.enumerated().reduce(UInt64(0)) { $0 + (148..<156 ~= $1.offset ? 0x20 : UInt64($1.element)) }
        let isFile = header[156] == UInt8(ascii: "0") || header[156] == 0
        let bytes = header[124] == 0x80 ? header[128..<136].reduce(UInt64(0)) { $0 << 8 | UInt64($1) } : number(124..<136)
        guard header[257..<262].elementsEqual("ustar".utf8), number(148..<156) == sum, isFile, let bytes, bytes < 1 << 62 else {
            throw ArchiveError("it is damaged, or was not made by Sekisho")
        }
        return (String(decoding: header[0..<100].prefix { $0 != 0 }, as: UTF8.self), bytes)
    }
}

/// Packs files, each given as what it consists of.
public struct ArchiveWriter {
    private let write: ([UInt8]) -> Void
    private let time: Date

    /// Begins with the manifest.
    ///
    /// - Parameter write: takes the archive, piece by piece.
    public init(_ manifest: ArchiveManifest, write: @escaping ([UInt8]) -> Void) throws {
        self.write = write
        time = manifest.created
        add(ArchiveManifest.name, [UInt8](try MachineFormat.encoder().encode(manifest)))
    }

    public func add(_ name: String, _ bytes: [UInt8]) {
        write(Tar.header(name, bytes: UInt64(bytes.count), time: time))
        write(bytes)
        write(Tar.padding(UInt64(bytes.count)))
    }

    /// Of a file that nobody changes meanwhile.
    func add(_ name: String, bytes: UInt64, from path: String) throws(ArchiveError) {
        write(Tar.header(name, bytes: bytes, time: time))
        var count: UInt64 = 0
        try FilePieces.read(path) { piece in
            count += UInt64(piece.count)
            write(piece)
        }
        guard count == bytes else { throw ArchiveError("reading \(path): it changed meanwhile") }
        write(Tar.padding(bytes))
    }

    public func finish() { write(Tar.end) }
}

enum FilePieces {
    static func read(_ path: String, _ body: ([UInt8]) -> Void) throws(ArchiveError) {
        guard let file = FileHandle(forReadingAtPath: path) else { throw ArchiveError("reading \(path): \(String(cString: strerror(errno)))") }
        defer { try? file.close() }
        do {
            while let data = try file.read(upToCount: 1 << 20), !data.isEmpty { body([UInt8](data)) }
        } catch { throw ArchiveError("reading \(path): \(error.localizedDescription)") }
    }

    static func digest(_ path: String) throws(ArchiveError) -> (bytes: UInt64, sha256: String) {
        var digest = SHA256(), bytes: UInt64 = 0
        try read(path) { piece in
            bytes += UInt64(piece.count)
            digest.update(data: piece)
        }
        return (bytes, digest.finalize().hex)
    }
}

/// Reads an archive from its beginning to its end; believes nothing that it has not checked.
struct ArchiveReader {
    let manifest: ArchiveManifest
    private let file: FileHandle
    private let path: String

    init(_ path: String, kind: String) throws(ArchiveError) {
        guard let file = FileHandle(forReadingAtPath: path) else { throw ArchiveError("reading \(path): \(String(cString: strerror(errno)))") }
        (self.file, self.path) = (file, path)
        guard let first = try Self.next(file, path), first.name == ArchiveManifest.name, first.bytes <= UInt64(ArchiveManifest.mostBytes) else {
            throw ArchiveError("reading \(path): it is no \(kind) of Sekisho's")
        }
        let text = try Self.take(file, path, Int(first.bytes))
        _ = try Self.take(file, path, Tar.padding(first.bytes).count)
        guard let manifest = try? MachineFormat.decoder().decode(ArchiveManifest.self, from: Data(text)), manifest.kind == kind else {
            throw ArchiveError("reading \(path): it is no \(kind) of Sekisho's")
        }
        guard manifest.format <= ArchiveManifest.newestFormat else {
            throw ArchiveError("reading \(path): it is of format \(manifest.format), and this program knows \(ArchiveManifest.newestFormat)\n  → use the program that made it, or a later one")
        }
        let names = manifest.files.map(\.name)
        guard Set(names).count == names.count, names.allSatisfy(Self.isPlain) else { throw ArchiveError("reading \(path): its manifest is damaged") }
        self.manifest = manifest
    }

    /// No folder, nothing hidden: a name from an archive becomes that of a file.
    private static func isPlain(_ name: String) -> Bool {
        !name.hasPrefix(".") && (1...100).contains(name.utf8.count)
            && name.utf8.allSatisfy { UInt8(ascii: "a")...UInt8(ascii: "z") ~= $0 || UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || [45, 46, 95].contains($0) }
    }

    /// Every file in turn, in pieces; all must be there, and be what the manifest says.
    ///
    /// - Parameter body: is given a piece; nil at a file's end, when it is known to be whole.
    func forEach(_ body: (ArchiveManifest.File, [UInt8]?) throws(ArchiveError) -> Void) throws(ArchiveError) {
        for wanted in manifest.files {
            guard let found = try Self.next(file, path), found.name == wanted.name, found.bytes == wanted.bytes else {
                throw ArchiveError("reading \(path): \(wanted.name) is missing or damaged")
            }
            var digest = SHA256(), left = found.bytes
            while left > 0 {
                let piece = try Self.take(file, path, Int(min(left, 1 << 20)))
                left -= UInt64(piece.count)
                digest.update(data: piece)
                try body(wanted, piece)
            }
            guard digest.finalize().hex == wanted.sha256 else { throw ArchiveError("reading \(path): \(wanted.name) is not what was packed (SHA-256)") }
            _ = try Self.take(file, path, Tar.padding(found.bytes).count)
            try body(wanted, nil)
        }
        guard try Self.next(file, path) == nil else { throw ArchiveError("reading \(path): it holds more than its manifest says") }
    }

    private static func next(_ file: FileHandle, _ path: String) throws(ArchiveError) -> (name: String, bytes: UInt64)? {
        do throws(ArchiveError) { return try Tar.read(take(file, path, Tar.block)) } catch {
            throw error.description.hasPrefix("reading") ? error : ArchiveError("reading \(path): \(error)")
        }
    }

    private static func take(_ file: FileHandle, _ path: String, _ count: Int) throws(ArchiveError) -> [UInt8] {
        var bytes: [UInt8] = []
        do {
            while bytes.count < count, let data = try file.read(upToCount: count - bytes.count), !data.isEmpty { bytes += data }
        } catch { throw ArchiveError("reading \(path): \(error.localizedDescription)") }
        guard bytes.count == count else { throw ArchiveError("reading \(path): it ends too early") }
        return bytes
    }
}
