// Fixed text of the report about techniques.

import Allowlist

enum CoverageText {
    static let title = Words("coverage", "Techniques of ATT&CK for ICS: blocked, detected, out of reach", ja: "ATT&CK for ICS の技術：遮断・検知・対象外", zh: "ATT&CK for ICS 技術：阻擋、偵測與範圍外")
    static let edition = Words(
        "attack-ics-18.1", "MITRE ATT&CK for ICS 18.1 (13 November 2025); ids of version 19 by published crosswalks",
        ja: "MITRE ATT&CK for ICS 18.1（2025年11月13日）。バージョン19の ID は公開された対応表による", zh: "MITRE ATT&CK for ICS 18.1（2025 年 11 月 13 日）；版本 19 之 ID 依公開對照表")
    static let scope = Words("scope", "How to read this report", ja: "本書の読み方", zh: "本文件閱讀方式")
    static let reading = Words(
        "reading",
        """
        For each technique: what the policy in use, in the mode in use, does about it, and which alerts are consistent with it. Both are Sekisho's own analysis of what \
        a checkpoint at layer 4 can do; that MITRE lists a mitigation for a technique is said beside it and proves nothing. No technique is ever covered in full: \
        what goes through an allowed conversation is not seen.
        """,
        ja: """
            各技術について、適用中のポリシーとモードが行うこと、および該当しうるアラートを示します。いずれもレイヤー4のチェックポイントにできることについての Sekisho 独自の分析です。\
            MITRE が技術に対して緩和策を挙げている場合は併記しますが、それは何かを証明するものではありません。完全に対処できる技術はなく、許可された通信の中で行われることは見えません。
            """,
        zh: """
            就每項技術說明：使用中的政策與模式能做什麼，以及哪些警示可能與其相符。兩者皆為 Sekisho 對第 4 層檢查點能力的自行分析；MITRE 針對該技術列有緩解措施者會並列，\
            但不構成證明。沒有任何技術可被完全涵蓋：在已允許通訊中進行者無法看見。
            """)
    static let versions = Words(
        "versions", "Version 19 brings sub-techniques and other ids; what is not in the crosswalks keeps its id of 18.1 here. Version 19's own list was not at hand.",
        ja: "バージョン19ではサブテクニックと新しい ID が導入されています。対応表にないものは 18.1 の ID のままです。バージョン19の公式データは参照していません。",
        zh: "版本 19 新增子技術與其他 ID；對照表未列者沿用 18.1 之 ID。未取得版本 19 的官方資料。")
    static let licence: Words = {
        // In the words that it asks for, in every language.
        let text = """
            © 2025 The MITRE Corporation. This work is reproduced and distributed with the permission of The MITRE Corporation. The MITRE Corporation (MITRE) hereby \
            grants you a non-exclusive, royalty-free license to use ATT&CK® for research, development, and commercial purposes. Any copy you make for such purposes is \
            authorized provided that you reproduce MITRE's copyright designation and this license in any such copy.
            """
        return Words("mitre_licence", text, ja: text, zh: text)
    }()

    static let summary = Words("summary", "Summary", ja: "概要", zh: "摘要")
    static let techniques = Words("techniques", "Techniques in all", ja: "技術の総数", zh: "技術總數")
    static let detected = Words("detected", "With alerts that are consistent with them", ja: "該当しうるアラートがあるもの", zh: "有相符警示者")
    static let neither = Words("neither", "Neither blocked nor limited nor detected", ja: "遮断・制限・検知のいずれもできないもの", zh: "未阻擋、未限制亦未偵測者")

    static let blocked = Words(
        "blocked", "blocked by our allowlist (own analysis)", ja: "許可リストで遮断（独自の分析）", zh: "由允許清單阻擋（自行分析）")
    static let limited = Words("limited", "limited only (own analysis)", ja: "制限のみ（独自の分析）", zh: "僅限制（自行分析）")
    static let notBound = Words("not_bound", "not blocked: no address is bound", ja: "遮断なし：アドレスの固定なし", zh: "未阻擋：未綁定任何位址")
    static let notInMode = Words("not_in_mode", "not blocked in this mode", ja: "現在のモードでは遮断なし", zh: "此模式下未阻擋")
    static let outOfReach = Words("out_of_reach", "out of reach", ja: "対象外", zh: "範圍外")
    static let everyRule = Words("every_rule", "every rule, as far as it goes", ja: "各ルールの範囲内", zh: "各規則所允許的範圍")

