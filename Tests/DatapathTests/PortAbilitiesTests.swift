import Testing

@testable import Datapath

@Suite struct PortAbilitiesTests {
    private func abilities(_ driver: String, _ features: XDPFeatures?) -> PortAbilities { PortAbilities(driver: driver, features: features) }

    /// The kernel's word stands above the list, in both directions.
    @Test(arguments: ["i40e", "veth", "virtio_net", "a driver of tomorrow"])
    func theKernelKnowsBetter(_ driver: String) {
        #expect(abilities(driver, []).xdp == .generic)
        #expect(abilities(driver, [.basic, .redirect]).xdp == .native)
        #expect(abilities(driver, [.basic, .redirect, .zeroCopy]).xdp == .zeroCopy)
        // Bits of later kernels change nothing.
        #expect(abilities(driver, XDPFeatures(rawValue: 0xFF70 | 1)).xdp == .native)
    }

    @Test func beforeLinux63ThereIsTheList() {
        #expect(abilities("i40e", nil).xdp == .zeroCopy)
        #expect(abilities("veth", nil).xdp == .native)
        #expect(abilities("r8169", nil).xdp == .generic)
        for driver in ["i40e", "veth", "r8169"] {
            #expect(abilities(driver, nil).takesRedirected(isAttached: true) == nil)
            #expect(abilities(driver, nil).takesRedirected(isAttached: false) == nil)
        }
    }

    @Test func redirectedFramesNeedTheDriversConsent() {
        let native: XDPFeatures = [.basic, .redirect]
        // Most drivers say that they take them when a program is attached, and not before.
        #expect(abilities("ice", native).takesRedirected(isAttached: false) == nil)
        #expect(abilities("ice", native).takesRedirected(isAttached: true) == false)
        #expect(abilities("ice", native.union(.transmit)).takesRedirected(isAttached: false) == true)
        // A veth's other end decides.
        #expect(abilities("veth", native).takesRedirected(isAttached: false) == false)
        #expect(abilities("veth", native.union(.transmit)).takesRedirected(isAttached: false) == true)
        // Without XDP in the driver frames leave by the stack.
        #expect(abilities("r8169", []).takesRedirected(isAttached: true) == true)
    }

    /// Of linux/netdev.h: what is compared here must be what the kernel means.
    @Test func bitsAreTheKernels() {
        #expect([XDPFeatures.basic, .redirect, .transmit, .zeroCopy].map(\.rawValue) == [1, 2, 4, 8])
    }

    @Test func theLoopbackPortHasNone() throws {
        // Older kernels say nothing.
        let loopback = try NetworkPort("lo").abilities
        #expect(loopback.features == nil || loopback.features == [])
        #expect(loopback.xdp == .generic)
    }
}
