// Fixed text of the report on zones: what IEC 62443-3-3 and NIST SP 800-207 are about, in our own words.

import Frames

enum ZonesText {
    static let title = Words("zones", "Zones and conduits", ja: "ゾーンとコンジット", zh: "區域（Zone）與管道（Conduit）")
    static let edition = Words(
        "iec-62443-3-3_nist-800-207", "IEC 62443-3-3 (network requirements), NIST SP 800-207 (tenets)", ja: "IEC 62443-3-3（ネットワーク関連の要求）、NIST SP 800-207（原則）",
        zh: "IEC 62443-3-3（網路相關要求）、NIST SP 800-207（原則）")
    static let scope = Words("scope", "How to read this report", ja: "本書の読み方", zh: "本文件閱讀方式")
    static let reading = Words(
        "reading",
        """
        Devices and groups of the policy are read as zones, its rules as conduits between them, as IEC 62443-3-2 has them; whether that division fits the risks of the plant \
        is for its owner to say. The tables after that say of each requirement what the records of this checkpoint show. No security level is claimed: that is a property of \
        a system, and this is one device of it. Subjects are paraphrased; the wording that counts is the standards'.
        """,
        ja: """
            ポリシーの機器とグループをゾーン、ルールをその間のコンジットとして示します（IEC 62443-3-2 の考え方による）。この区分が工場のリスクに合っているかは所有者が判断します。\
            続く表では、各要求事項について本チェックポイントの記録が示すことを述べます。セキュリティレベルは主張しません。それはシステムの性質であり、本機器はその一部に過ぎません。\
            内容は要約であり、正式な文言は各規格によります。
            """,
        zh: """
            政策中的設備與群組視為區域，規則視為其間的管道（依 IEC 62443-3-2 之概念）；此劃分是否符合廠區風險由廠方判定。其後各表說明本檢查點的紀錄對各項要求可呈現什麼。\
            本文件不主張任何安全等級：那是整體系統的性質，本裝置僅為其中之一。各主題為自行改寫之摘要，正式文字以標準原文為準。
            """)
    static let levels = Words(
        "levels", "“Shown” means that the records show it for what crosses this checkpoint, and no more.",
        ja: "「提示あり」は、本チェックポイントを通過するものについて記録が示すという意味に限られます。", zh: "「已呈現」僅表示紀錄就通過本檢查點者有所呈現。")

    static let zones = Words("zones", "Zones", ja: "ゾーン", zh: "區域")
    static let zonesMeaning = Words(
        "zones_meaning", "With the addresses that each holds, and how many of them took part in recorded conversations of the period.",
        ja: "各ゾーンに属するアドレスと、そのうち期間中に記録された通信に現れた数です。", zh: "各區域所含位址，以及其中於期間內出現在通訊紀錄者的數量。")
    static let zone = Words("zone", "Zone", ja: "ゾーン", zh: "區域")
    static let members = Words("addresses", "Addresses", ja: "アドレス", zh: "位址")
    static let macs = Words("macs", "Bound to MAC", ja: "固定 MAC", zh: "綁定 MAC")
    static let sideName = Words("side", "Side", ja: "側", zh: "所在側")
    static let seen = Words("seen", "Seen", ja: "観測数", zh: "已觀察")
    static let deviceZone = Words("device", "device", ja: "機器", zh: "設備")
    static let groupZone = Words("group", "group", ja: "グループ", zh: "群組")
    static let learns = Words("learn", "learns: all passes", ja: "学習中：すべて通過", zh: "學習中：全部放行")
    static let asPolicy = Words("policy", "as the policy", ja: "ポリシーに従う", zh: "依政策")
    static let noZones = Words("no_zones", "The policy names no device and no group.", ja: "ポリシーに機器・グループの定義がありません。", zh: "政策未定義任何設備或群組。")
    static let unzoned = Words("addresses_outside", "Addresses seen that are in no zone", ja: "どのゾーンにも属さない観測アドレス数", zh: "不屬於任何區域的已觀察位址數")
    static let unzonedAddresses = Words("addresses_outside_list", "Those", ja: "該当アドレス", zh: "該等位址")
    static func side(_ side: Side) -> Words {
        switch side {
        case .inside: Words("inside", "inside", ja: "内側", zh: "內側")
        case .outside: Words("outside", "outside", ja: "外側", zh: "外側")
        }
    }