    static let facts = Words("facts", "What it depends on", ja: "前提となる事実", zh: "所依據的事實")
    static let factsMeaning = Words(
        "facts_meaning", "From the policy and the mode that were in use at the end of the period.", ja: "期間末に適用されていたポリシーとモードによります。", zh: "依期間結束時使用中的政策與模式。")
    static let trialRules = Words("trial_rules", "Rules on trial", ja: "試行中のルール数", zh: "試行中的規則數")
    static let learningDevices = Words("learning_devices", "Devices that learn (everything of them passes)", ja: "学習中の機器（すべて通過）", zh: "學習中的設備（全部放行）")
    static let boundDevices = Words("bound_devices", "Devices bound to a MAC address or a side", ja: "MAC アドレスまたは側に固定された機器数", zh: "已綁定 MAC 位址或所在側的設備數")
    static let unboundDevices = Words("unbound_devices", "Devices not bound", ja: "固定されていない機器数", zh: "未綁定的設備數")
    static func failing(_ state: FailureState) -> Words {
        switch state {
        case .starting: Words("on_failure_starting", "While the bridge starts", ja: "起動中の扱い", zh: "啟動期間")
        case .workerDead: Words("on_failure_worker_dead", "While a worker is dead", ja: "ワーカー停止中の扱い", zh: "worker 失效期間")
        case .stopping: Words("on_failure_stopping", "When it has stopped", ja: "停止後の扱い", zh: "停止之後")
        }
    }
    static let flowTableFull = Words("on_failure_flow_table_full", "When the flow table is full", ja: "フローテーブル満杯時の扱い", zh: "連線流表已滿時")
    static let byRulesAlone = Words("rules_alone", "judged by the rules alone", ja: "ルールのみで判定", zh: "僅依規則判斷")
    static let alertsKept = Words("alerts_kept", "A bridge with a state directory raises alerts", ja: "状態ディレクトリ付きのブリッジがアラートを生成", zh: "具狀態目錄的橋接器會產生警示")
    static let failsOpen = Words(
        "fails_open", "In some failure state frames pass unjudged: nothing is blocked then, and whoever can bring that state about opens the wire.",
        ja: "障害状態によってはフレームが判定なしに通過します。その間は何も遮断されず、その状態を引き起こせる者は回線を開放できます。",
        zh: "於某些失效狀態下訊框未經判斷即放行：此時不阻擋任何通訊，能造成該狀態者即可開通線路。")
    static let someLearn = Words(
        "some_learn", "Of devices that learn everything passes: nothing is blocked for them.", ja: "学習中の機器の通信はすべて通過し、遮断されません。", zh: "學習中的設備之通訊全部放行，不予阻擋。")
    static let noDetection = Words(
        "no_detection", "No bridge has run with this state directory: nothing is detected.", ja: "この状態ディレクトリでブリッジが稼働したことがないため、検知はありません。", zh: "尚無橋接器使用此狀態目錄執行，故無偵測。")

