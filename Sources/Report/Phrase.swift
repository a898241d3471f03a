// Words that every report uses.

import Foundation
import Policy

enum Phrase {
    static let nothing = Words("nothing", "none", ja: "該当なし", zh: "無")
    static let yes = Words("yes", "yes", ja: "はい", zh: "是")
    static let no = Words("no", "no", ja: "いいえ", zh: "否")
    static let contents = Words("contents", "Contents", ja: "目次", zh: "目錄")
    static let footer = Words(
        "footer",
        """
        Made by Sekisho from its own records. Everything in it can be produced again with the same command and the period of the first page, while the records \
        are kept and nothing in them is forgotten.
        """,
        ja: "本書は Sekisho が自身の記録から作成したものです。記録が保存され削除されていない間は、同じコマンドと表紙の期間を指定すれば再作成できます。",
        zh: "本文件由 Sekisho 依其自身紀錄產生。只要紀錄仍保留且未經刪除，以相同指令並指定首頁所載期間即可重新產生。")

    static let standingShown = Words("shown", "shown", ja: "提示あり", zh: "已呈現")
    static let standingPartly = Words("in_part", "shown in part", ja: "一部提示", zh: "部分呈現")
    static let standingNot = Words(
        "not_evidenced", "not evidenced by this device", ja: "本機器では証跡なし", zh: "本裝置未提供佐證")

    static let mostOfADay = Words("most_of_a_day", "at most on one day:", ja: "1日の最大：", zh: "單日最多：")

    static func more(_ count: Int) -> Words { Words("more", "and \(count) more", ja: "ほか \(count) 件", zh: "另有 \(count) 項") }
    static func moreRows(_ count: Int) -> Words {
        let number = PeopleFormat.grouped(UInt64(count))
        return Words(
            "more_rows", "\(number) more rows are left out here; --rows takes more of them, and --json has all.",
            ja: "ほか \(number) 行は省略しています。--rows で行数を増やせます。--json には全件が含まれます。",
            zh: "此處另略去 \(number) 列；可用 --rows 增加列數，--json 則包含全部。")
    }

