import Foundation
import Frames
import Testing

@testable import Baseline

@Suite struct VendorTests {
    private func folder(_ name: String, _ text: String) throws -> StateDirectory {
        let directory = StateDirectory()
        try text.write(toFile: directory.path + "/" + name, atomically: true, encoding: .utf8)
        return directory
    }

    @Test func bothKindsOfListsAreRead() throws {
        let vmware = MACAddress(rawValue: 0x000C_29EE_B784), small = MACAddress(rawValue: 0x70B3_D5AB_C123), local = MACAddress(rawValue: 0x0200_0000_0001)
        let ieee = try folder("oui.txt", "OUI/MA-L  Organization\n00-0C-29   (hex)\t\tVMware, Inc.\n000C29     (base 16)\t\tVMware, Inc.\n")
        #expect(Vendors(for: [vmware], folders: [ieee.path]).name(vmware) == "VMware, Inc.")
        let manuf = try folder("manuf", "# x\n00:0C:29\tVMware\tVMware, Inc.\n70:B3:D5:AB:C0:00/36\tPlant\tPlant Works\n70:B3:D5\tIEEE\tIEEE\n")
        let vendors = Vendors(for: [vmware, small, local], folders: [manuf.path])
        #expect(vendors.name(vmware) == "VMware, Inc." && vendors.name(small) == "Plant Works" && vendors.name(local) == nil)
        #expect(Vendors(for: [vmware], folders: ["/nowhere"]).name(vmware) == nil)
    }
}