    static let prevention = Words("prevention", "Prevention, all techniques", ja: "防止（全技術）", zh: "防護（全部技術）")
    static let preventionMeaning = Words(
        "prevention_meaning",
        """
        “Left open by” are rules whose services such a technique uses: through them it can still come. “MITRE lists” are, of the mitigations M0930 Network Segmentation, \
        M0807 Network Allowlists, M0937 Filter Network Traffic (mostly about layer 7, which this device does not look at), M0931 Network Intrusion Prevention and \
        M0814 Static Network Configuration, those that version 18.1 lists for the technique. Services are told by their usual ports: a rule for HSMS or another protocol \
        on a port of its own is not named.
        """,
        ja: """
            「残る経路」は、その技術が使うサービスを許可しているルールです。これらを通じて実行される可能性が残ります。「MITRE の記載」は、緩和策 M0930 Network Segmentation、\
            M0807 Network Allowlists、M0937 Filter Network Traffic（主にレイヤー7であり本機器は見ません）、M0931 Network Intrusion Prevention、\
            M0814 Static Network Configuration のうち、バージョン 18.1 がその技術に挙げているものです。\
            サービスは標準的なポート番号で判別するため、独自のポートを使う HSMS などのルールは挙がりません。
            """,
        zh: """
            「仍開放之規則」為允許該技術所用服務的規則：仍可能經由其進行。「MITRE 所列」為緩解措施 M0930 Network Segmentation、M0807 Network Allowlists、\
            M0937 Filter Network Traffic（多屬第 7 層，本裝置不檢視）、M0931 Network Intrusion Prevention 與 M0814 Static Network Configuration 中，版本 18.1 針對該技術所列者。\
            服務依常用連接埠判別：使用自訂連接埠的 HSMS 等規則不會列出。
            """)
    static let detection = Words("detection", "Detection", ja: "検知", zh: "偵測")
    static let detectionMeaning = Words(
        "detection_meaning",
        "Alerts are consistent with a technique; layer 4 shows what was tried, not why. The last column counts alerts of the period. Techniques without a kind of alert are left out.",
        ja: "アラートは技術に該当しうることを示すだけです。レイヤー4で分かるのは何が試みられたかであり、その意図ではありません。最後の列は期間中のアラート数です。該当するアラートのない技術は省略しています。",
        zh: "警示僅表示可能與該技術相符；第 4 層只能呈現嘗試了什麼，而非原因。最後一欄為期間內的警示數。無對應警示的技術予以省略。")

    private static let id = Words("id_18_1", "v18.1", ja: "v18.1", zh: "v18.1")
    private static let laterID = Words("id_19", "v19", ja: "v19", zh: "v19")
    private static let name = Words("technique", "Technique", ja: "技術", zh: "技術")
    private static let tactics = Words("tactics", "Tactics", ja: "戦術", zh: "戰術")
    private static let prevented = Words("prevented", "This policy", ja: "本ポリシー", zh: "本政策")
    private static let leftOpen = Words("left_open_by", "Left open by", ja: "残る経路", zh: "仍開放之規則")
    private static let listed = Words("mitre_lists", "MITRE lists", ja: "MITRE の記載", zh: "MITRE 所列")
    private static let limit = Words("limit", "Limit, or why not", ja: "限界・理由", zh: "限制或原因")
    private static let kinds = Words("alert_kinds", "Alerts consistent with it", ja: "該当しうるアラート", zh: "可能相符的警示")
    private static let flow = Words("mitre_detects_by_flow", "MITRE's detection looks at flows", ja: "MITRE の検知がフローを見るか", zh: "MITRE 之偵測檢視網路流（flow）")
    private static let count = Words("alerts", "Alerts", ja: "アラート数", zh: "警示數")

    static let preventionColumns: [(Words, ReportDocument.Column.Style)] = [
        (id, .plain), (laterID, .plain), (name, .plain), (tactics, .long), (prevented, .long), (leftOpen, .long), (listed, .plain), (limit, .long),
    ]
    static let detectionColumns: [(Words, ReportDocument.Column.Style)] = [
        (id, .plain), (laterID, .plain), (name, .long), (kinds, .long), (flow, .plain), (count, .number),
    ]

