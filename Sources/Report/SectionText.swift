// Fixed text of the sections that are evidence.

import Allowlist
import Baseline
import Detection

enum SectionText {
    static let matrix = Words("matrix", "Observed communication", ja: "観測された通信の一覧", zh: "觀察到的通訊矩陣")
    static let matrixMeaning = Words(
        "matrix_meaning",
        """
        Who opened conversations to whom, by which service, as recorded by this checkpoint or learnt from captures (see “Recorded from”). A port that \
        listens and was never asked, traffic inside the equipment, on its loopback or on a network that does not cross the checkpoint does not appear.
        """,
        ja: """
            本チェックポイントで記録、またはキャプチャから学習した（『記録元』参照）、接続元・接続先・サービスの一覧です。待ち受けていても接続されなかったポート、装置内部の通信、ループバック、\
            チェックポイントを通過しないネットワークの通信は現れません。
            """,
        zh: "由本檢查點記錄或自擷取檔學習（見「紀錄來源」）之連線發起端、對端與服務。雖在監聽但從未被連線的連接埠、設備內部通訊、本機回送（loopback），以及未經過檢查點之網路的通訊不會出現。")
    static let byFTP = Words("ftp_data", "with its FTP session", ja: "FTP セッションに付随", zh: "隨 FTP 工作階段")
    static let byLearning = Words("learning", "passes while a device learns", ja: "機器の学習中のため通過", zh: "設備學習中故放行")
    static let byNone = Words("not_allowed", "no rule allows it", ja: "許可ルールなし", zh: "無規則允許")
    static let byRejection = Words("rejected", "rejected by a person", ja: "担当者が却下", zh: "人員已駁回")

    static let declared = Words("declared", "Declared against observed", ja: "宣言と観測の差異", zh: "宣告與觀察之差異")
    static let declaredMeaning = Words(
        "declared_meaning",
        """
        Conversations that were observed and that the policy does not allow. In mode enforce they did not pass while the policy was as it is now; at other times, and \
        while a device learns, they may have passed.
        """,
        ja: "観測されたものの、ポリシーで許可されていない通信です。enforce モードで現在のポリシーが適用されていた間は通過していません。それ以外の時間や機器の学習中には通過した可能性があります。",
        zh: "已觀察到但政策未允許的通訊。在 enforce 模式下且政策與現行相同時並未放行；其他時間或設備學習期間可能已放行。")
    static let allDeclared = Words(
        "all_declared", "Every recorded conversation is allowed by a rule.", ja: "記録されたすべての通信がルールで許可されています。", zh: "所有已記錄的通訊均有規則允許。")
    static let etherType = Words("ethertype", "EtherType", ja: "EtherType", zh: "EtherType")
    static let etherTypesMeaning = Words(
        "ethertypes_meaning",
        "EtherTypes other than IP that were recorded and that the policy does not let pass. They are counted of all that was recorded, not of the period or the device alone.",
        ja: "記録されたものの、ポリシーで通過が認められていない IP 以外の EtherType です。期間や対象機器では区切らず、記録全体で計上します。",
        zh: "已記錄但政策未放行之 IP 以外的 EtherType。係就全部紀錄計數，不依期間或設備區分。")
    static let noEtherTypes = Words(
        "no_ethertypes", "Every recorded EtherType is let pass by the policy.", ja: "記録された EtherType はすべてポリシーで通過が認められています。", zh: "所有已記錄的 EtherType 政策均放行。")

    static let unused = Words("unused", "Permissions nobody used", ja: "使われていない許可", zh: "未使用的許可")
    static let unusedMeaning = Words(
        "unused_meaning",
        "Rules, or parts of rules, for which no conversation of the period was recorded. What comes once a year may look unused for a year.",
        ja: "期間中に該当する通信が記録されなかったルール、またはその一部です。年に一度しか発生しない通信は、一年間未使用に見えることがあります。",
        zh: "此期間內無對應通訊紀錄的規則或其部分。一年僅發生一次的通訊，可能在一年內都顯示為未使用。")
    static let wholeRule = Words("whole", "all of it", ja: "ルール全体", zh: "整條規則")
    static let partOfRule = Words("part", "a part", ja: "一部", zh: "部分")
    static let noneUnused = Words("none_unused", "Every part of every rule was used.", ja: "すべてのルールのすべての部分が使われています。", zh: "每條規則的每個部分均有使用。")