    static func duration(_ seconds: Double) -> Words {
        if seconds < 1 {
            let text = String(format: "%.1f ms", seconds * 1000)
            return Words("duration", text, ja: text, zh: text)
        }
        if seconds < 120 {
            let text = String(format: "%.1f", seconds)
            return Words("duration", "\(text) s", ja: "\(text) 秒", zh: "\(text) 秒")
        }
        let whole = Int(min(seconds, 1e15))
        let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60)
        if days > 0 { return Words("duration", "\(days) d \(hours) h", ja: "\(days) 日 \(hours) 時間", zh: "\(days) 天 \(hours) 小時") }
        return hours > 0
            ? Words("duration", "\(hours) h \(minutes) min", ja: "\(hours) 時間 \(minutes) 分", zh: "\(hours) 小時 \(minutes) 分")
            : Words("duration", "\(minutes) min", ja: "\(minutes) 分", zh: "\(minutes) 分")
    }

    // What there may be too little of.
    static let noTraffic = Words(
        "no_traffic", "No traffic is recorded for this period: nothing can be said about conversations. Record with 'sekisho run --state' or 'sekisho learn'.",
        ja: "この期間の通信は記録されていないため、通信については何も示せません。'sekisho run --state' または 'sekisho learn' で記録してください。",
        zh: "此期間沒有通訊紀錄，因此無法就通訊提出任何佐證。請以 'sekisho run --state' 或 'sekisho learn' 進行記錄。")
    static let noPolicy = Words(
        "no_policy", "No policy is known that was in use by the end of the period: what was observed cannot be compared with what is declared. Give one with --policy.",
        ja: "期間末までに適用されたポリシーが不明なため、観測内容と宣言内容を比較できません。--policy で指定してください。",
        zh: "查無期間結束前使用中的政策，無法將觀察結果與宣告內容比對。請以 --policy 指定。")
    static let policyUnreadable = Words(
        "policy_unreadable", "The policy in use could not be read from the audit log: its text is missing or was changed. See 'sekisho audit verify'.",
        ja: "適用中のポリシーを監査ログから読み取れません。本文が欠落しているか、変更されています。'sekisho audit verify' を確認してください。",
        zh: "無法從稽核日誌讀取使用中的政策：其內容遺失或已遭變更。請執行 'sekisho audit verify'。")
    static let noLog = Words(
        "no_log", "There is no audit log: a bridge keeps one when it is run with --state.",
        ja: "監査ログがありません。--state を付けてブリッジを実行すると記録されます。",
        zh: "沒有稽核日誌：以 --state 執行橋接器時才會記錄。")
    static let noAlerts = Words(
        "no_alert_store", "There is no store of alerts: a bridge keeps one when it is run with --state.",
        ja: "アラートの記録がありません。--state を付けてブリッジを実行すると記録されます。",
        zh: "沒有警示紀錄：以 --state 執行橋接器時才會記錄。")
    static let policyGiven = Words(
        "policy_given", "The policy was given as a file. Whether it was in use is not shown by this report; the mode is the one in the file.",
        ja: "ポリシーはファイルとして指定されたものです。実際に適用されていたかどうかは本書では示されません。モードはファイルの記載によります。",
        zh: "政策係以檔案指定，本文件未證明其曾實際使用；模式以檔案所載為準。")
    static let logDamaged = Words(
        "log_damaged", "The audit log is not what was written: see the section on its integrity. What this report takes from it must not be relied on.",
        ja: "監査ログは書き込まれた内容と一致しません。完全性の節を参照してください。本書のうち監査ログに基づく内容は信頼できません。",
        zh: "稽核日誌與原寫入內容不符，請見其完整性一節。本文件中取自該日誌的內容不得採信。")
    static let notEnforcing = Words(
        "not_enforcing", "The mode is not enforce: everything passes, and what the policy does not allow is only counted. Nothing was blocked by it at the end of the period.",
        ja: "モードは enforce ではありません。すべての通信が通過し、ポリシーで許可されない通信は計数されるだけです。期間末の時点では何も遮断されていません。",
        zh: "模式並非 enforce：所有通訊皆放行，政策未允許者僅計數。期間結束時並未阻擋任何通訊。")
    static let cutDays = Words(
        "cut_days", "Counts are kept by day (UTC): of the first and the last day of the period the whole day is counted.",
        ja: "件数は日単位（UTC）で保存されます。期間の最初と最後の日については、その日全体を計上します。",
        zh: "數量以日（UTC）為單位保存；期間首日與末日均以全日計。")
}

/// Names of columns and facts; the ids are the names in JSON.
enum Label {
    static let subject = Words("subject", "Subject", ja: "内容", zh: "主題")
    static let requirement = Words("requirement", "Requirement", ja: "要求事項", zh: "要求事項")
    static let clause = Words("clause", "§", ja: "§", zh: "§")
    static let standing = Words("standing", "This device", ja: "本機器の証跡", zh: "本裝置佐證")
    static let evidence = Words("evidence", "Evidence in section", ja: "証跡の節", zh: "佐證所在章節")
    static let assessment = Words("assessment", "C / NC / NA (assessor)", ja: "C / NC / NA（評価者記入）", zh: "C / NC / NA（由評估者填寫）")
    static let explanation = Words("explanation", "Explanation (assessor)", ja: "説明（評価者記入）", zh: "說明（由評估者填寫）")
    static let shows = Words("shows", "What is shown", ja: "示せること", zh: "可呈現者")
    static let lacks = Words("lacks", "What is not", ja: "示せないこと", zh: "無法呈現者")

