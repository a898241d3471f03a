// What is normal, by the history and the policy: who there is, of which class, who asks whom for what, and how often something of that is new.

import Allowlist
import Baseline
import Foundation
import Frames
import Policy

/// Devices that behave alike, as far as names go: those of a role, else those of a network.
enum DeviceClass: Hashable, Sendable {
    case role(Role)
    /// /24, or /64.
    case network(AddressWords)

    var isEquipment: Bool { self == .role(.equipment) || self == .role(.controller) }
}

extension AddressWords {
    /// IPv4-compatible IPv6 addresses are not in use: the words tell.
    var family: IPFamily { high == 0 && low >> 32 == 0 ? .ipv4 : .ipv6 }
    var network: AddressWords { family == .ipv4 ? AddressWords(high: 0, low: low & ~0xFF) : AddressWords(high: high, low: 0) }
    var written: String { written(family) }
}

/// A service somewhere.
struct ServiceKind: Hashable, Sendable {
    var ipProtocol: IPProtocol
    var port: Frames.Port

    init(_ key: ConversationKey) { (ipProtocol, port) = (key.ipProtocol, key.service) }
}

/// What a conversation that nobody knows is, measured by those that are known.
enum Novelty: Sendable, Hashable, CaseIterable {
    /// Others of the same class do the same.
    case alike
    /// From equipment to equipment.
    case lateral
    /// To a network in which no known device is.
    case outside
    /// Another service between two that have to do with each other.
    case acquainted
    case other
}

/// What the policy says of addresses.
public struct PolicyView: Sendable {
    public var mode: Mode
    var names: [AddressWords: String] = [:]
    private var hosts: Set<AddressWords> = []
    private var networks: [AddressPrefix] = []
    private var owners: [AddressWords: [MACAddress]] = [:]

    public init(_ document: PolicyDocument, mode: Mode? = nil) {
        self.mode = mode ?? document.mode
        var networks: Set<AddressPrefix> = []
        func add(_ prefix: AddressPrefix) {
            // "Any" names nobody.
            if prefix.isHost { hosts.insert(prefix.words) } else if prefix.length > 0 { networks.insert(prefix) }
        }
        for device in document.devices {
            for address in device.addresses {
                add(address)
                if address.isHost { names[address.words] = device.name }
                if !device.macs.isEmpty { owners[address.words] = device.macs }
            }
        }
        for rule in document.rules { for prefix in rule.clients + rule.servers { add(prefix) } }
        self.networks = Array(networks)
    }

    /// Cards that it binds addresses to.
    var cards: Set<MACAddress> { Set(owners.values.joined()) }

    /// Only the mode, and nobody's name.
    public init(mode: Mode) { self.mode = mode }

    /// Whether the policy says that this sender is somebody else. Of a frame that no rule allows, the cause says only that.
    func isForged(_ record: TrafficRecord) -> Bool {
        record.cause == .addressBinding || record.cause == .wrongSide || owners[record.source].map { !$0.contains(record.sourceMAC) } ?? false
    }

    /// Whether a device or a rule of it names this address, itself or in a network.
    func covers(_ address: AddressWords) -> Bool {
        let family = address.family
        return hosts.contains(address) || networks.contains { $0.family == family && $0.contains(address) }
    }
}

/// By the history. Made once, by a thread that has time.
public struct Norms: Sendable {
    struct Device: Sendable {
        var address: AddressWords
        /// nil: none known, several, or a router's, which stands for others.
        var mac: MACAddress?
        var side: Side?
    }

    /// A conversation as it may be expected.
    struct Expected: Sendable {
        var key: ConversationKey
        /// Silence after which it is missed, ns; 0: it comes and goes.
        var patience: UInt64 = 0
        /// Bit h: hour of the day (UTC) in which it never took place, nor in the two before and after it; 0: it has no hours.
        var closedHours: UInt32 = 0
        /// It never took place on Saturdays and Sundays, though it often could have.
        var isClosedAtWeekends = false
        /// Bytes and frames on one day that are far beyond what there was; on weekdays, at weekends.
        var mostBytes: (UInt64, UInt64) = (.max, .max)
        var mostFrames: (UInt64, UInt64) = (.max, .max)
        /// Only its client speaks.
        var isOneWay = false
    }

