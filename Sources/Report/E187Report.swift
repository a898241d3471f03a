// Evidence for an assessment against SEMI E187-0122, requirement by requirement. All text is our own paraphrase. The default is "not evidenced by this
// device", and the assessor's columns stay empty whatever the evidence says.

import Evidence

/// A requirement, and what a checkpoint in the network can show of it.
struct E187Requirement: Sendable {
    /// What of the evidence there must be, so that it shows anything.
    enum Need: Sendable {
        /// Nothing would do.
        case never
        case traffic, log
    }

    let id: String
    let clause: String
    let subject: Words
    let shows: Words?
    let lacks: Words
    let need: Need
    /// Sections that hold the evidence.
    let evidence: [String]
    /// What an explanation for the assessor may say, if it is true; see `ReportEvidence.compensation`.
    var isCompensated = false

    var key: String { "rq-" + id.split(separator: "-")[2] }
}

extension ReportEvidence {
    public func e187() -> ReportDocument {
        let observed = observed()
        let evidence = [
            matrix(observed), declaredAgainstObserved(observed), unusedPermissions(), clearText(observed), owners(), denials(), logConduits(observed),
            operation(), integrity(), versions(), alertsSection(), quarantines(),
        ]
        var sections = [
            Section(
                "scope", E187Text.scope, beginsPage: true,
                warnings() + [
                    .paragraph(E187Text.duty), .paragraph(E187Text.reading), .note(E187Text.paraphrase),
                    .list([E187Text.meaningShown, E187Text.meaningPartly, E187Text.meaningNot]),
                ]),
            Section("requirements", E187Text.requirements, beginsPage: true, []),
            Section("statements", E187Text.statements, beginsPage: true, [.paragraph(E187Text.statementsMeaning)]),
        ]
        let statements = E187Requirement.all.map { requirement -> Section in
            var facts = [Fact(Label.clause, .text(requirement.clause)), Fact(Label.standing, .words(standing(requirement).words))]
            if let shows = requirement.shows { facts.append(Fact(Label.shows, .words(shows))) }
            facts.append(Fact(Label.lacks, .words(requirement.lacks)))
            var blocks: [ReportDocument.Block] = [.facts(facts)]
            if requirement.need == .traffic, !hasTraffic { blocks.append(.note(Phrase.noTraffic)) }
            if requirement.need == .log, log == nil { blocks.append(.note(Phrase.noLog)) }
            if requirement.isCompensated, let text = compensation() { blocks += [.paragraph(E187Text.compensationUse), .paragraph(text)] }
            return Section(requirement.key, requirement.subject, mark: requirement.id, level: 1, blocks)
        }
        sections += statements + evidence
        // The table names sections by their numbers, which are known now.
        let numbers = Dictionary(zip(sections.map(\.id), ReportWriting.numbers(sections)), uniquingKeysWith: { first, _ in first })
        sections[1].blocks = [.paragraph(E187Text.assessorRule), .table(requirements(numbers)), .paragraph(E187Text.tableRules)]
        return ReportDocument(
            kind: .e187, title: E187Text.title, cover: cover([Fact(Label.edition, .words(E187Text.edition))]), sections: sections)
    }

    func standing(_ requirement: E187Requirement) -> Standing {
        switch requirement.need {
        case .never: .notEvidenced
        case .traffic: hasTraffic ? .partly : .notEvidenced
        case .log: log.map { $0.check.events > 0 && $0.check.isIntact } ?? false ? .partly : .notEvidenced
        }
    }

    /// A sentence about the checkpoint that is true of the whole period; nil: it is not.
    private func compensation() -> Words? {
        guard let policy, policy.version != nil, policy.mode == .enforce, let log, log.check.isIntact, log.isEnforcedThroughout, learnsInPeriod == false else { return nil }
        return E187Text.compensation
    }

    private func requirements(_ numbers: [String: String]) -> Table {
        var rows = E187Requirement.all.map { requirement -> [Cell] in
            let standing = standing(requirement)
            return [
                .code(requirement.id), .text(requirement.clause), .words(requirement.subject), .words(standing.words),
                standing == .notEvidenced
                    ? .none : .list(([requirement.key] + requirement.evidence).compactMap { id in numbers[id].map { .section(id, number: $0) } }),
                .blank, .blank,
            ]
        }
        rows.append([.code("E187.00-RQ-90001…90003"), .text("A1-1"), .words(E187Text.table), .words(Standing.notEvidenced.words), .none, .blank, .blank])
        return Table(
            "requirements",
            [
                Column(Label.requirement), Column(Label.clause), Column(Label.subject, .long), Column(Label.standing, .long), Column(Label.evidence), Column(Label.assessment),
                Column(Label.explanation, .long),
            ], rows)
    }
}