    static let clearText = Words("clear_text", "Services with and without protected variants", ja: "平文サービスと保護されたサービス", zh: "明文服務與受保護服務")
    static let clearTextMeaning = Words(
        "clear_text_meaning",
        """
        Which of the usual ports for web, file transfer, file sharing and remote terminals were used or tried in the period, and between whom; “Answered” says how \
        many got an answer.
        """,
        ja: "ウェブ、ファイル転送、ファイル共有、リモート端末の標準的なポートのうち、期間中に使用または試行されたもの（『応答あり』は応答のあった数）と、その当事者です。",
        zh: "網頁、檔案傳輸、檔案分享與遠端終端機常用連接埠中，此期間曾使用或嘗試者（「有回應」為獲回應之數）及其通訊雙方。")
    static let clearTextLimit = Words(
        "clear_text_limit",
        """
        Ports say what is usual, not what was said: this device looks at layer 4 only. That TLS is spoken on port 443, or SSH on port 22, is not shown; \
        RDP and SMB may be encrypted and may be not. Nor is it shown what the equipment could offer besides.
        """,
        ja: """
            ポート番号が示すのは慣例であり、通信内容ではありません。本機器が見るのはレイヤー4までです。ポート443で TLS、ポート22で SSH が使われていることは示せません。\
            RDP や SMB は暗号化されている場合も、されていない場合もあります。装置がほかに何を提供できるかも示せません。
            """,
        zh: """
            連接埠僅代表慣例，並非通訊內容：本裝置只檢視第 4 層。無法證明 443 埠上確為 TLS、22 埠上確為 SSH；RDP 與 SMB 可能加密也可能未加密。\
            亦無法呈現設備另外可提供哪些服務。
            """)
    static let clearVariant = Words("clear_or_unknown", "clear text, or not known to be protected", ja: "平文、または保護の有無が不明", zh: "明文，或無法確認受保護")
    static let protectedVariant = Words("protected_variant", "port of a protected variant", ja: "保護された方式のポート", zh: "受保護方式之連接埠")

    static let owners = Words("owners", "Purposes and owners", ja: "目的と責任者", zh: "用途與負責人")
    static let notStated = Words("not_stated", "not stated", ja: "記載なし", zh: "未載明")
    static let withoutPurpose = Words("without_purpose", "Rules without a purpose", ja: "目的の記載がないルール数", zh: "未載明用途的規則數")
    static let withoutOwner = Words("without_owner", "Rules without an owner", ja: "責任者の記載がないルール数", zh: "未載明負責人的規則數")

    static let denials = Words("denials", "Denials over time", ja: "日ごとの拒否状況", zh: "每日拒絕情形")
    static let denialsMeaning = Words(
        "denials_meaning",
        """
        Frames of recorded conversations that did not pass or, in modes other than enforce, would not have. Frames that belong to no conversation \
        (malformed ones, EtherTypes that are not listed) are counted by the running bridge only: 'sekisho status'.
        """,
        ja: """
            記録された通信のうち、通過しなかったフレーム数です（enforce 以外のモードでは、enforce であれば通過しなかったもの）。通信に属さないフレーム\
            （不正なフレーム、一覧にない EtherType）は、稼働中のブリッジだけが計数します（'sekisho status'）。
            """,
        zh: "已記錄通訊中未放行的訊框（於 enforce 以外的模式，則為原本不會放行者）。不屬於任何通訊的訊框（格式錯誤、未列入的 EtherType）僅由執行中的橋接器計數（'sekisho status'）。")
    static let daysWithDenials = Words("days_with_denials", "Days with denials", ja: "拒否のあった日数", zh: "有拒絕的天數")
    static let daysObserved = Words("days_observed", "Days with traffic", ja: "通信のあった日数", zh: "有通訊的天數")
    static let deniedConversations = Words("denied_conversations", "Conversations", ja: "通信の種類数", zh: "通訊種類數")

    static let logConduits = Words("log_conduits", "Conversations to log servers", ja: "ログサーバーへの通信", zh: "送往日誌伺服器的通訊")
    static let logConduitsMeaning = Words(
        "log_conduits_meaning", "Conversations to the ports of syslog. That something was sent is shown; what was sent is not.",
        ja: "syslog のポートへの通信です。何かが送信されたことは示せますが、その内容は示せません。", zh: "送往 syslog 連接埠的通訊。可呈現曾有傳送，但無法呈現傳送內容。")
    static let noLogConduits = Words(
        "no_log_conduits", "No conversation to a syslog port was recorded.", ja: "syslog ポートへの通信は記録されていません。", zh: "未記錄到送往 syslog 連接埠的通訊。")