    private(set) var devices: [Device] = []
    private(set) var expected: [Expected] = []
    private(set) var routers: Set<MACAddress> = []
    private(set) var macs: Set<MACAddress> = []
    private(set) var roles: [AddressWords: Role] = [:]
    /// When it ends, ns since 1970.
    private(set) var end: UInt64 = 0
    /// In which anything was seen.
    private(set) var hours = 0

    private var networks: [AddressWords: Role?] = [:]
    private var habits = Habits()
    /// How many new conversations of a kind came, and how many on the worst day of one device.
    private var novelties: [Pool: (count: Int, most: Int)] = [:]
    /// By class: devices × days, of the time by which it is told what is new.
    private var deviceDays: [DeviceClass: Double] = [:]

    struct Pool: Hashable, Sendable {
        var client: DeviceClass
        var novelty: Novelty
    }

    /// Nothing is known.
    public init() {}

    /// A MAC address that stands for so many addresses is a router's.
    private static let routersAddresses = 5
    /// From so many hours on an unknown device may be called one, though it is not denied.
    static let hoursOfSense = 24
    /// Conversations that are watched one by one: memory is some 120 bytes for each.
    static let most = 1_000_000

    public init(_ whole: History) {
        let history = whole.forgetting(), review = Review(history)
        hours = history.hours.count
        end = UInt64(max(0, (history.hours.last ?? -1) + 1)) &* 3_600_000_000_000
        let rejected = history.decisions.contains { $0.verdict == .reject }
        let places = history.conversations.indices.filter { Self.isNormal(history.conversations[$0], review.reasons[$0]) }
            .filter { place in !rejected || history.decisions.last { $0.verdict != .forget && $0.covers(history.conversations[place].key) }?.verdict != .reject }
            .prefix(Self.most)
        let chosen = Array(places)
        addDevices(history, chosen)
        addClasses(history, chosen)
        addNovelties(history, chosen)
        let observed = ObservedHours(history.hours)
        expected = chosen.map { Self.expected(history.conversations[$0], observed) }
    }

    /// Whether it may be taken for what usually happens, whoever allows it.
    private static func isNormal(_ one: RecordedConversation, _ reasons: [ReviewReason]) -> Bool {
        if reasons.contains(.scanner) { return false }
        // What was mostly denied was not let in: it tells what is tried.
        if one.denied > 0, one.denied * 2 > one.frames { return false }
        // What failed for days is somebody's habit.
        if one.days.count >= 3 { return true }
        return !reasons.contains { [.unanswered, .refused, .addressConflict].contains($0) }
    }

    // MARK: - Who there is

    private mutating func addDevices(_ history: History, _ places: [Int]) {
        var owned: [MACAddress: Set<AddressWords>] = [:], uses: [AddressWords: [RecordedAddress]] = [:]
        for one in history.addresses {
            owned[one.address.mac, default: []].insert(one.address.address)
            uses[one.address.address, default: []].append(one)
        }
        routers = Set(owned.filter { $0.value.count >= Self.routersAddresses }.keys)
        // Who only scanned, or forged, is known for nothing else: its MAC address stays unknown.
        var addresses: Set<AddressWords> = []
        for place in places {
            addresses.insert(history.conversations[place].key.client)
            if !history.conversations[place].isToGroup { addresses.insert(history.conversations[place].key.server) }
        }
        for address in addresses.sorted() {
            let own = (uses[address] ?? []).sorted { $0.first < $1.first }
            var device = Device(address: address, mac: nil, side: nil)
            if let first = own.first {
                // Whoever had it first, unless that was gone before the next one came.
                var mac = first.address.mac, last = first.last
                for one in own.dropFirst() where one.address.mac != mac && one.first > last {
                    (mac, last) = (one.address.mac, one.last)
                }
                if !own.contains(where: { routers.contains($0.address.mac) }) { device.mac = mac }
                let sides = Set(own.filter { $0.address.mac == mac }.compactMap(\.address.side))
                if sides.count == 1, device.mac != nil { device.side = sides.first }
            }
            if let mac = device.mac { macs.insert(mac) }
            devices.append(device)
        }
    }