    static let conduits = Words("conduits", "Conduits", ja: "コンジット", zh: "管道")
    static let conduitsMeaning = Words(
        "conduits_meaning", "Each rule lets clients of one zone open conversations to servers of another. What was seen outside of all of them is counted first.",
        ja: "各ルールは、あるゾーンのクライアントから別のゾーンのサーバーへの通信開始を許可します。どのルールにも当てはまらない通信は先に件数を示します。",
        zh: "每條規則允許某區域的用戶端向另一區域的伺服器發起通訊。不屬於任何規則的通訊先列出數量。")
    static let conduit = Words("conduit", "Conduit (rule)", ja: "コンジット（ルール）", zh: "管道（規則）")
    static let fromZone = Words("from_zone", "From", ja: "接続元", zh: "來源")
    static let toZone = Words("to_zone", "To", ja: "接続先", zh: "目的")
    static let onTrial = Words("monitor", "on trial", ja: "試行中", zh: "試行中")
    static let enforcedRule = Words("allow", "allows", ja: "許可", zh: "允許")
    static let expires = Words("expires", "Expires", ja: "失効", zh: "失效時間")
    static let outsideConduits = Words("outside_conduits", "In no conduit", ja: "どのコンジットにも属さない通信", zh: "不屬於任何管道")

    static let id = Words("id", "No.", ja: "番号", zh: "編號")
    static let iec = Words("iec_62443", "IEC 62443-3-3", ja: "IEC 62443-3-3", zh: "IEC 62443-3-3")
    static let iecMeaning = Words(
        "iec_meaning", "System requirements that are about networks, and what the records show of each.", ja: "ネットワークに関するシステム要求事項と、記録が示すことです。", zh: "與網路相關的系統要求，以及紀錄可呈現的內容。")
    static let nist = Words("nist_800_207", "NIST SP 800-207", ja: "NIST SP 800-207", zh: "NIST SP 800-207")
    static let nistMeaning = Words(
        "nist_meaning",
        """
        The checkpoint is a policy enforcement point before resources that can run no agent (an enclave gateway); the daemon and whoever applies policies are its policy engine \
        and administrator. What the seven tenets are about, and what of it holds here:
        """,
        ja: "本チェックポイントは、エージェントを導入できない資源の手前に置かれたポリシー実施点（エンクレーブゲートウェイ）です。デーモンとポリシーの適用者がポリシーエンジンおよび管理者に当たります。七つの原則の内容と、ここで成り立つこと：",
        zh: "本檢查點是設於無法安裝代理程式之資源前方的政策執行點（enclave gateway）；常駐程式與套用政策者即為政策引擎與管理者。七項原則的內容與此處成立者如下：")

    // MARK: - IEC 62443-3-3

