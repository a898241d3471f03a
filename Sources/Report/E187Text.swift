// SEMI E187-0122 in our own words: its numbers, and what a checkpoint can and cannot show. None of the standard's text stands here.

enum E187Text {
    static let title = Words(
        "e187", "Evidence for an assessment against SEMI E187", ja: "SEMI E187 評価のための証跡", zh: "SEMI E187 評估佐證資料")
    static let edition = Words(
        "E187-0122", "SEMI E187-0122; check SEMI's site for a newer revision", ja: "SEMI E187-0122（新しい改訂の有無は SEMI のサイトで確認すること）",
        zh: "SEMI E187-0122（是否有更新版本請至 SEMI 網站確認）")

    static let scope = Words("scope", "What this report is, and what it is not", ja: "本書の位置づけ", zh: "本文件的定位")
    static let duty = Words(
        "duty",
        """
        SEMI E187 asks equipment suppliers to show the cybersecurity of fab equipment and of material handling systems that run Windows or Linux, before they ship it. \
        A checkpoint that the fab puts into its network is none of that equipment: it can neither meet the standard itself nor make a tool meet it. This report gives \
        the assessor what the checkpoint has recorded, and says of each requirement what of it that shows.
        """,
        ja: """
            SEMI E187 は、Windows または Linux で動作する半導体製造装置および搬送システムについて、出荷前にサイバーセキュリティを示すことを装置サプライヤーに求める規格です。\
            工場がネットワークに設置するチェックポイントはその装置ではなく、それ自体が規格を満たすことも、装置に規格を満たさせることもできません。\
            本書は、チェックポイントの記録を評価者に提供し、各要求事項についてその記録が何を示すかを述べるものです。
            """,
        zh: """
            SEMI E187 要求設備供應商於出貨前，就執行 Windows 或 Linux 的半導體製造設備與自動物料搬運系統，提出其資安佐證。晶圓廠於網路中設置的檢查點並非該設備：\
            它本身無法滿足此標準，也無法使設備滿足此標準。本文件提供檢查點所記錄的資料予評估者，並逐項說明這些資料能呈現什麼。
            """)
    static let reading = Words(
        "reading",
        "Whether a requirement is met is the assessor's to say. The column for that is empty, whatever the evidence is, and nothing here fills it in.",
        ja: "要求事項を満たすかどうかの判断は評価者が行います。証跡の内容にかかわらず判定欄は空欄であり、本書が記入することはありません。",
        zh: "是否符合要求由評估者判定。無論佐證內容為何，判定欄一律留白，本文件不代為填寫。")
    static let paraphrase = Words(
        "paraphrase",
        "Subjects are paraphrased in Sekisho's own words; the wording that counts is the standard's. The numbers are those of the edition of January 2022; this program does not know later ones.",
        ja: "要求事項の内容は Sekisho による要約であり、正式な文言は規格本文によります。番号は2022年1月版のものです。本プログラムはそれ以降の版に対応していません。",
        zh: "各要求主題均為 Sekisho 自行改寫之摘要，正式文字以標準原文為準。編號依 2022 年 1 月版；本程式不涵蓋之後的版本。")
    static let meaningShown = Words(
        "meaning_shown", "“shown”: the records show it as far as the requirement goes. No requirement of E187 is shown so by a device in the network.",
        ja: "「提示あり」：記録が要求事項の範囲を示すもの。E187 の要求事項のうち、ネットワーク上の機器がこれに該当するものはありません。",
        zh: "「已呈現」：紀錄足以呈現該要求之範圍。E187 中沒有任何要求可由網路裝置如此呈現。")
    static let meaningPartly = Words(
        "meaning_in_part", "“shown in part”: the records show something of it; what they do not show is said.",
        ja: "「一部提示」：記録がその一部を示すもの。示せない部分も明記します。", zh: "「部分呈現」：紀錄呈現其中一部分；未能呈現者一併說明。")
    static let meaningNot = Words(
        "meaning_not_evidenced", "“not evidenced by this device”: the records say nothing about it. That is the default, and says nothing about the equipment.",
        ja: "「本機器では証跡なし」：記録からは何も示せないもの。これが既定値であり、装置の状態について何かを述べるものではありません。",
        zh: "「本裝置未提供佐證」：紀錄對此未能說明任何事項。此為預設值，並不代表設備的狀況。")