    private mutating func addClasses(_ history: History, _ places: [Int]) {
        roles = Role.all(history, places)
        // Where most are of one trade, the others are too: a tool whose host uses an unusual port.
        var counts: [AddressWords: [Role: Int]] = [:]
        for device in devices { counts[device.address.network, default: [:]][roles[device.address] ?? .device, default: 0] += 1 }
        for (network, roles) in counts {
            let all = roles.values.reduce(0, +)
            let trade = roles.first { [.equipment, .controller].contains($0.key) && $0.value * 2 > all }?.key
            networks[network] = .some(trade)
        }
    }

    func deviceClass(_ address: AddressWords) -> DeviceClass {
        // A tool that takes recipes by FTP looks like a file server.
        if let role = roles[address], ![.device, .workstation, .fileServer, .database].contains(role) { return .role(role) }
        if let trade = networks[address.network], let trade { return .role(trade) }
        if let role = roles[address], role == .fileServer || role == .database { return .role(role) }
        return .network(address.network)
    }

    // MARK: - Who asks whom

    /// Of classes: what they ask each other for.
    struct Habits: Sendable {
        struct Asked: Hashable { var client: AddressWords, service: ServiceKind, server: DeviceClass }
        struct Served: Hashable { var client: DeviceClass, service: ServiceKind, server: AddressWords }
        struct Classes: Hashable { var client: DeviceClass, service: ServiceKind, server: DeviceClass }
        struct Pair: Hashable { var client: AddressWords, server: AddressWords }

        private var asked: Set<Asked> = []
        private var served: Set<Served> = []
        private var classes: [Classes: Pair] = [:]
        /// With two pairs at least.
        private var common: Set<Classes> = []
        private var pairs: Set<Pair> = []
        /// Sessions of FTP, whose data connections have ports of their own.
        private var ftp: Set<Pair> = []

        mutating func add(_ key: ConversationKey, _ client: DeviceClass, _ server: DeviceClass) {
            let service = ServiceKind(key), pair = Pair(client: key.client, server: key.server)
            asked.insert(Asked(client: key.client, service: service, server: server))
            served.insert(Served(client: client, service: service, server: key.server))
            let both = Classes(client: client, service: service, server: server)
            if let first = classes[both] { if first != pair { common.insert(both) } } else { classes[both] = pair }
            pairs.insert(pair)
            if key.ipProtocol == .tcp, key.service.rawValue == 21 { ftp.insert(pair) }
        }

        func areAcquainted(_ key: ConversationKey) -> Bool {
            pairs.contains(Pair(client: key.client, server: key.server)) || pairs.contains(Pair(client: key.server, server: key.client))
        }

        func hasAlike(_ key: ConversationKey, _ client: DeviceClass, _ server: DeviceClass) -> Bool {
            let service = ServiceKind(key)
            if asked.contains(Asked(client: key.client, service: service, server: server)) { return true }
            if served.contains(Served(client: client, service: service, server: key.server)) { return true }
            if common.contains(Classes(client: client, service: service, server: server)) { return true }
            guard key.ipProtocol == .tcp, key.service.rawValue >= 1024 else { return false }
            return ftp.contains(Pair(client: key.client, server: key.server)) || ftp.contains(Pair(client: key.server, server: key.client))
        }
    }

    func novelty(_ key: ConversationKey) -> Novelty { novelty(key, habits) }