    static let notInMode = Words("mode_lacks", "The mode is not enforce: nothing is blocked.", ja: "モードが enforce ではないため、何も遮断されません。", zh: "模式並非 enforce：不阻擋任何通訊。")
    static let notThroughout = Words(
        "not_throughout", "Not for all of the period, or it cannot be told: see the times in each mode.", ja: "期間全体では成り立たないか、確認できません。各モードの時間を参照してください。", zh: "並非整段期間皆成立，或無法判定：請見各模式的時間。")
    static let segmentation = Words("segmentation", "Networks are divided by segments", ja: "ネットワークの分割", zh: "網路分段")
    static let segmentationShows = Words("segmentation_shows", "logical conduits for each device", ja: "機器ごとの論理的なコンジット", zh: "各設備之邏輯管道")
    static let segmentationLacks = Words("segmentation_lacks", "only what crosses this checkpoint is divided", ja: "本チェックポイントを通過する通信のみ", zh: "僅限通過本檢查點者")
    static let physical = Words("physical", "Physical segmentation of control networks", ja: "制御ネットワークの物理的な分割", zh: "控制網路的實體分段")
    static let physicalLacks = Words("physical_lacks", "both sides are one Ethernet", ja: "両側は一つのイーサネットである", zh: "兩側屬同一乙太網路")
    static let independence = Words("independence", "Independence from other networks", ja: "他のネットワークからの独立", zh: "獨立於其他網路")
    static let independenceLacks = Words("independence_lacks", "a matter of the plant's services, not of the wire", ja: "工場のサービス構成によるもので、回線からは分からない", zh: "取決於廠區服務架構，非線路所能呈現")
    static let criticalNetworks = Words("critical_networks", "Isolation of critical networks, logically and physically", ja: "重要ネットワークの論理的・物理的な隔離", zh: "關鍵網路之邏輯與實體隔離")
    static let criticalNetworksLacks = Words("critical_networks_lacks", "no physical isolation", ja: "物理的な隔離ではない", zh: "並非實體隔離")
    static let boundary = Words("boundary", "Traffic at the boundary of zones is monitored and controlled", ja: "ゾーン境界の通信の監視と制御", zh: "區域邊界之通訊監視與控制")
    static let boundaryShows = Words("boundary_shows", "rules with counts, denials by day, the audit log", ja: "ルールごとの件数、日ごとの拒否、監査ログ", zh: "各規則之計數、每日拒絕、稽核日誌")
    static let boundaryLacks = Words("boundary_lacks", "other ways between the zones are not seen", ja: "ゾーン間の他の経路は見えない", zh: "看不到區域間的其他路徑")
    static let denyByDefault = Words("deny_by_default", "Everything is denied but what is allowed by exception", ja: "原則拒否・例外許可", zh: "預設拒絕、例外允許")
    static let denyByDefaultShows = Words("deny_by_default_shows", "the mode is enforce; what no rule lists is dropped", ja: "モードは enforce で、ルールにない通信は破棄される", zh: "模式為 enforce；規則未列者予以丟棄")
    static let island = Words("island", "A zone can be cut off from all others", ja: "ゾーンを他から切り離す運転", zh: "可將區域與其他區域隔斷運作")
    static let islandShows = Words("island_shows", "one command does it; its uses are under quarantine and isolation", ja: "一つのコマンドで実施でき、使用実績は隔離の実施に示す", zh: "單一指令即可執行；使用紀錄見隔離措施")
    static let islandLacks = Words("island_lacks", "that the plant goes on working so is not shown", ja: "その状態で工場が稼働し続けられるかは示せない", zh: "無法呈現廠區於該狀態下能否持續運作")
    static let failClose = Words("fail_close", "If boundary protection fails, nothing crosses", ja: "境界防護の故障時に通信を遮断", zh: "邊界防護失效時阻斷通訊")
    static let failCloseShows = Words("fail_close_shows", "every cause of failure in the policy is “closed”, the full flow table as well", ja: "ポリシーのすべての障害要因（フローテーブル満杯を含む）が「closed」", zh: "政策中所有失效原因（含連線流表已滿）均為「closed」")
    static let failCloseLacks = Words(
        "fail_close_lacks", "whether hardware bypasses the device, and what earlier policies said: the first is for who installs it",
        ja: "機器を迂回するハードウェアバイパスの有無（設置者が確認する）、および以前のポリシーの設定", zh: "是否有繞過裝置之硬體旁路（須由安裝者確認），以及先前政策之設定")
    static let failsOtherwise = Words(
        "fails_otherwise", "some cause of failure is “open” or “kernel” (see what it depends on): it is built to keep the wire in use", ja: "「open」または「kernel」の障害要因がある（前提となる事実を参照）。回線の継続を優先する設定である",
        zh: "部分失效原因設為「open」或「kernel」（見所依據的事實）：設定以維持線路運作為優先")
    static let personToPerson = Words("person_to_person", "Messages from person to person from outside are restricted", ja: "外部からの個人間メッセージの制限", zh: "限制來自外部的個人間訊息")
    static let personToPersonShows = Words("person_to_person_shows", "ports of mail and messengers that no rule lists are dropped", ja: "ルールにないメールやメッセージのポートは破棄される", zh: "規則未列的郵件與即時訊息連接埠予以丟棄")
    static let personToPersonLacks = Words("person_to_person_lacks", "messages by an allowed port are not seen", ja: "許可されたポート上のメッセージは見えない", zh: "經已允許連接埠的訊息無法看見")
    static let logAccess = Words("log_access", "Authorised people and tools can read the logs", ja: "権限者・ツールによるログの参照", zh: "獲授權之人員與工具可讀取日誌")
    static let logAccessShows = Words(
        "log_access_shows", "‘sekisho audit show’ and ‘export’; a changed event is found, a log cut off or written anew only by a head kept elsewhere",
        ja: "'sekisho audit show' と 'export'。イベントの変更は検出できるが、末尾の切り捨てや全体の作り直しは別に保管した末尾ハッシュでのみ検出できる",
        zh: "'sekisho audit show' 與 'export'；事件遭變更可被發現，末端截斷或整份重寫則僅能以另存的末端雜湊發現")
    static let ownLogOnly = Words("own_log_only", "for this checkpoint's log only", ja: "本チェックポイントのログに限る", zh: "僅限本檢查點之日誌")
    static let monitoring = Words("monitoring", "Security is monitored continuously", ja: "継続的な監視", zh: "持續監視")
    static let monitoringShows = Words("monitoring_shows", "alerts and counters while a bridge runs", ja: "ブリッジ稼働中のアラートと計数", zh: "橋接器執行期間的警示與計數")
    static let monitoringLacks = Words("monitoring_lacks", "layer 4 only, at this place only; that somebody looks is not shown", ja: "レイヤー4かつこの地点に限る。誰かが確認していることは示せない", zh: "僅限第 4 層與此位置；無法呈現是否有人查看")
    static let load = Words("load", "Load from attacks is managed", ja: "攻撃による負荷の管理", zh: "管理攻擊造成的負載")
    static let loadShows = Words("load_shows", "what no rule lists is dropped before it reaches the devices; attempts never displace established flows", ja: "ルールにない通信は機器に届く前に破棄され、試行が確立済みフローを押し出すことはない", zh: "規則未列者在到達設備前即丟棄；連線嘗試不會排擠已建立的連線")
    static let loadLacks = Words("load_lacks", "there is no limit of rates within allowed conversations", ja: "許可された通信内の流量制限はない", zh: "已允許通訊中無速率限制")
    static let effectOnOthers = Words("effect_on_others", "A flood from here does not spread to other systems", ja: "自システムからの大量送信が他へ及ばないこと", zh: "本系統之洪流不擴及其他系統")
    static let effectOnOthersLacks = Words("effect_on_others_lacks", "as above; what does not cross the checkpoint spreads as it will", ja: "同上。チェックポイントを通らないものは対象外", zh: "同上；未經過檢查點者不受控制")
    static let settings = Words("settings", "Settings can be reported in a form that machines read", ja: "設定の機械可読な出力", zh: "可輸出機器可讀的設定")
    static let settingsShows = Words("settings_shows", "the policy is a text file with a hash; every version is kept, with who and why", ja: "ポリシーはハッシュ付きテキストで、全バージョンが実施者・理由とともに保存される", zh: "政策為具雜湊之文字檔；各版本連同執行者與原因均保留")
    static let settingsLacks = Words("settings_lacks", "settings of this checkpoint, not of the equipment", ja: "本チェックポイントの設定に限り、装置の設定ではない", zh: "僅限本檢查點之設定，非設備之設定")
    static let leastFunction = Words("least_function", "Functions, ports and services that are not needed are off", ja: "不要な機能・ポート・サービスの無効化", zh: "停用不需要的功能、連接埠與服務")
    static let leastFunctionShows = Words("least_function_shows", "which ports were used across the checkpoint", ja: "チェックポイント越しに使われたポート", zh: "通過檢查點所使用的連接埠")
    static let leastFunctionLacks = Words("least_function_lacks", "ports only; nothing is switched off on any host", ja: "ポートのみ。ホスト側の無効化は行わない", zh: "僅限連接埠；不會停用主機上的任何功能")
    static let inventory = Words("inventory", "An inventory of components", ja: "構成要素の一覧", zh: "元件清冊")
    static let inventoryShows = Words("inventory_shows", "addresses that were seen, and the zones they are in", ja: "観測されたアドレスと所属ゾーン", zh: "已觀察位址及其所屬區域")
    static let inventoryLacks = Words("inventory_lacks", "what was silent, and what software there is", ja: "通信しなかったもの、およびソフトウェア", zh: "未通訊者，以及軟體內容")
    static let ownConsole = Words("own_console", "Auditable events, their storage, time stamps and integrity, on this device itself", ja: "本機器自体の監査イベント、保存、時刻、完全性", zh: "本裝置自身之可稽核事件、儲存、時間戳記與完整性")
    static let ownConsoleShows = Words("own_console_shows", "the audit log with its types, accounts, times and chain of hashes", ja: "種別・アカウント・日時・ハッシュ連鎖を備えた監査ログ", zh: "具類型、帳號、時間與雜湊鏈的稽核日誌")
    static let ownConsoleLacks = Words("own_console_lacks", "root on the device can write a false log; the head must be kept elsewhere", ja: "本機器の root は虚偽のログを書けるため、末尾ハッシュを別に保管する必要がある", zh: "裝置上的 root 可寫入不實日誌；末端雜湊須另存他處")
    static let ownUsers = Words("own_users", "Identification and authentication of this device's own users", ja: "本機器の利用者の識別と認証", zh: "本裝置使用者之識別與驗證")
    static let ownUsersLacks = Words("own_users_lacks", "left to the operating system it runs on; see there", ja: "稼働する OS に委ねており、そちらで確認する", zh: "交由其作業系統處理，請另行確認")

