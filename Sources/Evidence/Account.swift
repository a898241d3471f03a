// Whose account something is done by, and who says to do it.

import Foundation

public enum Account {
    /// - Parameters:
    ///   - user: as the kernel says; -1: it cannot be told.
    ///   - said: the name that was given besides.
    /// - Returns: "tanaka (as root)"; what is in brackets, or stands alone, is the account.
    public static func name(_ user: Int64, saying said: String? = nil) -> String {
        let account = name(of: user)
        guard let said, !said.isEmpty, said != account else { return account }
        return "\(said) (as \(account))"
    }

    private static func name(of user: Int64) -> String {
        guard let id = uid_t(exactly: user) else { return "unknown" }
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var room = [CChar](repeating: 0, count: 4096)
        return room.withUnsafeMutableBufferPointer { room in
            guard getpwuid_r(id, &entry, room.baseAddress!, room.count, &found) == 0, let name = found?.pointee.pw_name else { return "uid \(id)" }
            return String(cString: name)
        }
    }
}