    static let requirements = Words("requirements", "Requirements", ja: "要求事項一覧", zh: "要求事項一覽")
    static let assessorRule = Words(
        "assessor_rule",
        """
        The last two columns are the assessor's: C (met), NC (not met) or NA (not applicable). NA is for a requirement that depends on a condition which does not hold; \
        NC needs an explanation.
        """,
        ja: "最後の二列は評価者の記入欄です：C（適合）、NC（不適合）、NA（該当なし）。NA は、条件付きの要求事項でその条件に当てはまらない場合に限られます。NC には説明が必要です。",
        zh: "最後兩欄由評估者填寫：C（符合）、NC（不符合）、NA（不適用）。NA 僅用於附條件之要求且該條件不成立時；NC 須附說明。")
    static let table = Words(
        "compliance_table", "the supplier's table of results for all requirements, its codes, and explanations", ja: "全要求事項に対するサプライヤーの結果表、判定コードおよび説明",
        zh: "供應商對所有要求的結果表、判定代碼與說明")
    static let tableRules = Words(
        "table_rules",
        "Requirements 90001 to 90003 are about that table itself, which the supplier fills in. This form can hold it; it is no statement of the supplier until somebody who may do so has filled it in.",
        ja: "要求事項 90001～90003 は、サプライヤーが記入するこの結果表そのものに関するものです。本様式を用いることはできますが、権限のある者が記入するまではサプライヤーの表明とはなりません。",
        zh: "要求 90001 至 90003 係關於該結果表本身，應由供應商填寫。本表格可供使用，但在有權限者填寫之前，不構成供應商的聲明。")

    static let statements = Words("statements", "Requirement by requirement", ja: "要求事項ごとの説明", zh: "逐項說明")
    static let statementsMeaning = Words(
        "statements_meaning", "What the records of this checkpoint show of each requirement, and what they do not.",
        ja: "各要求事項について、本チェックポイントの記録が示すことと示せないことです。", zh: "就各項要求，說明本檢查點紀錄可呈現與無法呈現的內容。")
    static let compensationUse = Words(
        "compensation_use", "If the assessor enters NC, the explanation may cite this as a compensating measure of the fab; it does not meet the requirement:",
        ja: "評価者が NC と記入する場合、工場側の補完的な対策として次の記述を説明に引用できます。これにより要求事項が満たされるわけではありません：",
        zh: "若評估者填寫 NC，說明中可引用下列內容作為廠方的補償性措施；惟此並不代表符合該要求：")
    static let compensation = Words(
        "compensation",
        """
        “While a bridge ran in the period of this report, its mode was enforce: of the traffic that crossed this checkpoint, conversations that its policy does not \
        list were dropped, but for the times given under failures of the checkpoint.”
        """,
        ja: """
            「本書の期間中、ブリッジの稼働時のモードは enforce であり、本チェックポイントを通過しようとした通信のうち、ポリシーに記載のないものは破棄された。\
            ただし、チェックポイントの障害として記載した時間を除く。」
            """,
        zh: "「於本文件所載期間，橋接器執行時均為 enforce 模式；行經本檢查點的通訊中，政策未列者均予丟棄，惟檢查點失效所載時間除外。」")
}