    private func novelty(_ key: ConversationKey, _ habits: Habits) -> Novelty {
        let client = deviceClass(key.client), server = deviceClass(key.server)
        if habits.hasAlike(key, client, server) { return .alike }
        if client.isEquipment, server.isEquipment { return .lateral }
        if habits.areAcquainted(key) { return .acquainted }
        if networks[key.server.network] == nil { return .outside }
        return .other
    }

    /// How often a device of a class did something new when much was known already: by the second half of the time.
    private mutating func addNovelties(_ history: History, _ places: [Int]) {
        let ordered = places.sorted { history.conversations[$0].first < history.conversations[$1].first }
        guard let first = history.hours.first, let last = history.hours.last, last > first else { return }
        let half = UInt64(max(0, first + (last - first) / 2)) &* 3_600_000_000_000
        struct DeviceDay: Hashable { var device: AddressWords, day: UInt64, pool: Pool }
        var days: [DeviceDay: Int] = [:]
        for place in ordered {
            let one = history.conversations[place]
            if one.isToGroup { continue }
            if one.first >= half, !Self.isFile(one) {
                let novelty = novelty(one.key, habits)
                if novelty != .alike {
                    let pool = Pool(client: deviceClass(one.key.client), novelty: novelty)
                    days[DeviceDay(device: one.key.client, day: one.first / 86_400_000_000_000, pool: pool), default: 0] += 1
                }
            }
            habits.add(one.key, deviceClass(one.key.client), deviceClass(one.key.server))
        }
        for device in devices { deviceDays[deviceClass(device.address), default: 0] += max(1, Double(last - first) / 48) }
        for (one, count) in days {
            let known = novelties[one.pool] ?? (0, 0)
            novelties[one.pool] = (known.count + count, max(known.most, count))
        }
    }

    /// A data connection of FTP is new every time.
    private static func isFile(_ one: RecordedConversation) -> Bool {
        one.key.ipProtocol == .tcp && one.key.service.rawValue >= 49152 && one.connections <= 2
    }

    /// So many new conversations of a kind in one day are more than a device of this class has by chance.
    func bearable(_ client: AddressWords, _ novelty: Novelty) -> Int {
        let pool = Pool(client: deviceClass(client), novelty: novelty), known = novelties[pool] ?? (0, 0)
        // Friends may have one new thing to say to each other: a trap behind a poll.
        let least = novelty == .acquainted ? 1 : 0
        // What tools never did to each other, or outside, needs no proof that it is rare.
        if known.count == 0, novelty == .lateral || novelty == .outside { return 0 }
        // A day's mean, as if one more had come: what was not seen in a short time may yet be usual (Laplace's rule of succession).
        let mean = Double(known.count + 1) / max(1, deviceDays[pool.client] ?? 1)
        // The least k with P(X > k) < 1/1000 for a Poisson variable of that mean, and no less than there was before.
        var term = exp(-mean), sum = term, k = 0
        while 1 - sum > 0.001, k < 1000 {
            k += 1
            term *= mean / Double(k)
            sum += term
        }
        return max(k, known.most, least)
    }

    // MARK: - What to expect of a conversation

    /// Hours that were observed, to tell what did not happen from what nobody saw.
    struct ObservedHours {
        private let numbers: Set<Int64>
        let first: Int64
        let last: Int64
        let weekendDays: Int

        init(_ hours: [Int64]) {
            numbers = Set(hours)
            first = hours.first ?? 0
            last = hours.last ?? -1
            weekendDays = Set(hours.map { $0 / 24 }).count { isWeekend(day: $0) }
        }

        func contains(_ hour: Int64) -> Bool { numbers.contains(hour) }
    }

    private static func expected(_ one: RecordedConversation, _ observed: ObservedHours) -> Expected {
        var expected = Expected(key: one.key)
        expected.isOneWay = one.framesIn == 0
        if one.days.count < 5 { return expected }
        addHours(one, observed, &expected)
        addBands(one, &expected)
        addPatience(one, observed, &expected)
        return expected
    }