    static let state = Words("state", "State directory", ja: "状態ディレクトリ", zh: "狀態目錄")
    static let device = Words("device", "Device", ja: "対象機器", zh: "對象設備")
    static let from = Words("from", "From", ja: "開始", zh: "起")
    static let to = Words("to", "To", ja: "終了", zh: "迄")
    static let observedHours = Words("observed_hours", "Hours with recorded traffic", ja: "通信が記録された時間数", zh: "有通訊紀錄的小時數")
    static let sources = Words("sources", "Recorded from (frames)", ja: "記録元（フレーム数）", zh: "紀錄來源（訊框數）")
    static let noRoom = Words("no_room", "Frames without room", ja: "容量不足で未記録のフレーム数", zh: "因容量不足未記錄的訊框數")
    static let forgotten = Words("forgotten", "Removals by a person", ja: "担当者による記録の除外件数", zh: "人員排除紀錄的次數")
    static let refusals = Words("refusals", "Refusals", ja: "拒否件数", zh: "拒絕次數")
    static let policy = Words("policy", "Policy", ja: "ポリシー", zh: "政策")
    static let policyVersion = Words("policy_version", "Policy version", ja: "ポリシーのバージョン", zh: "政策版本")
    static let policyFile = Words("policy_file", "Policy file", ja: "ポリシーファイル", zh: "政策檔案")
    static let sha256 = Words("sha256", "SHA-256", ja: "SHA-256", zh: "SHA-256")
    static let applied = Words("applied", "Applied", ja: "適用日時", zh: "套用時間")
    static let mode = Words("mode", "Mode", ja: "モード", zh: "模式")
    static let rules = Words("rules", "Rules", ja: "ルール数", zh: "規則數")
    static let auditHead = Words("audit_head", "Audit log head", ja: "監査ログの末尾ハッシュ", zh: "稽核日誌末端雜湊")
    static let auditEvents = Words("audit_events", "Audit log events", ja: "監査ログの件数", zh: "稽核日誌事件數")
    static let auditIntact = Words("audit_intact", "Audit log intact", ja: "監査ログに改変なし", zh: "稽核日誌完整")
    static let created = Words("created", "Made", ja: "作成日時", zh: "產生時間")
    static let program = Words("sekisho_version", "Sekisho version", ja: "Sekisho バージョン", zh: "Sekisho 版本")
    static let edition = Words("edition", "Standard", ja: "規格", zh: "標準")