extension E187Requirement {
    static let all: [E187Requirement] = [
        E187Requirement(
            id: "E187.00-RQ-00001-00", clause: "7.2",
            subject: Words(
                "supported_os", "Operating systems that their vendor still supports when the equipment ships", ja: "出荷時点でベンダーのサポート対象である OS",
                zh: "出貨時仍受原廠支援的作業系統"),
            shows: nil,
            lacks: Words(
                "supported_os_lacks", "Which operating system the equipment runs is not visible at layer 4, and is not guessed.", ja: "装置の OS はレイヤー4では分からず、推測も行いません。",
                zh: "於第 4 層無法得知設備的作業系統，亦不予推測。"), need: .never, evidence: [], isCompensated: true),
        E187Requirement(
            id: "E187.00-RQ-00002-00", clause: "7.2",
            subject: Words(
                "patching", "A documented way to bring in patches, with their effects on compatibility and performance", ja: "互換性・性能への影響を含む、パッチ適用手順の文書",
                zh: "修補程式套用程序文件，包含對相容性與效能的影響"),
            shows: nil,
            lacks: Words(
                "patching_lacks", "It is the supplier's document.", ja: "サプライヤーが用意する文書です。", zh: "此為供應商應備之文件。"), need: .never, evidence: [], isCompensated: true),
        E187Requirement(
            id: "E187.00-RQ-00003-00", clause: "8.2",
            subject: Words(
                "transmission", "Protected variants of the web, file transfer and terminal services that the equipment offers", ja: "装置が提供するウェブ・ファイル転送・端末サービスの保護された方式",
                zh: "設備所提供之網頁、檔案傳輸與終端機服務的受保護方式"),
            shows: Words(
                "transmission_shows", """
                Which of the usual ports, with and without protection, were used or tried (“Answered” says how many got an answer), by whom, and under which rule; and that \
                others were blocked where the mode is enforce.
                """,
                ja: "保護の有無それぞれの標準ポートのうち使用または試行されたもの（『応答あり』は応答のあった数）、その当事者、該当ルール。enforce モードではそれ以外が遮断されたこと。",
                zh: "常用之受保護與未受保護連接埠中曾使用或嘗試者（「有回應」為獲回應之數）、通訊雙方與對應規則；於 enforce 模式下其餘均遭阻擋。"),
            lacks: Words(
                "transmission_lacks", "What the equipment supports, which services it offers but nobody used, and whether what is said on a protected variant's port is protected.",
                ja: "装置が対応している方式、提供しているものの使われなかったサービス、保護された方式のポート上の通信が実際に保護されているか。",
                zh: "設備支援哪些方式、提供但無人使用的服務，以及受保護方式之連接埠上的通訊是否確實受保護。"), need: .traffic, evidence: ["clear_text"]),
        E187Requirement(
            id: "E187.00-RQ-00004-00", clause: "8.3",
            subject: Words(
                "network_configuration", "Documentation of the network configuration, of the protocols and ports in use, and of how to change it", ja: "ネットワーク構成、使用するプロトコルとポート、およびその変更方法の文書",
                zh: "網路組態、使用之通訊協定與連接埠，以及變更方式的文件"),
            shows: Words(
                "network_configuration_shows", "Which conversations were observed, in which direction and since when; the rule, purpose and owner of each; where the declared policy and the observed traffic differ.",
                ja: "観測された通信とその方向・期間、各通信のルール・目的・責任者、宣言されたポリシーと観測された通信の差異。",
                zh: "觀察到的通訊、方向與期間；各通訊之規則、用途與負責人；宣告之政策與實際通訊的差異。"),
            lacks: Words(
                "network_configuration_lacks", "Ports that listen and were never asked, loopback, networks inside the equipment. The document itself, and how to change the configuration, remain the supplier's.",
                ja: "待ち受けていても接続されなかったポート、ループバック、装置内部のネットワーク。文書そのものと構成の変更方法はサプライヤーが用意するものです。",
                zh: "監聽中但從未被連線的連接埠、本機回送（loopback）、設備內部網路。文件本身與組態變更方式仍由供應商提供。"), need: .traffic,
            evidence: ["matrix", "declared", "unused", "owners"]),
        E187Requirement(
            id: "E187.00-RQ-00005-00", clause: "9.2",
            subject: Words(
                "vulnerability_scan", "A vulnerability scan before shipment, with a report and nothing critical left", ja: "出荷前の脆弱性スキャンとその報告（重大な指摘が残っていないこと）",
                zh: "出貨前的弱點掃描及報告（不得留有重大發現）"),
            shows: nil,
            lacks: Words("vulnerability_scan_lacks", "This device scans nothing.", ja: "本機器はスキャンを行いません。", zh: "本裝置不進行掃描。"), need: .never, evidence: [], isCompensated: true),
        E187Requirement(
            id: "E187.00-RQ-00006-00", clause: "9.3",
            subject: Words("malware_scan", "A malware scan before shipment, with a report", ja: "出荷前のマルウェアスキャンとその報告", zh: "出貨前的惡意程式掃描及報告"),
            shows: nil,
            lacks: Words("malware_scan_lacks", "This device looks at no file and no content.", ja: "本機器はファイルも通信内容も検査しません。", zh: "本裝置不檢視任何檔案或內容。"), need: .never, evidence: []),
        E187Requirement(
            id: "E187.00-RQ-00007-00", clause: "9.4",
            subject: Words("anti_malware", "Documents on which anti-malware solutions go together with the equipment", ja: "装置と併用できるマルウェア対策製品の文書", zh: "與設備相容之防惡意程式方案文件"),
            shows: nil,
            lacks: Words("anti_malware_lacks", "It is the supplier's document.", ja: "サプライヤーが用意する文書です。", zh: "此為供應商應備之文件。"), need: .never, evidence: [], isCompensated: true),
        E187Requirement(
            id: "E187.00-RQ-00008-00", clause: "9.4",
            subject: Words(
                "hardening", "Documents on hardening: interfaces such as USB, and utilities and services that are not needed", ja: "堅牢化の文書：USB などの入出力、不要なユーティリティやサービス",
                zh: "強化文件：USB 等介面，以及不需要的工具與服務"),
            shows: Words(
                "hardening_shows", "Little: which permitted services nobody has used, and which services were asked for and not allowed.", ja: "わずかです：許可されているものの使われなかったサービスと、要求されたものの許可されていないサービス。",
                zh: "有限：已允許但無人使用的服務，以及曾被要求但未獲允許的服務。"),
            lacks: Words(
                "hardening_lacks", "Anything on the host itself. This device disables nothing there, and sees no USB port and no local service.", ja: "ホスト自体に関すること全般。本機器はホスト上の何も無効にせず、USB ポートやローカルサービスも把握できません。",
                zh: "主機本身的任何事項。本裝置不會停用主機上的任何項目，也無法得知 USB 連接埠或本機服務。"), need: .traffic, evidence: ["declared", "unused"]),
        E187Requirement(
            id: "E187.00-RQ-00009-00", clause: "9.5",
            subject: Words("authentication", "Authentication for access to the operating system and the equipment", ja: "OS および装置へのアクセスの認証", zh: "存取作業系統與設備的身分驗證"),
            shows: nil,
            lacks: Words(
                "authentication_lacks", "Who logs in is not visible at layer 4. Addresses are identifiers and no credentials.", ja: "誰がログインするかはレイヤー4では分かりません。アドレスは識別子であり、認証情報ではありません。",
                zh: "於第 4 層無法得知登入者。位址僅為識別碼，並非憑證。"), need: .never, evidence: []),
        E187Requirement(
            id: "E187.00-RQ-00010-00", clause: "9.5",
            subject: Words("authorization", "Authorisation that allows duties to be separated and rights to be kept small", ja: "職務分離と最小権限を可能にする認可", zh: "可支援職責區分與最小權限的授權機制"),
            shows: nil,
            lacks: Words(
                "authorization_lacks", "Rights of users on the equipment. That few conversations are allowed is a property of the network, and is not claimed for this.",
                ja: "装置上のユーザー権限。許可される通信が限られていることはネットワークの性質であり、この要求事項の証跡とはしません。",
                zh: "設備上的使用者權限。僅允許少數通訊屬網路之性質，不作為此要求的佐證。"), need: .never, evidence: []),
        E187Requirement(
            id: "E187.00-RQ-00011-00", clause: "10.2",
            subject: Words("log_export", "Security event logs of system and applications that can be recorded and exported", ja: "記録・出力が可能なシステムおよびアプリケーションのセキュリティイベントログ", zh: "可記錄與匯出之系統與應用程式安全事件日誌"),
            shows: Words(
                "log_export_shows", "The log of this checkpoint is recorded and can be exported, as a complement; and whether something flows from the equipment to a log server.",
                ja: "補完として、本チェックポイントのログが記録・出力できること。また、装置からログサーバーへの通信の有無。", zh: "作為補充：本檢查點日誌可記錄並匯出；以及設備是否有通訊送往日誌伺服器。"),
            lacks: Words(
                "log_export_lacks", "The logs of the equipment: this device does not make them, and does not read them on their way.", ja: "装置のログ。本機器はそれを作成せず、送信中の内容も読みません。",
                zh: "設備本身的日誌：本裝置不產生，亦不讀取傳送中的內容。"), need: .log, evidence: ["log_conduits", "integrity"]),
        E187Requirement(
            id: "E187.00-RQ-00012-00", clause: "10.2",
            subject: Words(
                "log_events", "Logged events of access control, configuration changes and system errors, with type, description, account and time", ja: "アクセス制御・構成変更・システムエラーのイベントの記録（種別・内容・アカウント・日時を含む）",
                zh: "存取控制、組態變更與系統錯誤事件之紀錄，含類型、說明、帳號與時間"),
            shows: Words(
                "log_events_shows", "For the log of this checkpoint only: its events have these categories and these fields.", ja: "本チェックポイントのログに限り、イベントがこれらの分類と項目を備えていること。",
                zh: "僅就本檢查點之日誌：其事件具備上述類別與欄位。"),
            lacks: Words("log_events_lacks", "The logs of the equipment.", ja: "装置のログ。", zh: "設備本身的日誌。"), need: .log, evidence: ["integrity", "versions", "quarantines"]),
    ]
}