    static func tactic(_ tactic: AttackTechnique.Tactic) -> Words {
        func words(_ english: String, _ ja: String, _ zh: String) -> Words { Words(tactic.rawValue, english, ja: ja, zh: zh) }
        switch tactic {
        case .initialAccess: return words("Initial Access", "初期アクセス", "初始存取")
        case .execution: return words("Execution", "実行", "執行")
        case .persistence: return words("Persistence", "永続化", "持續潛伏")
        case .privilegeEscalation: return words("Privilege Escalation", "権限昇格", "權限提升")
        case .evasion: return words("Evasion", "回避", "規避")
        case .discovery: return words("Discovery", "探索", "探索")
        case .lateralMovement: return words("Lateral Movement", "横展開", "橫向移動")
        case .collection: return words("Collection", "収集", "收集")
        case .commandAndControl: return words("Command and Control", "指令と制御", "命令與控制")
        case .inhibitResponseFunction: return words("Inhibit Response Function", "応答機能の阻害", "抑制回應功能")
        case .impairProcessControl: return words("Impair Process Control", "プロセス制御の妨害", "破壞製程控制")
        case .impact: return words("Impact", "影響", "衝擊")
        }
    }

    static func limit(_ technique: AttackTechnique) -> Words {
        switch technique.reach {
        case .blocks(.any):
            Words("limit_any", "not through an allowed conversation, nor where it does not cross the checkpoint", ja: "許可された通信の中や、チェックポイントを通らない場合は不可", zh: "已允許的通訊中，或未經過檢查點者不可")
        case .blocks(.control):
            Words("limit_control", "not from an allowed peer, or inside its session: function codes are not seen", ja: "許可された相手から、またはそのセッション内では不可（機能コードは見えない）", zh: "來自已允許之對端或其連線內者不可（看不到功能碼）")
        case .blocks(.remote):
            Words("limit_remote", "not from an allowed host that was taken over", ja: "乗っ取られた許可済みホストからは不可", zh: "來自遭入侵之已允許主機者不可")
        case .blocks(.files):
            Words("limit_files", "not through an allowed share or transfer", ja: "許可された共有や転送を通じたものは不可", zh: "經由已允許的分享或傳輸者不可")
        case .blocks(.outside):
            Words("limit_outside", "not through a tunnel in an allowed conversation", ja: "許可された通信内のトンネルは不可", zh: "已允許通訊中的通道不可")
        case .limits:
            Words("limit_limits", "only who can reach whom is limited; the act itself is not seen", ja: "到達できる相手を限るのみで、行為自体は見えない", zh: "僅限制誰可連到誰；行為本身無法看見")
        case .binding:
            Words("limit_binding", "not where all of it happens on one side, nor for addresses that are not bound", ja: "片側だけで完結する場合や、固定されていないアドレスは不可", zh: "全部發生於同一側，或位址未綁定者不可")
        case .flood:
            Words("limit_flood", "a flood inside an allowed conversation passes: there is no limit of its rate", ja: "許可された通信内の大量送信は通過（流量制限なし）", zh: "已允許通訊中的大量流量會放行（無速率限制）")
        case .none(let reason): self.reason(reason)
        }
    }

    static func reason(_ reason: AttackTechnique.Reason) -> Words {
        switch reason {
        case .host: Words("reason_host", "it happens on the host", ja: "ホスト上で行われる", zh: "發生於主機上")
        case .content: Words("reason_content", "it happens inside an allowed conversation", ja: "許可された通信の中で行われる", zh: "發生於已允許的通訊中")
        case .elsewhere: Words("reason_elsewhere", "by media, radio, serial lines or supplies, not by this wire", ja: "媒体・無線・シリアル回線・サプライチェーンを経由し、この回線を通らない", zh: "經由媒體、無線、序列線路或供應鏈，不經此線路")
        case .effect: Words("reason_effect", "the effect of others, no act on the wire", ja: "他の技術の結果であり、回線上の行為ではない", zh: "為其他技術的結果，並非線路上的行為")
        case .user: Words("reason_user", "a person is made to do it, through what is allowed", ja: "許可された手段を通じて人に行わせる", zh: "經由已允許的途徑誘使人員執行")
        case .absence: Words("reason_absence", "something is kept from coming: only its absence shows, and not why", ja: "通信を届かなくするもので、途絶だけが分かり原因は不明", zh: "使通訊無法到達：僅能看出中斷，無法得知原因")
        }
    }
}
