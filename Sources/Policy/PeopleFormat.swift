// Values as people read them.

public enum PeopleFormat {
    /// "1,234,567".
    public static func grouped(_ number: some BinaryInteger) -> String {
        var digits = Array(String(number))
        var place = digits.count - 3
        while place > 0 {
            digits.insert(",", at: place)
            place -= 3
        }
        return String(digits)
    }
}