    static let operation = Words("operation", "Modes and failures of the checkpoint", ja: "チェックポイントのモードと障害", zh: "檢查點的模式與失效狀態")
    static let operationMeaning = Words(
        "operation_meaning",
        """
        How long a bridge ran in which mode, and how long frames came while no worker judged them. Where the log has no stop, the bridge is taken to have run on; \
        a failure that was only found afterwards is told with its last duration.
        """,
        ja: """
            ブリッジが各モードで稼働した時間と、どのワーカーもフレームを判定していなかった時間です。停止の記録がない場合は稼働が続いたものとみなします。\
            後から判明した障害については、最後の継続時間だけが記録されています。
            """,
        zh: "橋接器於各模式執行的時間，以及有訊框到達卻無 worker 判斷的時間。日誌中無停止紀錄者，視為持續執行；事後才發現的失效，僅記錄最後一次的持續時間。")
    static let neverRan = Words("never_ran", "No bridge ran in the period, by the log.", ja: "ログによれば、期間中にブリッジは稼働していません。", zh: "依日誌，此期間無橋接器執行。")
    static let noFailures = Words(
        "no_failures", "No failure state is in the log of the period.", ja: "期間中のログに障害状態の記録はありません。", zh: "此期間日誌中無失效狀態紀錄。")
    static func action(_ name: String) -> Words {
        switch name {
        case "open": Words("open", "passed unjudged", ja: "判定せず通過", zh: "未經判斷放行")
        case "kernel": Words("kernel", "judged in the kernel", ja: "カーネルで判定", zh: "由核心判斷")
        default: Words("closed", "dropped", ja: "破棄", zh: "丟棄")
        }
    }

    static let integrity = Words("integrity", "Integrity of the audit log", ja: "監査ログの完全性", zh: "稽核日誌的完整性")
    static let integrityMeaning = Words(
        "integrity_meaning",
        """
        Each event's hash covers the event before it, so that a changed, removed or inserted event is found. Events cut off at the end are found only by comparing the \
        head with one that was kept elsewhere: 'sekisho audit verify --head'.
        """,
        ja: """
            各イベントのハッシュは直前のイベントを含むため、変更・削除・挿入は検出されます。末尾の切り捨ては、別の場所に保管した末尾ハッシュとの照合\
            （'sekisho audit verify --head'）でのみ検出できます。
            """,
        zh: "每筆事件的雜湊涵蓋前一筆事件，故可發現變更、刪除或插入。末端遭截斷，僅能與另存他處的末端雜湊比對（'sekisho audit verify --head'）才會發現。")
    static let findings = Words("findings", "Findings", ja: "検出事項の数", zh: "發現事項數")
    static let noFindings = Words("no_findings", "Nothing was found.", ja: "検出事項はありません。", zh: "無發現事項。")
    static let eventTypes = Words(
        "event_types", "Events of the period by category and type. Each has a type, a description, a user account and a time.",
        ja: "期間中のイベントの分類・種別ごとの件数です。各イベントには種別、内容、ユーザーアカウント、日時が記録されます。",
        zh: "此期間事件依類別與類型統計。每筆事件均有類型、說明、使用者帳號與時間。")
    static let noEvents = Words("no_events", "No event is in the log of the period.", ja: "期間中のイベントはありません。", zh: "此期間無事件。")

    static let versions = Words("versions", "Policies in the period", ja: "期間中のポリシー", zh: "期間內的政策")
    static let versionsMeaning = Words(
        "versions_meaning", "Every policy that was applied in the period, and the one that was in use when it began. 'sekisho versions --show' prints the text of each.",
        ja: "期間中に適用されたすべてのポリシーと、期間開始時に適用中だったポリシーです。'sekisho versions --show' で各バージョンの本文を表示できます。",
        zh: "期間內套用的所有政策，以及期間開始時使用中的政策。'sekisho versions --show' 可列印各版本內容。")
    static let noVersions = Words("no_versions", "No policy was applied by the end of the period.", ja: "期間末までに適用されたポリシーはありません。", zh: "期間結束前未套用任何政策。")
    static let refusals = Words(
        "refusals", "Policies, signatures and accesses that were refused:", ja: "拒否されたポリシー、署名、アクセス：", zh: "遭拒絕的政策、簽章與存取：")