    static let client = Words("client", "Client", ja: "クライアント", zh: "用戶端")
    static let server = Words("server", "Server", ja: "サーバー", zh: "伺服器")
    static let clientAddress = Words("client_address", "Client address", ja: "クライアントのアドレス", zh: "用戶端位址")
    static let serverAddress = Words("server_address", "Server address", ja: "サーバーのアドレス", zh: "伺服器位址")
    static let peer = Words("peer", "Peer", ja: "通信相手", zh: "對端")
    static let peerAddress = Words("peer_address", "Peer address", ja: "相手のアドレス", zh: "對端位址")
    static let direction = Words("direction", "Direction", ja: "方向", zh: "方向")
    static let outgoing = Words("outgoing", "opens", ja: "接続する側", zh: "主動連出")
    static let incoming = Words("incoming", "is asked", ja: "接続を受ける側", zh: "接受連入")
    static let service = Words("service", "Service", ja: "サービス", zh: "服務")
    static let first = Words("first_seen", "First seen", ja: "初回観測", zh: "首次觀察")
    static let last = Words("last_seen", "Last seen", ja: "最終観測", zh: "最後觀察")
    static let connections = Words("connections", "Connections", ja: "接続数", zh: "連線數")
    static let frames = Words("frames", "Frames", ja: "フレーム数", zh: "訊框數")
    static let denied = Words("denied", "Denied frames", ja: "拒否フレーム数", zh: "拒絕訊框數")
    static let rule = Words("rule", "Rule", ja: "ルール", zh: "規則")
    static let purpose = Words("purpose", "Purpose", ja: "目的", zh: "用途")
    static let owner = Words("owner", "Owner", ja: "責任者", zh: "負責人")
    static let lookAt = Words("review", "To look at", ja: "要確認", zh: "待檢視")
    static let decision = Words("decision", "Decided", ja: "判断", zh: "決定")
    static let conversations = Words("conversations", "Conversations", ja: "通信の種類数", zh: "通訊種類數")
    static let notUsed = Words("not_used", "Not used of it", ja: "使われていない部分", zh: "未使用的部分")
    static let notUsedFrom = Words("not_used_from", "Clients without use", ja: "未使用のクライアント", zh: "未使用的用戶端")
    static let notUsedTo = Words("not_used_to", "Servers without use", ja: "未使用のサーバー", zh: "未使用的伺服器")
    static let notUsedService = Words("not_used_service", "Services without use", ja: "未使用のサービス", zh: "未使用的服務")
    static let notUsedVLAN = Words("not_used_vlan", "VLANs without use", ja: "未使用の VLAN", zh: "未使用的 VLAN")
    static let port = Words("port", "Port", ja: "ポート", zh: "連接埠")
    static let kindOfPort = Words("variant", "Variant", ja: "方式", zh: "類型")
    static let by = Words("between", "Between", ja: "通信の当事者", zh: "通訊雙方")
    static let answered = Words("answered", "Answered", ja: "応答あり", zh: "有回應")
    static let day = Words("day", "Day (UTC)", ja: "日（UTC）", zh: "日期（UTC）")
    static let failureState = Words("failure_state", "State", ja: "状態", zh: "狀態")
    static let action = Words("action", "Frames are", ja: "フレームの扱い", zh: "訊框處置")
    static let times = Words("times", "Times", ja: "回数", zh: "次數")
    static let duration = Words("seconds", "Duration", ja: "時間", zh: "持續時間")
    static let stillOpen = Words("goes_on", "Goes on", ja: "継続中", zh: "仍持續")
    static let number = Words("number", "No.", ja: "番号", zh: "編號")
    static let when = Words("at", "When", ja: "日時", zh: "時間")
    static let who = Words("who", "Who", ja: "実施者", zh: "執行者")
    static let why = Words("why", "Why", ja: "理由", zh: "原因")
    static let change = Words("change", "What it changed (as logged)", ja: "変更内容（ログ原文）", zh: "變更內容（日誌原文）")
    static let key = Words("key", "Signed with", ja: "署名鍵", zh: "簽章金鑰")
    static let type = Words("type", "Type", ja: "種別", zh: "類型")
    static let category = Words("category", "Category", ja: "分類", zh: "類別")
    static let count = Words("count", "Count", ja: "件数", zh: "件數")
    static let what = Words("what", "What (as logged)", ja: "内容（ログ原文）", zh: "內容（日誌原文）")
    static let severity = Words("severity", "Severity", ja: "重大度", zh: "嚴重度")
    static let kind = Words("kind", "Kind", ja: "種類", zh: "種類")
    static let begin = Words("begin", "Begin", ja: "開始", zh: "開始")
    static let end = Words("end", "End", ja: "終了", zh: "結束")
    static let acknowledged = Words("acknowledged_by", "Acknowledged by", ja: "確認者", zh: "確認者")
    static let problem = Words("problem", "Finding", ja: "検出事項", zh: "發現事項")
    static let event = Words("event", "Event", ja: "イベント", zh: "事件")
    static let firstEvent = Words("first_event", "First event", ja: "最初のイベント", zh: "首筆事件")
    static let lastEvent = Words("last_event", "Last event", ja: "最後のイベント", zh: "末筆事件")
    static let file = Words("file", "File", ja: "ファイル", zh: "檔案")
    static let starts = Words("starts", "Starts of the bridge", ja: "ブリッジの起動回数", zh: "橋接器啟動次數")
    static let startsWithoutStop = Words(
        "starts_without_stop", "Starts after an end that was not logged", ja: "停止が記録されていない起動の回数", zh: "前次停止未記錄的啟動次數")
    static let total = Words("total", "Recorded conversations", ja: "記録された通信の種類数", zh: "已記錄的通訊種類數")
    static let allowed = Words("allowed", "Allowed by the policy", ja: "ポリシーで許可", zh: "政策允許")
    static let notAllowed = Words("not_allowed", "Not allowed by the policy", ja: "ポリシーで不許可", zh: "政策未允許")
    static let rejectedCount = Words("rejected", "Rejected by a person", ja: "担当者が却下", zh: "人員已駁回")
    static let unusedRules = Words("unused_rules", "Rules nobody used", ja: "未使用のルール数", zh: "未使用的規則數")
    static let partlyUnusedRules = Words("partly_unused_rules", "Rules used in part", ja: "一部のみ使用のルール数", zh: "僅部分使用的規則數")
}
