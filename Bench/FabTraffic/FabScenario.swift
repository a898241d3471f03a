// What fab to make traffic of: every number that an experiment may want to turn, with sensible defaults.

/// Attack on the fab, and when.
public struct FabAttack: Sendable, Hashable {
    /// What its records are labelled: any but `.normal` and `.maintenance`.
    public var label: FabLabel
    /// Hours since the beginning of the recording.
    public var start: Double
    public var hours: Double
    /// How much of it; each attack says of what. nil: its own default.
    public var rate: Double?
    /// The tool that does it, for those that come from a tool.
    public var tool: Int

    public init(_ label: FabLabel, start: Double, hours: Double, rate: Double? = nil, tool: Int = 0) {
        precondition(label.isMalicious, "legitimate work is not an attack")
        self.label = label
        self.start = start
        self.hours = hours
        self.rate = rate
        self.tool = tool
    }
}

/// Everything about a fab's traffic that can be chosen. The same values give the same records.
public struct FabScenario: Sendable {
    public var tools: Int
    public var weeks: Double = 3
    public var seed: UInt64 = 1
    /// Seconds since 1970; a Monday at midnight, or the shifts are off: 5 January 2026.
    public var start: UInt64 = 1_767_571_200

    /// Long-lived connections give one record of either direction for each slice of so many seconds; divides an hour.
    public var sliceSeconds = 3600
    /// Seconds between a tool's questions for the time.
    public var ntpSeconds = 1024
    /// Seconds between polls and pings of network management.
    public var snmpSeconds = 1800
    /// Requests of a SOAP data collection client to one tool, while it produces.
    public var edaRequestsPerHour = 6.0
    /// Recipes fetched by one tool, while it produces: one a lot.
    public var lotsPerHour = 0.8

    /// Work that comes once a week at night, for each tool (backup, updates).
    public var weeklyConversations = 2
    /// Work that comes once in `monthDays`, for each tool (reports, change of passwords): most is not seen in three weeks' half.
    public var monthlyConversations = 1
    public var monthDays = 28.0
    /// Other conversations of each tool. How often one comes is drawn log-uniformly between the two bounds: the tail.
    public var tailConversations = 6
    public var tailMostPerDay = 48.0
    public var tailLeastPerDay = 1.0 / 14
    /// Connections that find the other side gone, of all short ones.
    public var failures = 0.001

    /// Between planned maintenances, for all kinds of tools: their own periods are multiplied by it. 0: none.
    public var maintenanceFactor = 1.0
    /// Days between a vendor's looks at one tool by remote access. 0: none.
    public var vendorVisitDays = 20.0
    /// Days until an equipment host fails and its standby takes over. 0: never.
    public var failoverDays = 30.0
    /// Days that an HSMS session lives, in the mean.
    public var hsmsLifeDays = 6.0

    public var attacks: [FabAttack] = []
    /// Attackers also use conversations that a rule allows: no allowlist sees that. Their records are labelled `.covert`.
    public var includesCovert = false

    public init(tools: Int) {
        precondition((1...5000).contains(tools), "1 to 5000 tools")
        self.tools = tools
        if tools <= 25 {
            (sliceSeconds, ntpSeconds, snmpSeconds, edaRequestsPerHour) = (60, 64, 300, 60)
        } else if tools <= 250 {
            (sliceSeconds, ntpSeconds, snmpSeconds, edaRequestsPerHour) = (600, 256, 600, 20)
        }
    }

    /// A bay.
    public static var small: FabScenario { FabScenario(tools: 10) }
    /// A fab, an hour in a record.
    public static var large: FabScenario { FabScenario(tools: 1000) }

    public var hours: Int { Int((weeks * 168).rounded(.up)) }

    /// One of each attack, from `start` on: the loud ones first, half a day apart.
    public static func everyAttack(from start: Double) -> [FabAttack] {
        [
            FabAttack(.scan, start: start + 1, hours: 0.5),
            FabAttack(.attack(.rogueHost), start: start + 9, hours: 1),
            FabAttack(.attack(.spoofing), start: start + 20, hours: 1),
            FabAttack(.attack(.lateral), start: start + 32, hours: 4, tool: 3),
            FabAttack(.attack(.beacon), start: start + 32, hours: 96, tool: 3),
            FabAttack(.slowScan, start: start, hours: 120, tool: 5),
            FabAttack(.worm, start: start + 60, hours: 3, tool: 1),
        ]
    }
}
