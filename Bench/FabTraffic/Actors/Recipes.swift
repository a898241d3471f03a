// Recipes for every lot, and the logs that go back: FTP, SMB or SFTP, by the maker's taste.

import Frames

extension FabPlan {
    mutating func addRecipes() {
        for tool in tools {
            let rate = scenario.lotsPerHour
            switch tool.kind {
            case .etch, .deposition, .clean:
                let ftp = server(tool.number % 2 == 0 ? "recipes-ftp-1" : "recipes-ftp-2")
                let control = line("recipes by FTP", tool.main, ftp, .tcp, 21, perDay: rate * 18)
                // The whole of Windows' dynamic ports, as its FTP service takes them.
                let data = line("recipes by FTP", tool.main, ftp, .tcp, 49152, through: 65535, perDay: rate * 36)
                transfers.append(
                    FileTransfers(
                        control: control, data: data, ports: 16384, perHour: rate, rhythm: .production, bytes: 200_000, isUpload: false,
                        random: random()))
            case .lithography, .metrology:
                let sftp = server("recipes-sftp")
                let line = line("recipes by SFTP", tool.main, sftp, .tcp, 22, perDay: rate * 18)
                exchanges.append(
                    Exchanges(
                        line, perHour: rate, rhythm: .production, out: .payload(40_000), back: .payload(2_000_000), lasting: 2 * Span.second,
                        failures: scenario.failures, random: random()))
            case .track, .implant, .polish:
                let share = server("recipes-smb")
                let line = line("recipes by SMB", tool.main, share, .tcp, 445, perDay: rate * 18)
                exchanges.append(
                    Exchanges(
                        line, perHour: rate, rhythm: .production, out: .payload(20_000), back: .payload(600_000), lasting: 5 * Span.second,
                        failures: scenario.failures, random: random()))
            }
            // Process logs, for fault detection.
            let logs = server("tool-logs")
            let line = line("logs by SMB", tool.main, logs, .tcp, tool.isWindows ? 445 : 22, perDay: 12)
            exchanges.append(
                Exchanges(
                    line, perHour: 0.6, rhythm: .production, out: .payload(1_500_000), back: .payload(30_000), lasting: 3 * Span.second,
                    failures: scenario.failures, random: random()))
        }
    }
}