    static let alerts = Words("alerts", "Alerts", ja: "アラート", zh: "警示")
    static let alertsMeaning = Words(
        "alerts_meaning", "What the bridge found worth a word. An alert is what was seen, not a verdict on what was meant; 'sekisho alerts show' tells the story of each.",
        ja: "ブリッジが通知に値すると判断した事象です。アラートは観測された事実であり、意図を断定するものではありません。詳細は 'sekisho alerts show' で確認できます。",
        zh: "橋接器認為值得通知的事項。警示為觀察到的事實，並非對意圖的判定；'sekisho alerts show' 可查看各警示的經過。")
    static let noneInPeriod = Words("none_in_period", "None in the period.", ja: "期間中にはありません。", zh: "此期間內無。")
    static let goesOn = Words("goes_on", "goes on", ja: "継続中", zh: "仍持續")
    static let theBridge = Words("bridge", "the bridge itself", ja: "ブリッジ自体", zh: "橋接器本身")
    static let many = Words("many", "senders under many addresses", ja: "多数のアドレスを使う送信元", zh: "使用多個位址的來源")

    static let quarantines = Words("quarantines", "Quarantine and isolation", ja: "隔離の実施", zh: "隔離措施")
    static let orderAddresses = Words("addresses", "Addresses", ja: "アドレス", zh: "位址")
    static let inForceAfter = Words("in_force_after", "In force after", ja: "発効までの時間", zh: "生效所需時間")
}

enum AlertText {
    static func severity(_ severity: Severity) -> Words {
        switch severity {
        case .info: Words("info", "info", ja: "情報", zh: "資訊")
        case .low: Words("low", "low", ja: "低", zh: "低")
        case .medium: Words("medium", "medium", ja: "中", zh: "中")
        case .high: Words("high", "high", ja: "高", zh: "高")
        case .critical: Words("critical", "critical", ja: "重大", zh: "嚴重")
        }
    }

    static func kind(_ kind: AlertKind) -> Words {
        func words(_ ja: String, _ zh: String) -> Words { Words(kind.rawValue, kind.text, ja: ja, zh: zh) }
        switch kind {
        case .policyChanged: return words("ポリシーの変更", "政策變更")
        case .outOfHours: return words("通常と異なる時間帯の通信", "非慣常時段的通訊")
        case .volume: return words("通常の範囲を超える通信量", "通訊量超出慣常範圍")
        case .missing: return words("あるべき通信の途絶", "預期通訊中斷")
        case .silent: return words("機器の沈黙", "設備無聲")
        case .newConversation: return words("新しい相手またはサービス", "新的對端或服務")
        case .unknownDevice: return words("未知の機器", "未知設備")
        case .beacon: return words("規則的なビーコン", "規律性信標通訊")
        case .wrongSide: return words("反対側に現れた機器", "設備出現於錯誤側")
        case .slowScan: return words("低速スキャン", "慢速掃描")
        case .scan: return words("スキャン", "掃描")
        case .lateralMovement: return words("装置間の横展開の試み", "橫向移動嘗試")
        case .spoofing: return words("アドレス詐称", "位址偽冒")
        case .bridgeFailure: return words("ブリッジの障害", "橋接器失效")
        }
    }
}

enum ReviewText {
    static func words(_ reason: ReviewReason) -> Words {
        func words(_ english: String, _ ja: String, _ zh: String) -> Words { Words(reason.name, english, ja: ja, zh: zh) }
        switch reason {
        case .unanswered: return words("nobody answered", "応答なし", "無人回應")
        case .refused: return words("every attempt was refused", "すべての試行が拒否された", "每次嘗試均被拒絕")
        case .scanner: return words("its client behaved like a scanner", "クライアントがスキャンのように振る舞った", "用戶端行為近似掃描")
        case .addressConflict: return words("an address with several MAC addresses", "一つのアドレスに複数の MAC アドレス", "同一位址對應多個 MAC 位址")
        case .newDevice: return words("a new device", "新しい機器", "新設備")
        case .risky: return words("remote control or file sharing", "遠隔操作またはファイル共有", "遠端操控或檔案分享")
        case .seenOnce: return words("seen on one day only", "一日だけ観測", "僅於一日出現")
        case .guessed: return words("which side serves is a guess", "どちらがサーバーかは推定", "伺服器端為推測")
        case .broadcast: return words("sent to everyone, now and then", "まれな同報", "偶發之廣播")
        case .portRange: return words("one of many ports", "多数のポートの一つ", "眾多連接埠之一")
        }
    }
}