    /// It is held to hours only if chance would hardly have left out the others: with so many sightings spread evenly over the day, five hours
    /// in a row without one have a probability of 24 × (19/24)^80 < 10^-6; and for a weekend (5/7)^60 < 10^-8.
    private static let (sightingsForHours, sightingsForWeekends) = (80, 60)

    private static func addHours(_ one: RecordedConversation, _ observed: ObservedHours, _ expected: inout Expected) {
        let sightings = one.hourCount
        if one.days.count >= 10, sightings >= sightingsForHours {
            let open = one.days.reduce(UInt32(0)) { $0 | $1.hours } & 0xFF_FFFF
            for hour in 0..<24 where (-2...2).allSatisfy({ open >> UInt32((hour + $0 + 24) % 24) & 1 == 0 }) { expected.closedHours |= 1 << UInt32(hour) }
        }
        if observed.weekendDays >= 4, sightings >= sightingsForWeekends, one.days.count >= 8 {
            expected.isClosedAtWeekends = !one.days.contains { isWeekend(day: Int64($0.day)) }
        }
    }

    /// Median and MAD over days, apart for weekdays and weekends where there are enough of both.
    private static func addBands(_ one: RecordedConversation, _ expected: inout Expected) {
        guard one.days.count >= 10 else { return }
        func limit(_ values: [UInt64], _ least: UInt64) -> UInt64 {
            let sorted = values.sorted(), median = sorted[sorted.count / 2]
            let deviations = sorted.map { $0 > median ? $0 - median : median - $0 }.sorted()
            // A spread of nothing would make every change one.
            let spread = max(1.4826 * Double(deviations[deviations.count / 2]), 0.1 * Double(median))
            return max(least, UInt64(min(4e18, max(4 * Double(sorted.last!), Double(median) + 20 * spread))))
        }
        let groups = [one.days.filter { !isWeekend(day: Int64($0.day)) }, one.days.filter { isWeekend(day: Int64($0.day)) }]
        let areApart = groups.allSatisfy { $0.count >= 4 }
        func limits(_ value: (ConversationDay) -> UInt64, _ least: UInt64) -> (UInt64, UInt64) {
            if !areApart { let all = limit(one.days.map(value), least); return (all, all) }
            return (limit(groups[0].map(value), least), limit(groups[1].map(value), least))
        }
        expected.mostBytes = limits({ $0.bytesIn &+ $0.bytesOut }, 1 << 20)
        expected.mostFrames = limits({ $0.framesIn &+ $0.framesOut }, 1000)
    }

    /// A session or a poll that is there all the time: seen in 98 of 100 hours at least, and still there at the end.
    private static func addPatience(_ one: RecordedConversation, _ observed: ObservedHours, _ expected: inout Expected) {
        var hours: Set<Int64> = []
        for day in one.days { hours.formUnion(day.hourNumbers) }
        guard let first = hours.min(), let last = hours.max(), last - first >= 72, observed.last - last <= 1 else { return }
        var (seen, all, gap, longest) = (0, 0, Int64(0), Int64(0))
        for hour in first...last where observed.contains(hour) {
            all += 1
            if hours.contains(hour) {
                seen += 1
                gap = 0
            } else {
                gap += 1
                longest = max(longest, gap)
            }
        }
        guard seen * 100 >= all * 98 else { return }
        let minute: UInt64 = 60_000_000_000
        var patience = one.intervals.count >= 8 ? 15 * minute : 120 * minute
        // The last intervals, at their longest: a poll that comes by chance has some three times as long as usual among 32.
        if let most = one.intervals.values.max(), most.isFinite { patience = max(patience, UInt64(min(1e9, max(0, Double(most)) * 5) * 1e9)) }
        if longest > 0 { patience = max(patience, UInt64(longest + 1) * 90 * minute) }
        expected.patience = patience
    }
}

/// - Parameter day: since 1970, UTC: a Thursday.
func isWeekend(day: Int64) -> Bool { (day + 3) % 7 >= 5 }