    // MARK: - NIST SP 800-207

    static let tenet1 = Words("tenet_1", "Every source of data and every service is a resource", ja: "すべてのデータ源とサービスを資源とみなす", zh: "所有資料來源與服務均視為資源")
    static let tenet1Shows = Words("tenet_1_shows", "each tool and server is one, with rules of its own", ja: "各装置・サーバーが固有のルールを持つ資源である", zh: "每部設備與伺服器皆為資源，並有各自規則")
    static let tenet1Lacks = Words(
        "tenet_1_lacks", "resources that no rule names, and what does not cross the checkpoint", ja: "ルールに名前のない資源、およびチェックポイントを通らないもの",
        zh: "規則未列名的資源，以及未經過檢查點者")
    static let tenet2 = Words("tenet_2", "All communication is secured, wherever it comes from", ja: "場所によらず、すべての通信を保護する", zh: "無論位置，所有通訊均受保護")
    static let tenet2Shows = Words("tenet_2_shows", "only that no location is trusted", ja: "場所を信頼しないことのみ", zh: "僅限不信任任何位置")
    static let tenet2Lacks = Words("tenet_2_lacks", "no encryption is added", ja: "暗号化は追加しない", zh: "未增加加密")
    static let tenet3 = Words("tenet_3", "Access is granted for each session", ja: "セッションごとにアクセスを許可する", zh: "逐工作階段授予存取")
    static let tenet3Shows = Words("tenet_3_shows", "each connection is judged", ja: "接続ごとに判定する", zh: "逐連線判斷")
    static let tenet3Lacks = Words("tenet_3_lacks", "not each session of a user", ja: "利用者のセッション単位ではない", zh: "非使用者之工作階段")
    static let tenet4 = Words("tenet_4", "Access depends on a policy that takes in more than addresses", ja: "アドレス以外も考慮する動的なポリシー", zh: "存取取決於涵蓋位址以外資訊的動態政策")
    static let tenet4Shows = Words("tenet_4_shows", "rules that expire, sides, VLANs, quarantine by alerts where the policy asks for it", ja: "期限付きルール、側、VLAN、ポリシーが指定する場合のアラートによる隔離", zh: "具期限規則、所在側、VLAN，以及政策指定時依警示隔離")
    static let tenet4Lacks = Words("tenet_4_lacks", "no identity of users, no posture of devices", ja: "利用者の識別情報や機器の状態は考慮しない", zh: "不含使用者身分與設備狀態")
    static let tenet5 = Words("tenet_5", "The state of all assets is watched and measured", ja: "すべての資産の状態の監視と測定", zh: "監測並衡量所有資產的狀態")
    static let tenet5Shows = Words("tenet_5_shows", "which devices there are, and how they behave on the wire", ja: "存在する機器と、回線上の振る舞い", zh: "有哪些設備及其線上行為")
    static let tenet5Lacks = Words("tenet_5_lacks", "patches, settings and software of devices are not seen", ja: "機器のパッチ・設定・ソフトウェアは見えない", zh: "看不到設備的修補、設定與軟體")
    static let tenet6 = Words("tenet_6", "Authentication and authorisation are strictly enforced before access", ja: "アクセス前の認証・認可の徹底", zh: "存取前嚴格執行身分驗證與授權")
    static let tenet6Lacks = Words("tenet_6_lacks", "IP and MAC addresses are identifiers, not credentials: nobody is authenticated", ja: "IP・MAC アドレスは識別子であり認証情報ではない。認証は行わない", zh: "IP 與 MAC 位址僅為識別碼而非憑證：並未驗證任何人")
    static let tenet7 = Words("tenet_7", "As much as possible is collected about assets, network and communication", ja: "資産・ネットワーク・通信の情報を可能な限り収集する", zh: "盡可能蒐集資產、網路與通訊資訊")
    static let tenet7Shows = Words("tenet_7_shows", "every conversation is recorded, and what is done to the policy", ja: "すべての通信とポリシーの操作を記録する", zh: "記錄所有通訊及對政策的操作")
}
