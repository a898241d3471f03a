import Detection
import Foundation
import Testing

@testable import Control

@Suite struct ResponsesTests {
    private static let laptop = "10.0.0.66", card = "02:00:00:00:00:66"

    private func target(_ address: String? = laptop, _ mac: String? = card, isForger: Bool = false) throws -> MeantDevice {
        let fields = [("address", address), ("mac", mac)].compactMap { name, value in value.map { "\"\(name)\": \"\($0)\", " } }.joined()
        let device = try JSONDecoder().decode(AlertDevice.self, from: Data("{\(fields)\"isKnown\": false, \"isMany\": false}".utf8))
        return MeantDevice(device, isForger: isForger, Identities())
    }

    private func order(_ device: String = laptop, _ addresses: [String] = [laptop], _ macs: [String] = [card]) -> QuarantineOrder {
        QuarantineOrder(device: device, isIsland: false, addresses: addresses, macs: macs, exceptions: [], since: 0, until: 60, who: "sekisho", why: "alert 1")
    }

    private func time(_ seconds: Double) -> Date { Date(timeIntervalSince1970: seconds) }

    @Test func onceAndAgainIfItGoesOn() throws {
        var responses = Responses()
        #expect(try responses.begins(1, target(), lastActed: time(1)))
        #expect(try !responses.begins(1, target(), lastActed: time(2)))
        #expect(try responses.begins(2, target(), lastActed: time(2)))
        responses.released(order(), byPerson: false, at: time(60))
        // What it did before says nothing, nor does what others do.
        #expect(try !responses.begins(1, target(), lastActed: time(59)) && !responses.begins(1, target(), lastActed: nil))
        #expect(try responses.begins(1, target(), lastActed: time(61)) && !responses.begins(1, target(), lastActed: time(62)))
    }

    /// It is cut off as an address, forges one while it is, and is a card from then on.
    @Test func underAnotherNameItIsTheSame() throws {
        var responses = Responses()
        #expect(try responses.begins(1, target(), lastActed: time(1)))
        #expect(try !responses.begins(1, target(isForger: true), lastActed: time(2)))
        responses.released(order(), byPerson: false, at: time(60))
        #expect(try responses.begins(1, target(isForger: true), lastActed: time(61)))
        responses.released(order(Self.card, [], [Self.card]), byPerson: false, at: time(120))
        #expect(try responses.begins(1, target(), lastActed: time(121)))
    }

    @Test func whomAPersonReleasedIsSpared() throws {
        var responses = Responses()
        #expect(try responses.begins(1, target(), lastActed: time(1)))
        responses.released(order("laptop"), byPerson: true, at: time(10))
        // Neither another order's end nor the alert's makes that undone.
        responses.released(order(), byPerson: false, at: time(20))
        responses.ended(1)
        #expect(try !responses.begins(1, target(), lastActed: time(30)))
        responses.takesBack(1, try target())
        #expect(try !responses.begins(1, target(), lastActed: time(31)))
        #expect(try responses.begins(1, target("10.0.0.67", "02:00:00:00:00:67"), lastActed: time(31)))
        #expect(try responses.begins(2, target(), lastActed: time(31)))
    }

    @Test func anAlertThatHasEndedBeginsAnew() throws {
        var responses = Responses()
        #expect(try responses.begins(1, target(), lastActed: time(1)))
        responses.ended(1)
        #expect(try responses.begins(1, target(), lastActed: time(2)))
        responses.takesBack(1, try target())
        #expect(try responses.begins(1, target(), lastActed: time(3)))
    }

    @Test func itIsBounded() throws {
        var responses = Responses()
        for number in 0..<200 { #expect(try responses.begins(1, target("10.1.0.\(number)", nil), lastActed: nil)) }
        for number in Int64(0)..<3000 { #expect(try responses.begins(number + 2, target(), lastActed: nil)) }
        // The latest stand.
        #expect(try !responses.begins(3001, target(), lastActed: nil))
    }
}
